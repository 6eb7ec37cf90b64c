"""What the baseline knows of the code under test.

Names in the recording are those of commit 6e8e919. When the code under test
renames something, change this file alone.
"""

from typing import Any

from torch import nn

# Tools, relative to the root of the code under test.
TRAIN = 'tools/train.py'
TEST = 'tools/test.py'
EXPORT = 'tools/export_student.py'
INTERRUPTED = 'interrupted.pth'
# Recorded name -> name in the code under test.
TYPES: dict = {}  # values of ``type`` in configs
SETTINGS: dict = {}  # keys in configs
# Recorded part of a dotted log name -> part in the code under test.
LOGGED: dict = {}


def build_model(cfg: dict) -> nn.Module:
    """Build a distiller from its config."""
    from mmfmkt.registry import MODELS

    return MODELS.build(translate(cfg))


def translate(cfg: Any) -> Any:
    """Return a config in the names of the code under test."""
    if isinstance(cfg, (list, tuple)):
        return type(cfg)(translate(x) for x in cfg)
    if not isinstance(cfg, dict):
        return cfg
    found = {SETTINGS.get(k, k): translate(v) for k, v in cfg.items()}
    if isinstance(found.get('type'), str):
        found['type'] = TYPES.get(found['type'], found['type'])
    return found


def recorded_name(name: str) -> str:
    """Return the recorded name of a logged value."""
    names = {new: old for old, new in LOGGED.items()}
    return '.'.join(names.get(part, part) for part in name.split('.'))
