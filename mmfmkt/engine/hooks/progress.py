"""Progress and model of a Runner, for the hooks of a distillation."""

from mmengine.dist import get_world_size
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from mmfmkt.utils import ConfigError


def get_progress(runner: Runner, by_epoch: bool) -> float:
    """Return the progress in epochs, with fractions, or in iterations.

    Args:
        runner (Runner): The runner of the training process.
        by_epoch (bool): Whether to count epochs.
    """
    if not by_epoch:
        return runner.iter
    return runner.iter / iterations_per_epoch(runner.train_dataloader)


def iterations_per_epoch(loader: DataLoader) -> float:
    """Return the iterations in which all ranks together see the data once.

    Args:
        loader (DataLoader): Of this rank. Its sampler knows this rank's
            share, or, where it never ends, all of the data.
    """
    sampler = loader.batch_sampler.sampler
    shared = len(sampler) < len(loader.dataset)
    return len(loader) / (1 if shared else get_world_size())


def unwrap_model(model: nn.Module) -> nn.Module:
    """Return the model without its wrapper for several processes.

    Args:
        model (nn.Module): The model, wrapped or not.
    """
    return model.module if is_model_wrapper(model) else model


def get_distiller(runner: Runner) -> nn.Module:
    """Return the distiller that a runner trains.

    Raises:
        ConfigError: If the model is no distiller.
    """
    model = unwrap_model(runner.model)
    if not hasattr(model, 'flows'):
        raise ConfigError(
            'This hook steers a distillation, but the model is a '
            f'{type(model).__name__}: take it out of custom_hooks.'
        )
    return model
