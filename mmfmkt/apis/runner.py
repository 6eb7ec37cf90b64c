"""Building a Runner, for several processes on CPUs, too."""

import atexit
import gc

import torch.distributed
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import RUNNERS, STRATEGIES
from mmengine.runner import Runner

from mmfmkt.utils import ConfigError
from mmfmkt.utils.types import resolve_type


def build_runner(cfg: Config) -> Runner:
    """Build the config's runner, on CPUs also for several processes."""
    if cfg.launcher != 'none' and get_device() == 'cpu':
        prepare_cpu_processes(cfg)
    if 'runner_type' in cfg:
        return RUNNERS.build(cfg)
    return Runner.from_cfg(cfg)


def prepare_cpu_processes(cfg: Config) -> None:
    """Make data parallelism work without GPUs, which MMEngine presumes.

    Raises:
        ConfigError: For a launcher other than PyTorch's.
    """
    if cfg.launcher != 'pytorch':
        raise ConfigError(
            f'--launcher {cfg.launcher} needs GPUs, and none was found; on '
            'CPUs use tools/dist_train.sh.'
        )
    scope = cfg.get('default_scope')
    strategy = resolve_type(cfg.get('strategy'), STRATEGIES, scope)
    if strategy and strategy is not STRATEGIES.get('DDPStrategy'):
        raise ConfigError(
            f'strategy: {strategy.__name__} of MMEngine needs GPUs, and none '
            'was found.'
        )
    torch.distributed.init_process_group('gloo')
    atexit.register(leave_processes)
    cfg.model_wrapper_cfg = dict(
        type='MMDistributedDataParallel',
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )


def leave_processes() -> None:
    """End the group and its threads, before Python itself ends.

    Gloo's threads end with the last reference to their group, and a wrapped
    model that waits for the garbage collector still has one. A thread that
    frees the tensors of its last message while Python ends aborts it.
    """
    gc.collect()
    torch.distributed.destroy_process_group()
