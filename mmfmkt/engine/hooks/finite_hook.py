"""Guard of losses and gradients against NaN and Inf."""

from typing import Any, Dict, List, Literal

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.optim import Optimizer

from mmfmkt.registry import HOOKS
from mmfmkt.utils import ConfigError
from mmfmkt.utils.schema import PositiveInt

from .progress import unwrapped

SHOWN = 6


@HOOKS.register_module()
class FiniteHook(Hook):
    """Stops training on NaN or Inf before the optimizer step.

    Gradients are checked right before the optimizer step: summed over all
    processes, so that all decide alike. A skipped batch changes neither
    weights nor the optimizer's state. In float16, whose scaler skips infinite
    gradients itself, the losses decide.

    Args:
        action (str): ``'stop'``, or ``'skip'`` to skip the batch and count
            it as ``skipped`` in the log.
        most (int): Most batches in a row that ``'skip'`` skips.

    Attributes:
        skipped (int): Number of skipped batches.

    Raises:
        ConfigError: In training: names the losses, ``<tap>.<level>.<part>``,
            or the parameters.
    """

    # Before the logger, which writes how many there were.
    priority = 'HIGH'

    def __init__(
        self, action: Literal['stop', 'skip'] = 'stop', most: PositiveInt = 100
    ) -> None:
        self.action, self.most = action, most
        self.skipped, self._in_a_row = 0, 0
        self._losses: Dict[str, Any] = {}
        self._names: List[str] = []
        self._handles: List[Any] = []

    def before_train(self, runner: Runner) -> None:
        """Register hooks on the model and its optimizers."""
        model = unwrapped(runner.model)
        self._parameters = dict(model.named_parameters())
        self._handles = [model.register_forward_hook(self._record_losses)]
        wrappers = runner.optim_wrapper
        several = isinstance(wrappers, dict) or hasattr(wrappers, 'values')
        for wrapper in wrappers.values() if several else [wrappers]:
            self._handles.append(
                wrapper.optimizer.register_step_pre_hook(self._check_grads)
            )

    def after_train_iter(self, runner: Runner, *args: Any, **kw: Any) -> None:
        """Stop or skip if this iteration had NaN or Inf.

        Raises:
            ConfigError: Where there is to be a stop.
        """
        names = not_finite(self._losses) or self._names
        self._losses, self._names = {}, []
        self._in_a_row = self._in_a_row + 1 if names else 0
        if not names:
            return
        more = f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''
        last = runner.message_hub.runtime_info.get('last_ckpt') or 'none'
        what = (
            f'{", ".join(names[:SHOWN])}{more} of iteration {runner.iter + 1} '
            'is not a finite number'
        )
        if self.action == 'stop' or self._in_a_row > self.most:
            raise ConfigError(
                f'{what}: the weights are those before it, and the last '
                f'checkpoint is {last}; see the learning rate, '
                "clip_grad and model.flow.loss_weight, the teacher's "
                'checkpoint, or float16.'
            )
        self.skipped += 1
        runner.message_hub.update_scalar('train/skipped', self.skipped)
        runner.logger.warning(f'{what}: the batch is left out.')

    def after_train(self, runner: Runner) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()

    def _record_losses(
        self, model: nn.Module, args: tuple, output: Any
    ) -> None:
        # Of the rest, which is only logged, a NaN may be legitimate.
        if isinstance(output, dict):
            self._losses = {k: x for k, x in output.items() if 'loss' in k}

    def _check_grads(
        self, optimizer: Optimizer, args: tuple, kwargs: dict
    ) -> None:
        """Remove all gradients if one of them is not finite."""
        used = [
            p
            for group in optimizer.param_groups
            for p in group['params']
            if p.grad is not None
        ]
        grads = [p.grad for p in used]
        if not grads or finite(grads):
            return
        wrong = {id(p) for p in used if not finite([p.grad])}
        self._names = [
            f'the gradient of {name}'
            for name, p in self._parameters.items()
            if id(p) in wrong
        ]
        for parameter in used:
            parameter.grad = None  # neither a step nor a decay


def finite(tensors: List[Tensor]) -> bool:
    """Return whether tensors are finite; synchronizes the device once."""
    norms = torch._foreach_norm(tensors)
    return bool(torch.isfinite(torch.stack(norms)).all())


def not_finite(values: Dict[str, Any]) -> List[str]:
    """Return the names of values that are not finite.

    Args:
        values (dict): Tensors, lists of tensors and anything else, by name.
    """
    return [
        name
        for name, value in values.items()
        for x in (value if isinstance(value, (list, tuple)) else [value])
        if isinstance(x, Tensor) and not torch.isfinite(x).all()
    ]
