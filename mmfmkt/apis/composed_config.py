"""Text of a composed config, and the base config of its student."""

import os.path as osp
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from mmengine.config import Config

from mmfmkt.utils import ConfigError
from mmfmkt.utils.config_text import assignment, assignments
from mmfmkt.utils.configs import read_config
from mmfmkt.utils.files import write_atomically


def render(
    command: str,
    base: str,
    overrides: Dict[str, Any],
    preset: Optional[str] = None,
) -> str:
    """Return the text of a composed config.

    Args:
        command (str): Name of the command, for a comment.
        base (str): Path of the student config, for ``_base_``.
        overrides (dict): Values by dotted key.
        preset (str, optional): Name of a config in ``_base_`` that defines a
            ``distiller``, in which the student is wrapped.
    """
    bases, lines = [base], []
    if preset:
        bases.append(f'mmfmkt::_base_/{preset}.py')
        lines = [
            'model = dict(',
            '    _base_.distiller,',
            '    _delete_=True,',
            '    student=_base_.model)',
        ]
    return '\n'.join(
        [
            f'# Composed by mmfmkt {command}; may be edited and inherited.',
            assignment('_base_', bases),
            *lines,
            *assignments(overrides, ['model'] if preset else []),
            '',
        ]
    )


def write_base(source: str, path: Path) -> Tuple[str, List[str]]:
    """Return the base config of a student; write it if it must be converted.

    MMEngine's old-style configs, such as the composed one, cannot inherit from
    new-style configs (``read_base()``), which are converted to the old style.

    Args:
        source (str): Config of the student.
        path (Path): The composed config.

    Returns:
        tuple: Path for ``_base_``, and a description by line, empty without
        a conversion.
    """
    config = read_config(source)
    # This method is private; MMEngine 0.10.7 has no public equivalent.
    if not Config._is_lazy_import(config.filename):
        return absolute_path(source), []
    # `to_dict` excludes the names that a new-style config imports.
    values = [assignment(key, config[key]) for key in config.to_dict()]
    base = f'{path.stem}_student.py'
    text = '\n'.join([f'# Resolved from {source}', *values, ''])
    write_config(path.with_name(base), text)
    return base, [
        f'base      {base}: student in the old config style, since old-style '
        'configs cannot inherit from new-style ones'
    ]


def write_config(path: Path, text: str) -> None:
    """Write a config, unless the file exists with the same content.

    Raises:
        ConfigError: If the file exists with another content.
    """
    if path.exists() and path.read_text(encoding='utf-8') != text:
        raise ConfigError(
            f'{str(path)!r} exists and differs from the composed config. '
            'Train it with mmfmkt train, delete it, or use another '
            '--work-dir.'
        )
    write_atomically(path, text)


def absolute_path(source: str) -> str:
    """Make a path absolute; packaged names and URLs are not changed."""
    if '::' in source or '://' in source:
        return source
    # Keep symbolic links: MMEngine looks for base configs beside the link.
    return osp.abspath(osp.expanduser(source))
