"""Guard of losses and gradients against NaN and Inf."""

from typing import Any, Dict, List, Literal, Optional

import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.optim import Optimizer

from mmfmkt.models.deprecation import renamed_argument, warn_renamed
from mmfmkt.registry import HOOKS
from mmfmkt.utils import ConfigError
from mmfmkt.utils.schema import PositiveInt

from .progress import unwrap_model

MAX_LISTED_NAMES = 6


@HOOKS.register_module()
class NanGuardHook(Hook):
    """Stops training on NaN or Inf before the optimizer step.

    The gradients are checked right before the optimizer step, after their
    reduction, so that all processes take the same decision. A skipped batch
    changes neither the weights nor the optimizer's state. In float16 the
    gradient scaler skips steps with infinite gradients itself, so only the
    losses are checked.

    Args:
        action (str): ``'stop'``, or ``'skip'`` to skip the batch and log the
            number of skipped batches as ``skipped``.
        max_skips (int): Maximum number of consecutive batches that
            ``'skip'`` skips before it stops.
        most (int, optional): Former name of ``max_skips``.

    Attributes:
        skipped (int): Number of skipped batches.

    Raises:
        ConfigError: During training, with the names of the losses
            (such as ``<tap>.<level>.<term>``) or parameters.

    Examples:
        >>> custom_hooks = [dict(type='mmfmkt.NanGuardHook', action='skip')]
    """

    # Runs before LoggerHook, which writes the number of skipped batches.
    priority = 'HIGH'

    def __init__(
        self,
        action: Literal['stop', 'skip'] = 'stop',
        max_skips: PositiveInt = 100,
        most: Optional[PositiveInt] = None,
    ) -> None:
        self.action = action
        self.max_skips = renamed_argument('most', most, 'max_skips', max_skips)
        self.skipped, self._consecutive_skips = 0, 0
        self._losses: Dict[str, Any] = {}
        self._bad_gradients: List[str] = []
        self._handles: List[Any] = []

    def before_train(self, runner: Runner) -> None:
        """Register hooks on the model and its optimizers."""
        model = unwrap_model(runner.model)
        self._parameters = dict(model.named_parameters())
        self._handles = [model.register_forward_hook(self._record_losses)]
        wrapper = runner.optim_wrapper
        is_dict = isinstance(wrapper, OptimWrapperDict)
        for optim_wrapper in wrapper.values() if is_dict else [wrapper]:
            self._handles.append(
                optim_wrapper.optimizer.register_step_pre_hook(
                    self._check_grads
                )
            )

    def after_train_iter(self, runner: Runner, *args: Any, **kw: Any) -> None:
        """Stop, or count a skipped batch, if there was a NaN or Inf.

        Raises:
            ConfigError: If training has to stop.
        """
        names = non_finite_names(self._losses) or self._bad_gradients
        self._losses, self._bad_gradients = {}, []
        self._consecutive_skips = self._consecutive_skips + 1 if names else 0
        if not names:
            return
        listed = ', '.join(names[:MAX_LISTED_NAMES])
        if len(names) > MAX_LISTED_NAMES:
            listed += f' and {len(names) - MAX_LISTED_NAMES} more'
        message = f'NaN or Inf in iteration {runner.iter + 1}: {listed}'
        if self.action == 'stop' or self._consecutive_skips > self.max_skips:
            checkpoint = runner.message_hub.runtime_info.get('last_ckpt')
            raise ConfigError(
                f'{message}. The optimizer step was not taken; last '
                f'checkpoint: {checkpoint or "none"}. Check the learning '
                'rate, clip_grad, model.flow.loss_weight and the checkpoint '
                'of the teacher. In float16, a value may have overflowed: '
                'try bfloat16.'
            )
        self.skipped += 1
        runner.message_hub.update_scalar('train/skipped', self.skipped)
        runner.logger.warning(f'{message}; the batch is skipped.')

    def after_train(self, runner: Runner) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()

    def _record_losses(
        self, model: nn.Module, args: tuple, output: Any
    ) -> None:
        """Record the losses; other outputs are only logged and may be NaN."""
        if isinstance(output, dict):
            self._losses = {k: x for k, x in output.items() if 'loss' in k}

    def _check_grads(
        self, optimizer: Optimizer, args: tuple, kwargs: dict
    ) -> None:
        """Remove all gradients if one of them has NaN or Inf."""
        parameters = [
            p
            for group in optimizer.param_groups
            for p in group['params']
            if p.grad is not None
        ]
        if not parameters or all_finite([p.grad for p in parameters]):
            return
        bad_ids = {id(p) for p in parameters if not all_finite([p.grad])}
        self._bad_gradients = [
            f'the gradient of {name}'
            for name, p in self._parameters.items()
            if id(p) in bad_ids
        ]
        for parameter in parameters:
            # The optimizer ignores parameters without a gradient; with a zero
            # gradient it would apply weight decay.
            parameter.grad = None


@HOOKS.register_module()
class FiniteHook(NanGuardHook):
    """Former name of `NanGuardHook`."""

    def __init__(self, **kwargs: Any) -> None:
        warn_renamed('FiniteHook', 'NanGuardHook')
        super().__init__(**kwargs)


def all_finite(tensors: List[Tensor]) -> bool:
    """Return whether all values are finite; synchronize the device once."""
    norms = torch._foreach_norm(tensors)
    return bool(torch.isfinite(torch.stack(norms)).all())


def non_finite_names(values: Dict[str, Any]) -> List[str]:
    """Return the names of values with NaN or Inf.

    Args:
        values (dict): Tensors, lists of tensors and other objects, by name.
    """
    return [
        name
        for name, value in values.items()
        for x in (value if isinstance(value, (list, tuple)) else [value])
        if isinstance(x, Tensor) and not torch.isfinite(x).all()
    ]
