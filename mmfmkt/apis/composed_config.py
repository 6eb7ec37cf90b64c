"""Files of a composed config: its text, and the base config of its student."""

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
    classes: dict,
    flow: dict,
) -> str:
    """Return the text of the composed config.

    Args:
        base (str): Student config, for ``_base_``.
        config (Config): Student config.
        preset (str): Name of a config in ``_base_`` with a ``distiller``.
        model (dict): Keys of the distiller.
        overrides (dict): Top-level keys.
        classes (dict): Overrides of the student by dotted key.
        flow (dict): Keys of the flow.
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
        # The distiller passes it to the student.
        lines.append("model['data_preprocessor'] = _base_.data_preprocessor")
    lines += [assignment(f'model[{key!r}]', x) for key, x in model.items()]
    lines += assignments("model['flow']", flow)
    lines += assignments("model['student']", classes)
    lines += [assignment(key, value) for key, value in overrides.items()]
    return '\n'.join(lines) + '\n'


def write_base(source: str, path: Path) -> Tuple[str, List[str]]:
    """Write the base config of a student whose config has the new style.

    Args:
        source (str): Config of the student.
        path (Path): The composed config.

    Returns:
        tuple: Value of ``_base_``, and its description by line.
    """
    config = read_config(source)
    # Private in MMEngine 0.10.7, which has no public equivalent.
    if not Config._is_lazy_import(config.filename):
        return absolute(source), []
    # to_dict excludes imported names.
    values = [assignment(key, config[key]) for key in config.to_dict()]
    base = f'{path.stem}_student.py'
    text = '\n'.join([f'# Resolved from {source}', *values, ''])
    write_config(path.with_name(base), text)
    return base, [
        f'base      {base}: the student in the old config style, since '
        'MMEngine cannot inherit new-style configs there'
    ]


def write_config(path: Path, text: str) -> None:
    """Write a config, unless an edited one exists.

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


def absolute(source: str) -> str:
    """Make a path absolute; packaged names and URLs are not changed."""
    if '::' in source or '://' in source:
        return source
    # Links are not resolved: MMEngine finds base configs beside them.
    return osp.abspath(osp.expanduser(source))
