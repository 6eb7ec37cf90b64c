"""Text of a composed config, and the base config of its student."""

import os.path as osp
import zlib
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from mmengine.config import Config

from mmfmkt.engine.resume import has_checkpoint
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
    return with_digest(
        f'Composed by mmfmkt {command}; may be edited and inherited',
        [
            assignment('_base_', bases),
            *lines,
            *assignments(overrides, ['model'] if preset else []),
        ],
    )


def convert_base(
    source: str, path: Path
) -> Tuple[str, Dict[Path, str], List[str]]:
    """Return the base config of a student, which is converted if necessary.

    MMEngine's old-style configs, such as the composed one, cannot inherit from
    new-style configs (``read_base()``), which are converted to the old style.

    Args:
        source (str): Config of the student.
        path (Path): The composed config.

    Returns:
        tuple: Path for ``_base_``, file and text of the converted config, and
        a description by line; both are empty without a conversion.
    """
    config = read_config(source)
    # This method is private; MMEngine 0.10.7 has no public equivalent.
    if not Config._is_lazy_import(config.filename):
        return absolute_path(source), {}, []
    # `to_dict` excludes the names that a new-style config imports.
    values = [assignment(key, config[key]) for key in config.to_dict()]
    base = f'{path.stem}_student.py'
    text = with_digest(f'Resolved from {source}', values)
    description = (
        f'base      {base}: student in the old config style, since old-style '
        'configs cannot inherit from new-style ones'
    )
    return base, {path.with_name(base): text}, [description]


def with_digest(comment: str, lines: List[str]) -> str:
    """Return the text of a config, with a digest of its lines in a comment."""
    text = '\n'.join([*lines, ''])
    return f'# {comment} (digest {digest(text)}).\n{text}'


def digest(text: str) -> str:
    """Return a checksum of a text."""
    return f'{zlib.crc32(text.encode()):08x}'


def write_configs(files: Dict[Path, str]) -> None:
    """Write configs; they replace those that were neither edited nor trained.

    Args:
        files (dict[Path, str]): Text of each file.

    Raises:
        ConfigError: If a file exists with another content, and was edited, or
            its folder has a checkpoint. No file is written then.
    """
    for path, text in files.items():
        old = path.read_text(encoding='utf-8') if path.exists() else text
        comment, _, lines = old.partition('\n')
        edited = not comment.endswith(f'(digest {digest(lines)}).')
        if old != text and (edited or has_checkpoint(path.parent)):
            raise ConfigError(
                f'{str(path)!r} exists and differs from the composed config. '
                'Train it with mmfmkt train, delete it, or use another '
                '--work-dir.'
            )
    for path, text in files.items():
        write_atomically(path, text)


def absolute_path(source: str) -> str:
    """Make a path absolute; packaged names and URLs are not changed."""
    if '::' in source or '://' in source:
        return source
    # Keep symbolic links: MMEngine looks for base configs beside the link.
    return osp.abspath(osp.expanduser(source))
