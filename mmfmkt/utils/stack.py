"""Which libraries mmfmkt stands on, and a clear word where one is wrong.

OpenMMLab's own packages and their maintained continuation (distributions
named ``onedl-...``) have the same import names; both are accepted.
"""

import re
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
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


def version_conflicts(name: str) -> List[str]:
    """Return what is wrong with a library's version.

    Args:
        name (str): Import name, a key of ``STACK``.
    """
    found = installed_version(name)
    _, oldest, newest = STACK[name]
    wanted = f'(wanted: {name}>={oldest},<{newest})'
    if found is None:
        return [f'{name} is not installed {wanted}']
    if not release(oldest) <= release(found) < release(newest):
        return [f'{name} {found} was found {wanted}']
    numpy = installed_version('numpy') or '0'
    # Before 2.3 compiled against NumPy 1: 'Numpy is not available'.
    if name == 'torch' and release(found) < (2, 3) and release(numpy) >= (2,):
        return [
            f'numpy {numpy} was found (wanted by torch {found}: '
            'numpy>=1.0.0,<2.0.0)'
        ]
    return []


def usability_problems(name: str) -> List[str]:
    """Return why a library is not usable.

    Args:
        name (str): Import name, a key of ``STACK``.
    """
    faults = version_conflicts(name)
    if faults:
        return faults
    try:
        # mmdet and mmpretrain assert which mmcv and mmengine they take.
        import_module(name)
    except Exception as error:
        reason = ' '.join(str(error).split())
        found = installed_version(name)
        return [f'{name} {found} cannot be imported ({reason})']
    return []


def require(*names: str, optional: bool = False) -> None:
    """Check that libraries are there in a version that mmfmkt works with.

    Args:
        names (str): Import names, keys of ``STACK``.
        optional (bool): Whether a library may be missing, or broken in other
            ways than its version: a run may do without it.

    Raises:
        ImportError: Names each missing or incompatible library with the
            version found and the versions wanted.
    """
    if optional:
        there = [name for name in names if installed_version(name)]
        faults = [fault for name in there for fault in version_conflicts(name)]
    else:
        faults = [
            fault for name in names for fault in usability_problems(name)
        ]
    if faults:
        raise ImportError(f'mmfmkt cannot run: {"; ".join(faults)}; {CURE}.')
