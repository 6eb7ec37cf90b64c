"""Access to a Runner's progress and model, for hooks."""

from typing import List

from mmengine.dist import get_world_size
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.optim import BaseOptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from mmfmkt.utils import ConfigError


def get_progress(runner: Runner, by_epoch: bool) -> float:
    """Return the progress in fractional epochs or in iterations.

    Args:
        runner (Runner): The runner of the training process.
        by_epoch (bool): Whether the unit is epochs or iterations.
    """
    if not by_epoch:
        return runner.iter
    return runner.iter / iterations_per_epoch(runner.train_dataloader)


def iterations_per_epoch(loader: DataLoader) -> float:
    """Return the iterations that all ranks together need for one epoch.

    Args:
        loader (DataLoader): Dataloader of this rank. The length of its
            sampler is this rank's part of the dataset, or, for infinite
            samplers, the size of the dataset.
    """
    sampler = loader.batch_sampler.sampler
    is_sharded = len(sampler) < len(loader.dataset)
    return len(loader) / (1 if is_sharded else get_world_size())


def get_optim_wrappers(runner: Runner) -> List[BaseOptimWrapper]:
    """Return the optimizer wrappers of a runner."""
    wrapper = runner.optim_wrapper
    is_dict = isinstance(wrapper, OptimWrapperDict)
    return list(wrapper.values()) if is_dict else [wrapper]


def unwrap_model(model: nn.Module) -> nn.Module:
    """Return the model without wrappers such as DDP."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def get_distiller(runner: Runner) -> nn.Module:
    """Return the distiller of a runner.

    Raises:
        ConfigError: If the model is not a distiller.
    """
    model = unwrap_model(runner.model)
    if not hasattr(model, 'flows'):
        raise ConfigError(
            'custom_hooks: the hook needs a distiller of mmfmkt as model, got '
            f'{type(model).__name__}.'
        )
    return model
