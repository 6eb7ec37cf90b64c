"""Which libraries mmfmkt stands on, and a clear word where one is wrong.

OpenMMLab's own packages and their maintained continuation (distributions
named ``onedl-...``) have the same import names; both are accepted. What one
library asks of another is read from its files: where the two do not fit, it
cannot be imported to be asked.
"""

import os
import re
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import List, Optional, Tuple

# import name -> (distributions that provide it, oldest, first too new)
STACK = {
    'torch': (('torch',), '2.1.0', '3.0.0'),
    'mmengine': (
        ('mmengine', 'mmengine-lite', 'onedl-mmengine'),
        '0.8.0',
        '1.0.0',
    ),
    'mmcv': (
        ('mmcv', 'mmcv-lite', 'onedl-mmcv', 'onedl-mmcv-lite'),
        '2.0.0',
        '3.0.0',
    ),
    'mmdet': (('mmdet', 'onedl-mmdetection'), '3.1.0', '4.0.0'),
    'mmpretrain': (('mmpretrain', 'onedl-mmpretrain'), '1.0.0', '2.0.0'),
}
CURE = (
    'install these versions, or let tools/dev/setup_env.py in the repository '
    'of mmfmkt set everything up'
)


def release(text: str) -> Tuple[int, ...]:
    """Turn ``'2.11.0+cu130'`` into ``(2, 11, 0)``, for comparing."""
    return tuple(
        int(part) for part in re.findall(r'\d+', text.split('+')[0])[:3]
    )


def installed_version(name: str) -> Optional[str]:
    """Return the version of an importable library, or None.

    Args:
        name (str): Import name.
    """
    if find_spec(name) is None:
        return None
    for distribution in STACK[name][0] if name in STACK else (name,):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return import_module(name).__version__


def folder(name: str) -> Path:
    """Return the folder of an installed library, without importing it."""
    return Path(find_spec(name).submodule_search_locations[0])


def outside(found: str, oldest: str, newest: str) -> bool:
    """Whether a version is older than the oldest, or too new."""
    return not release(oldest) <= release(found) < release(newest)


def wanted_beside(name: str) -> List[Tuple[str, str, str]]:
    """Return what an installed library cannot even be imported without.

    Args:
        name (str): Import name, a key of ``STACK``.

    Returns:
        list[tuple[str]]: Libraries, their oldest versions and the first too
        new.
    """
    if name == 'torch':
        # Before 2.3 compiled against NumPy 1: 'Numpy is not available'.
        old = release(installed_version(name)) < (2, 3)
        return [('numpy', '1.0.0', '2.0.0')] if old else []
    # mmdet and mmpretrain assert these, each also when the other is imported.
    text = (folder(name) / '__init__.py').read_text(encoding='utf-8')
    bounds = dict(
        re.findall(r"^(mm\w+_(?:min|max)imum_version) = '(.+)'", text, re.M)
    )
    return [
        (
            other,
            bounds[f'{other}_minimum_version'],
            bounds[f'{other}_maximum_version'],
        )
        for other in ('mmengine', 'mmcv')
        if f'{other}_maximum_version' in bounds
    ]


def misfits(name: str) -> List[str]:
    """Name the libraries that another one refuses to work with."""
    return [
        f'{other} {found} was found (wanted by {name} '
        f'{installed_version(name)}: {other}>={oldest},<{newest})'
        for other, oldest, newest in wanted_beside(name)
        if (found := installed_version(other))
        and outside(found, oldest, newest)
    ]


def training_faults(name: str) -> List[str]:
    """Say why a library that can be imported cannot train for all that."""
    faults = []
    mmcv, torch, mmengine = map(
        installed_version, ('mmcv', 'torch', 'mmengine')
    )
    if name == 'mmdet' and mmcv and not list(folder('mmcv').glob('_ext*')):
        faults.append(
            f'mmcv {mmcv} was found without operators (wanted by '
            'mmdet: mmcv and not mmcv-lite)'
        )
    if (
        name in ('mmdet', 'mmpretrain')
        and torch
        and mmengine
        and release(torch) >= (2, 6)
        and not os.environ.get('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD')
        and 'weights_only'
        not in (folder('mmengine') / 'runner' / 'checkpoint.py').read_text(
            encoding='utf-8'
        )
    ):
        faults.append(
            f'torch {torch} was found, with which mmengine {mmengine} cannot '
            'load what it saves (wanted: torch<2.6.0, or onedl-mmengine, or '
            'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 in the environment)'
        )
    return faults


def require(*names: str, optional: bool = False) -> None:
    """Check that libraries are there in a version that mmfmkt works with.

    Args:
        names (str): Import names, keys of ``STACK``.
        optional (bool): Whether a library may be missing, or be good for
            something else than training. One that cannot be imported is
            refused all the same.

    Raises:
        ImportError: Names each missing or incompatible library with the
            version found and the versions wanted.
    """
    faults = []
    for name in names:
        found = installed_version(name)
        _, oldest, newest = STACK[name]
        wanted = f'(wanted: {name}>={oldest},<{newest})'
        if found is None:
            if not optional:
                faults.append(f'{name} is not installed {wanted}')
        elif outside(found, oldest, newest):
            faults.append(f'{name} {found} was found {wanted}')
        else:
            faults += misfits(name)
            faults += [] if optional else training_faults(name)
    if faults:
        raise ImportError(f'mmfmkt cannot run: {"; ".join(faults)}; {CURE}.')
