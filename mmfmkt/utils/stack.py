"""Supported versions of the required libraries.

OpenMMLab's packages and their maintained forks (distributions ``onedl-...``)
have the same import names. Both are supported.
"""

import re
from contextlib import suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import List, Optional, Tuple

# Import name: (distributions, minimum version, first unsupported version).
STACK = {
    'torch': (('torch',), '2.1.0', '3.0.0'),
    'mmengine': (('mmengine', 'onedl-mmengine'), '0.8.0', '1.0.0'),
    'mmcv': (('mmcv', 'onedl-mmcv'), '2.0.0', '3.0.0'),
    'mmdet': (('mmdet', 'onedl-mmdetection'), '3.1.0', '4.0.0'),
    'mmpretrain': (('mmpretrain', 'onedl-mmpretrain'), '1.0.0', '2.0.0'),
}
UNKNOWN = 'unknown'
REMEDY = (
    'install these versions, or run tools/dev/setup_env.py of the repository'
)


def parse_release(text: str) -> Tuple[int, ...]:
    """Return a release as integers: (2, 11, 0) for ``'2.11.0+cu130'``."""
    return tuple(
        int(part) for part in re.findall(r'\d+', text.split('+')[0])[:3]
    )


def installed_version(name: str) -> Optional[str]:
    """Return the version of an installed library, or None.

    It is `UNKNOWN` if a library without metadata cannot be imported.

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
    with suppress(Exception):  # broken packages raise errors of any type
        return import_module(name).__version__
    return UNKNOWN


def version_conflicts(name: str) -> List[str]:
    """Return the version conflicts of a library.

    Args:
        name (str): Import name, a key of ``STACK``.
    """
    installed = installed_version(name)
    _, minimum, maximum = STACK[name]
    required = f'(required: {name}>={minimum},<{maximum})'
    if installed is None:
        return [f'{name} is not installed {required}']
    if installed == UNKNOWN:
        return []  # `usability_problems` has the error of the import
    low, release, high = map(parse_release, (minimum, installed, maximum))
    if not low <= release < high:
        return [f'{name} {installed} is installed {required}']
    return []


def usability_problems(name: str) -> List[str]:
    """Return the reasons why a library cannot be used.

    Args:
        name (str): Import name.
    """
    conflicts = version_conflicts(name) if name in STACK else []
    if conflicts:
        return conflicts
    try:
        # mmdet and mmpretrain assert the versions of mmcv and mmengine.
        import_module(name)
    except Exception as error:  # broken packages raise errors of any type
        reason = ' '.join(str(error).split())
        installed = installed_version(name)
        return [f'{name} {installed} cannot be imported ({reason})']
    return []


def require(*names: str, optional: bool = False) -> None:
    """Check that libraries are installed in supported versions.

    Args:
        names (str): Import names, keys of ``STACK``.
        optional (bool): Whether the libraries may be missing or fail to
            import. Only the versions of installed ones are checked.

    Raises:
        ImportError: With the installed and required version of each missing
            or incompatible library.
    """
    if optional:
        names = tuple(name for name in names if installed_version(name))
    check = version_conflicts if optional else usability_problems
    problems = [problem for name in names for problem in check(name)]
    if problems:
        raise ImportError(
            f'mmfmkt cannot run: {"; ".join(problems)}; {REMEDY}.'
        )
