"""Taking the student home: from a distillation checkpoint to a deployable.

FM-KT^Theta leaves a plain MMDetection or MMPretrain config and checkpoint
that need no mmfmkt; FM-KT a student with its flow. Neither has a teacher.
"""

import os
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple, Optional, Union

import torch
from mmengine.config import Config, ConfigDict
from mmengine.runner import CheckpointLoader

from mmfmkt.models.distillers.networks import load_model_config
from mmfmkt.models.flows import VARIANTS
from mmfmkt.utils import ConfigError
from mmfmkt.utils.configs import import_mmfmkt

PREFIX = 'student.'


class Exported(NamedTuple):
    """Paths of an exported student.

    Attributes:
        config (Path): Config file.
        checkpoint (Path): Checkpoint file.
    """
    config: Path
    checkpoint: Path


def export_student(config: Union[str, Path, Config], checkpoint: str,
                   out_dir: Union[str, Path]) -> Exported:
    """Write ``student.py`` and ``student.pth``.

    Weights are those that the checkpoint deploys: with MMEngine's EMAHook,
    the averaged ones.

    Args:
        config (str | Path | Config): The config of the distillation.
        checkpoint (str): Its checkpoint, a path or URL.
        out_dir (str | Path): Folder to write to; it is made.

    Raises:
        ConfigError: If the config is not of a distillation, or the
            checkpoint not of this config.
    """
    if not isinstance(config, Config):
        config = Config.fromfile(config)
    if 'student' not in config.get('model', {}):
        raise ConfigError('Only a distillation has a student to export: the '
                          "config has no key 'model.student'.")
    try:
        loaded = CheckpointLoader.load_checkpoint(
            checkpoint, map_location='cpu')
    except OSError as error:
        raise ConfigError(
            f'The checkpoint {checkpoint!r} cannot be read: {error}'
        ) from error
    variant = config.model.get('variant', 'fmkt')
    deploys_flow = VARIANTS[variant].deploys_flow
    state = deployed_state(loaded.get('state_dict', loaded), deploys_flow)
    if not state:
        raise ConfigError(
            f'The checkpoint {checkpoint!r} holds no student: its tensors '
            f'do not start with {PREFIX!r}, so it is not of a distillation.')
    exported = (
        with_flow(config) if deploys_flow else plain(config))

    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    paths = Exported(out_dir / 'student.py', out_dir / 'student.pth')
    meta = dict(loaded.get('meta', {}), cfg=exported.pretty_text)
    # Written aside and renamed: an interrupted export leaves nothing half.
    aside = paths.checkpoint.with_suffix('.tmp')
    torch.save(dict(meta=meta, state_dict=state), aside)
    os.replace(aside, paths.checkpoint)
    exported.dump(paths.config)
    return paths


def deployed_state(state: dict, deploys_flow: bool) -> dict:
    """Return the tensors that are deployed, under their deployed names."""
    if not deploys_flow:
        return {
            name.removeprefix(PREFIX): x
            for name, x in state.items() if name.startswith(PREFIX)
        }
    training_only = ('.transform.', '.metric.')
    return {
        name: x
        for name, x in state.items() if name.startswith(PREFIX) or
        (name.startswith('flows.') and not any(part in name
                                               for part in training_only))
    }


def plain(config: Config) -> Config:
    """The student's own config, in which nothing knows mmfmkt.

    A student whose backbone is one of mmfmkt keeps the import of it.
    """
    exported = without_training(config)
    exported.model = resolved_student(exported)
    for key in ('val_evaluator', 'test_evaluator'):
        evaluator = exported.get(key) or {}
        if is_ours(evaluator):
            # What it adds to MMPretrain's is only for students with a flow.
            evaluator.type = 'Accuracy'
    imports = exported.get('custom_imports')
    if imports:
        kept = [x for x in imports['imports'] if not x.startswith('mmfmkt')]
        imports['imports'] = kept
        if not kept:
            exported.pop('custom_imports')
    if 'mmfmkt.' in str(exported.model):
        import_mmfmkt(exported)
    return exported


def with_flow(config: Config) -> Config:
    """The distiller's config without teacher and training."""
    exported = without_training(config)
    model = exported.model
    model.teacher = None
    model.student = resolved_student(exported)
    if 'DetectionDistiller' in str(model.type):
        # mmdet.apis.init_detector writes model.backbone.init_cfg.
        model.backbone = dict(init_cfg=None)
    import_mmfmkt(exported)
    return exported


def resolved_student(config: Config) -> ConfigDict:
    """The student's ``model`` section, whatever form the config has it in."""
    student = load_model_config(config.model.student, 'model.student')
    if config.model.get('backbone'):
        student.backbone.update(config.model.backbone)
    student.pop('_scope_', None)
    return student


def without_training(config: Config) -> Config:
    """A copy without what belongs to the distillation run."""
    exported = deepcopy(config)
    for key in ('distiller', 'work_dir'):
        exported.pop(key, None)
    exported.load_from, exported.resume = None, False
    exported.custom_hooks = [
        hook for hook in exported.get('custom_hooks') or []
        if not is_ours(hook)
    ]
    exported.default_hooks = {
        name: hook
        for name, hook in (exported.get('default_hooks') or {}).items()
        if not is_ours(hook)
    }
    return exported


def is_ours(part: Optional[dict]) -> bool:
    """Whether a config, of a hook or an evaluator, names one of mmfmkt."""
    return isinstance(part, dict) and str(
        part.get('type')).startswith('mmfmkt.')
