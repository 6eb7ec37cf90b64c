"""Construction of a Runner, also for data parallelism on CPUs."""

import atexit
import gc

import torch.distributed
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import RUNNERS
from mmengine.runner import Runner


def build_runner(cfg: Config) -> Runner:
    """Build the runner of a config."""
    if cfg.launcher == 'pytorch' and get_device() == 'cpu':
        prepare_cpu_processes(cfg)
    if 'runner_type' in cfg:
        return RUNNERS.build(cfg)
    return Runner.from_cfg(cfg)


def prepare_cpu_processes(cfg: Config) -> None:
    """Set up data parallelism on CPUs, which MMEngine does not support."""
    torch.distributed.init_process_group('gloo')
    atexit.register(destroy_process_group)
    set_cpu_wrapper(cfg)


def set_cpu_wrapper(cfg: Config) -> None:
    """Set the model wrapper, whose default is on the GPU of the process."""
    section, key = cfg, 'model_wrapper_cfg'
    if 'runner_type' in cfg:
        cfg.strategy = cfg.get('strategy') or dict(type='DDPStrategy')
        section, key = cfg.strategy, 'model_wrapper'
    wrapper = section.get(key) or dict(
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    section[key] = dict(wrapper, device_ids=None)


def destroy_process_group() -> None:
    """Destroy the process group before the interpreter shuts down.

    Gloo's threads stop with the last reference to the group, which a DDP
    model may hold until garbage collection. A thread that frees tensors
    during interpreter shutdown aborts the process.
    """
    gc.collect()
    torch.distributed.destroy_process_group()
