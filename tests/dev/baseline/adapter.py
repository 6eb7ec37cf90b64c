"""Names of the code under test.

The recording uses the names of commit 6e8e919, ``RECORDED``. ``PRESENT`` has
the names that the code uses now; change it when a name changes.
"""

import os
from pathlib import Path
from typing import Any, Dict, NamedTuple

from torch import nn


class Names(NamedTuple):
    """Names of a version of the code.

    Attributes:
        train (str): Tool that trains, relative to the root of the code.
        test (str): Tool that tests.
        export (str): Tool that exports.
        interrupted (str): Checkpoint of an interrupted training.
        exported (str): Name of the files of an export, without suffix.
        types (dict): Values of ``type`` in configs, by recorded name.
        settings (dict): Keys in configs, by recorded name.
        logged (dict): Parts of the dotted names of logged values, by
            recorded name.
    """

    train: str = 'tools/train.py'
    test: str = 'tools/test.py'
    export: str = 'tools/export_student.py'
    interrupted: str = 'interrupted.pth'
    exported: str = 'student'
    types: Dict[str, str] = {}
    settings: Dict[str, str] = {}
    logged: Dict[str, str] = {}


RECORDED = Names()
PRESENT = RECORDED._replace(settings=dict(standardise='standardize'))


def code_under_test() -> Path:
    """Return the root of the code under test."""
    return Path(os.environ['BASELINE_CODE'])


def names() -> Names:
    """Return the names of the code under test.

    The recorded commit does not have this folder.
    """
    here = code_under_test() / 'tests/dev/baseline'
    return PRESENT if here.exists() else RECORDED


def build_model(cfg: dict) -> nn.Module:
    """Build a distiller from its config, in recorded names."""
    from mmfmkt.registry import MODELS

    return MODELS.build(translate(cfg))


def translate(cfg: Any) -> Any:
    """Return a config in the names of the code under test."""
    if isinstance(cfg, (list, tuple)):
        return type(cfg)(translate(x) for x in cfg)
    if not isinstance(cfg, dict):
        return cfg
    present = names()
    found = {present.settings.get(k, k): translate(v) for k, v in cfg.items()}
    if isinstance(found.get('type'), str):
        found['type'] = present.types.get(found['type'], found['type'])
    return found


def recorded_name(name: str) -> str:
    """Return the recorded name of a logged value."""
    old = {new: old for old, new in names().logged.items()}
    return '.'.join(old.get(part, part) for part in name.split('.'))
