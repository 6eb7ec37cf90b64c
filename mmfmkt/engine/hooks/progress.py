"""What hooks of a distillation ask the Runner."""

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from mmfmkt.utils import ConfigError


def progress_of(runner: Runner, by_epoch: bool) -> float:
    """How far the training is, in epochs with fractions or in iterations.

    Args:
        runner (Runner): The runner of the training process.
        by_epoch (bool): Whether to count epochs.
    """
    if not by_epoch:
        return runner.iter
    return runner.iter / len(runner.train_dataloader)


def distiller_of(runner: Runner) -> nn.Module:
    """The distiller that a runner trains.

    Raises:
        ConfigError: If it trains something else.
    """
    model = runner.model
    if is_model_wrapper(model):
        model = model.module
    if not hasattr(model, 'flows'):
        raise ConfigError(
            'This hook steers a distillation, but the model is a '
            f'{type(model).__name__}: take it out of custom_hooks.')
    return model
