"""Training of a config."""

import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ContextManager, Optional

from mmengine.config import Config
from mmengine.device import get_device
from torch import nn

from mmfmkt.engine.resume import has_checkpoint, resume_from_latest
from mmfmkt.utils import ConfigError
from mmfmkt.utils.checkpoints import (
    load_checkpoint,
    unrestricted_torch_load,
    verify_sha256,
)
from mmfmkt.utils.configs import add_mmfmkt_import, with_importable_types
from mmfmkt.utils.error_messages import errors_as_config_errors

from .robustness import (
    add_hooks,
    check_mmfmkt_hooks,
    complete_robustness,
    with_robustness,
)
from .runner import build_runner


def train(
    cfg: Config,
    resume: Optional[str] = None,
    amp: bool = False,
    check_teacher: bool = False,
    export_last: bool = False,
) -> None:
    """Train a config, with the switches of its key ``robustness``.

    Args:
        cfg (Config): Config with ``work_dir``, changed in place.
        resume (str, optional): Checkpoint to resume from, or ``'auto'`` for
            the latest one in the work directory. If it has none, the training
            starts as without ``resume``.
        amp (bool): Whether to use mixed precision.
        check_teacher (bool): Whether to validate the teacher first.
        export_last (bool): Whether to export the last checkpoint instead of
            the best one.

    Raises:
        ConfigError: If the Runner cannot be built, or the first iteration
            fails.
    """
    if resume == 'auto' and not has_checkpoint(Path(cfg.work_dir)):
        resume = None  # MMEngine would ignore the config's `load_from`.
    if resume:
        cfg.resume = True
        cfg.load_from = None if resume == 'auto' else resume
    with errors_as_config_errors(cfg):
        if amp:
            use_amp(cfg)
        complete_distillation(cfg)
        export_hook = (cfg.get('default_hooks') or {}).get('export_student')
        if export_last and export_hook:
            export_hook.last = True
        complete_robustness(cfg)
        if check_teacher:
            add_hooks(cfg, ['mmfmkt.TeacherCheckHook'])
        check_mmfmkt_hooks(cfg)
    with checkpoint_guard(cfg):
        if cfg.get('resume') and (
            cfg.robustness.exact_resume or cfg.robustness.safe_checkpoints
        ):
            resume_from_latest(cfg)
        checkpoint = verify_load_from(cfg)
        with errors_as_config_errors(cfg):
            runner = build_runner(with_robustness(cfg))
            # Reading `train_loop` builds it, which may raise errors.
            _ = runner.train_loop
        # Dump the config with its switches, without the hooks that they add.
        runner.cfg = with_importable_types(cfg)
        runner.dump_config()
        # FlexibleRunner initializes the weights, for which a distiller reads
        # this config, before RuntimeInfoHook publishes it.
        runner.message_hub.update_info('cfg', runner.cfg.pretty_text)
        check_fits(runner.model, checkpoint)
        saved_iter = (checkpoint or {}).get('meta', {}).get('iter', 0)
        first_iter = saved_iter if cfg.get('resume') else 0
        with errors_as_config_errors(cfg, lambda: runner.iter > first_iter):
            runner.train()


def checkpoint_guard(cfg: Config) -> ContextManager:
    """Return a context for loading checkpoints.

    Checkpoints can execute code in it if ``robustness.safe_checkpoints`` is
    False.
    """
    safe = (cfg.get('robustness') or {}).get('safe_checkpoints', True)
    return nullcontext() if safe else unrestricted_torch_load()


def verify_load_from(cfg: Config) -> Optional[dict]:
    """Load the checkpoint ``load_from`` and verify its ``#sha256=...``.

    Args:
        cfg (Config): Config, changed in place.

    Returns:
        dict, optional: Content of the checkpoint, if it is a file.

    Raises:
        ConfigError: If the checkpoint cannot be loaded.
    """
    path, _, digest = (cfg.get('load_from') or '').partition('#sha256=')
    if digest:
        cfg.load_from = path = verify_sha256(path, digest)
    # Checkpoints of DeepSpeed and other strategies are folders.
    if not path or (cfg.get('strategy') and Path(path).is_dir()):
        return None
    return load_checkpoint(path)


def check_fits(model: Any, checkpoint: Optional[dict]) -> None:
    """Check that a checkpoint has at least one tensor of the model.

    Args:
        model (nn.Module | dict): Model of a runner; a config if it is not
            built yet, as by a FlexibleRunner.
        checkpoint (dict, optional): Content of a checkpoint.

    Raises:
        ConfigError: If no tensor has the name and shape of one of the model.
    """
    if checkpoint is None or not isinstance(model, nn.Module):
        return
    state = checkpoint.get('state_dict', checkpoint)
    # DDP and test-time augmentation each add a prefix 'module.'.
    model_shapes, shapes = (
        {
            re.sub(r'^(module\.)+', '', name): getattr(x, 'shape', None)
            for name, x in tensors.items()
        }
        for tensors in (model.state_dict(), state)
    )
    # MMDetection's semi-supervised detectors also load a plain detector.
    if not any(
        shape in (shapes.get(name), shapes.get(name.removeprefix('student.')))
        for name, shape in model_shapes.items()
    ):
        raise ConfigError(
            f'load_from: none of the {len(shapes)} tensors of the checkpoint '
            'has the name and shape of a tensor of the model.'
        )


def complete_distillation(cfg: Config) -> None:
    """Add the imports and hooks of every distillation.

    Presets in ``_base_`` cannot define them: MMEngine does not allow two base
    configs to have the same key. ``default_hooks.export_student = None``
    disables the export.
    """
    if 'student' in cfg.model:
        add_mmfmkt_import(cfg)
        cfg.default_hooks = cfg.get('default_hooks') or {}
        hooks = cfg.default_hooks
        hooks.setdefault(
            'export_student', dict(type='mmfmkt.ExportStudentHook')
        )
        if hooks.export_student is None:
            # MMEngine accepts None only for its own default hooks.
            hooks.pop('export_student')
        teacher = cfg.model.get('teacher')
        if isinstance(teacher, dict) and teacher.get('cache'):
            add_hooks(cfg, ['mmfmkt.TeacherCacheHook'])


def use_amp(cfg: Config) -> None:
    """Enable mixed precision: float16 on GPUs, bfloat16 on CPUs."""
    if get_device() == 'cpu':
        cfg.optim_wrapper.type = 'mmfmkt.CPUAmpOptimWrapper'
        for key in ('loss_scale', 'dtype', 'use_fsdp'):
            # Only AmpOptimWrapper has these arguments.
            cfg.optim_wrapper.pop(key, None)
    else:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
