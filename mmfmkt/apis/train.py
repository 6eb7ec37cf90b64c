"""Training with what mmfmkt adds to a run of MMEngine."""

from contextlib import nullcontext
from typing import ContextManager, Optional

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from mmfmkt.engine.resume import resume_from_latest
from mmfmkt.utils import ConfigError
from mmfmkt.utils.checkpoints import (
    load_checkpoint,
    unrestricted_torch_load,
    verify_sha256,
)
from mmfmkt.utils.configs import add_mmfmkt_import
from mmfmkt.utils.error_messages import errors_as_config_errors

from .robustness import (
    add_hooks,
    check_own_hooks,
    complete_robustness,
    with_robustness,
)
from .runner import build_runner


def train(
    cfg: Config,
    resume: Optional[str] = None,
    amp: bool = False,
    check_teacher: bool = False,
) -> None:
    """Complete a config and train.

    Args:
        cfg (Config): The config, with ``work_dir``.
        resume (str, optional): Checkpoint to resume from, or ``'auto'`` for
            the latest one of the work folder.
        amp (bool): Whether to train in mixed precision.
        check_teacher (bool): Whether to validate the teacher first.

    Raises:
        ConfigError: If the run cannot be built, or its first iteration fails.
    """
    if resume:
        cfg.resume = True
        cfg.load_from = None if resume == 'auto' else resume
    with errors_as_config_errors(cfg):
        if amp:
            use_amp(cfg)
        complete_distillation(cfg)
        complete_robustness(cfg)
        if check_teacher:
            add_hooks(cfg, ['mmfmkt.TeacherCheckHook'])
        check_own_hooks(cfg)
    with checkpoint_guard(cfg):
        if cfg.get('resume') and (
            cfg.robustness.exact_resume or cfg.robustness.safe_checkpoints
        ):
            resume_from_latest(cfg)
        loaded = verify_load_from(cfg)
        with errors_as_config_errors(cfg):
            runner = build_runner(with_robustness(cfg))
            # Builds it, which `train` does first, too.
            _ = runner.train_loop
        # The dumped config has what the user wrote, and the switches.
        runner.cfg = cfg
        runner.dump_config()
        check_fits(runner.model, loaded)
        first = (loaded or {}).get('meta', {}).get('iter', 0)
        begin = first if cfg.get('resume') else 0
        with errors_as_config_errors(cfg, lambda: runner.iter > begin):
            runner.train()


def checkpoint_guard(cfg: Config) -> ContextManager:
    """Return the context that ``robustness.safe_checkpoints`` asks for."""
    safe = (cfg.get('robustness') or {}).get('safe_checkpoints', True)
    return nullcontext() if safe else unrestricted_torch_load()


def verify_load_from(cfg: Config) -> Optional[dict]:
    """Read the checkpoint that a run begins with.

    A digest behind it, ``#sha256=...``, is held to.

    Args:
        cfg (Config): With ``load_from``.

    Returns:
        dict, optional: What the checkpoint holds.

    Raises:
        ConfigError: If it is not there, or no checkpoint.
    """
    path, _, digest = (cfg.get('load_from') or '').partition('#sha256=')
    if digest:
        cfg.load_from = path = verify_sha256(path, digest)
    return load_checkpoint(path) if path else None


def check_fits(model: nn.Module, checkpoint: Optional[dict]) -> None:
    """Refuse a checkpoint of which no tensor fits the model.

    Args:
        model (nn.Module): The model of a runner.
        checkpoint (dict, optional): What a checkpoint holds.

    Raises:
        ConfigError: If it has none of the model's tensors.
    """
    if checkpoint is None or model is None:  # a strategy builds it later
        return
    state = checkpoint.get('state_dict', checkpoint)
    # Models in wrappers, of data parallelism or test-time augmentation, and
    # their checkpoints may have the prefix.
    own, shapes = (
        {
            name.removeprefix('module.'): getattr(x, 'shape', None)
            for name, x in tensors.items()
        }
        for tensors in (model.state_dict(), state)
    )
    if not any(shapes.get(name) == shape for name, shape in own.items()):
        raise ConfigError(
            f'load_from: the checkpoint has {len(shapes)} tensors, and none '
            f'of them is one of the {len(own)} of this model: give a '
            'checkpoint of this config.'
        )


def build_model(cfg: Config) -> None:
    """Build the model of a config, to see that it can be.

    Args:
        cfg (Config): The config of a training.
    """
    add_mmfmkt_import(cfg)
    scope = cfg.get('default_scope')
    with (
        errors_as_config_errors(cfg),
        DefaultScope.overwrite_default_scope(scope),
    ):
        MODELS.build(cfg.model)


def complete_distillation(cfg: Config) -> None:
    """Add what every distillation has, so that no preset need define it.

    A preset with hooks or imports could not stand beside a student's config
    that has its own: MMEngine refuses bases that share a key. Set
    ``default_hooks.export_student`` to None to do without the export.
    """
    if 'student' in cfg.model:
        add_mmfmkt_import(cfg)
        # What setdefault returns of a Config is not what it has set.
        cfg.setdefault('default_hooks', {})
        hooks = cfg.default_hooks
        hooks.setdefault(
            'export_student', dict(type='mmfmkt.ExportStudentHook')
        )
        if hooks.export_student is None:
            # MMEngine takes None for its own default hooks alone.
            hooks.pop('export_student')
        teacher = cfg.model.get('teacher')
        if isinstance(teacher, dict) and teacher.get('cache'):
            add_hooks(cfg, ['mmfmkt.TeacherCacheHook'])


def use_amp(cfg: Config) -> None:
    """Switch mixed precision on: float16 on GPUs, bfloat16 on CPUs."""
    if get_device() == 'cpu':
        cfg.optim_wrapper.type = 'mmfmkt.CPUAmpOptimWrapper'
        for key in ('loss_scale', 'dtype', 'use_fsdp'):
            # What only AmpOptimWrapper takes.
            cfg.optim_wrapper.pop(key, None)
    else:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
