"""Text of a composed config, and the base config of its student."""

import os.path as osp
from pathlib import Path
from typing import List, Tuple

from mmengine.config import Config

from mmfmkt.utils import ConfigError
from mmfmkt.utils.config_text import assignment, assignments
from mmfmkt.utils.configs import read_config
from mmfmkt.utils.files import write_atomically


def render(
    base: str,
    config: Config,
    preset: str,
    model: dict,
    overrides: dict,
    student_overrides: dict,
    flow: dict,
) -> str:
    """Return the text of a composed distillation config.

    Args:
        base (str): Path of the student config, for ``_base_``.
        config (Config): Student config.
        preset (str): Name of a config in ``_base_`` that defines a
            ``distiller``.
        model (dict): Keys of ``model`` that replace the preset's.
        overrides (dict): Top-level keys that replace the student config's.
        student_overrides (dict): Overrides of ``model.student`` by dotted
            key.
        flow (dict): Keys of ``model.flow`` that replace the preset's.
    """
    lines = [
        '# Composed by mmfmkt distill; may be edited and inherited.',
        '_base_ = [',
        f'    {base!r},',
        f"    'mmfmkt::_base_/{preset}.py',",
        ']',
        'model = dict(',
        '    _base_.distiller,',
        '    _delete_=True,',
        '    student=_base_.model)',
    ]
    if 'data_preprocessor' in config and not config.model.get(
        'data_preprocessor'
    ):
        # The distiller passes its preprocessor to the student.
        lines.append("model['data_preprocessor'] = _base_.data_preprocessor")
    lines += [assignment(f'model[{key!r}]', x) for key, x in model.items()]
    lines += assignments("model['flow']", flow)
    lines += assignments("model['student']", student_overrides)
    lines += [assignment(key, value) for key, value in overrides.items()]
    return '\n'.join(lines) + '\n'


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
