"""Stops, or leaves out a batch, where a number is none."""

from typing import Any, Dict, List, Literal

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.optim import Optimizer

from mmfmkt.registry import HOOKS
from mmfmkt.utils import ConfigError
from mmfmkt.utils.schema import Count

from .progress import unwrapped

SHOWN = 6


@HOOKS.register_module()
class FiniteHook(Hook):
    """Keeps losses and gradients that are not finite out of the weights.

    Gradients are looked at where the optimizer is about to use them: summed
    over all processes, so that all decide alike. A batch that is left out
    changes neither weights nor the optimizer's state. Of float16, whose
    scaler leaves out infinite gradients itself, it is the losses that count.

    Args:
        action (str): ``'stop'``, or ``'skip'`` to leave the batch out and
            count it as ``skipped`` in the log.
        most (int): Of ``'skip'``: how many in a row are too many.

    Attributes:
        skipped (int): How many batches were left out.

    Raises:
        ConfigError: In training: names the losses, ``<tap>.<level>.<part>``,
            or the parameters.
    """

    # Before the logger, which writes how many there were.
    priority = 'HIGH'

    def __init__(
        self, action: Literal['stop', 'skip'] = 'stop', most: Count = 100
    ) -> None:
        self.action, self.most = action, most
        self.skipped, self._in_a_row = 0, 0
        self._losses: Dict[str, Any] = {}
        self._names: List[str] = []
        self._handles: List[Any] = []

    def before_train(self, runner: Runner) -> None:
        """Listen to the model and to its optimizers."""
        model = unwrapped(runner.model)
        self._parameters = dict(model.named_parameters())
        self._handles = [model.register_forward_hook(self._hear)]
        wrappers = runner.optim_wrapper
        several = isinstance(wrappers, dict) or hasattr(wrappers, 'values')
        for wrapper in wrappers.values() if several else [wrappers]:
            self._handles.append(
                wrapper.optimizer.register_step_pre_hook(self._look)
            )

    def after_train_iter(self, runner: Runner, *args: Any, **kw: Any) -> None:
        """Act on what was found in this iteration.

        Raises:
            ConfigError: Where there is to be a stop.
        """
        names = not_finite(self._losses) or self._names
        self._losses, self._names = {}, []
        self._in_a_row = self._in_a_row + 1 if names else 0
        if not names:
            return
        more = f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''
        what = (
            f'{", ".join(names[:SHOWN])}{more} of iteration {runner.iter + 1} '
            'is not a finite number'
        )
        if self.action == 'stop' or self._in_a_row > self.most:
            raise ConfigError(
                f'{what}: the weights are those before it, and the last '
                f'checkpoint is {self._last(runner)}; see the learning rate, '
                "clip_grad and model.flow.loss_weight, the teacher's "
                'checkpoint, or float16.'
            )
        self.skipped += 1
        runner.message_hub.update_scalar('train/skipped', self.skipped)
        runner.logger.warning(f'{what}: the batch is left out.')

    def after_train(self, runner: Runner) -> None:
        """Listen no more."""
        for handle in self._handles:
            handle.remove()

    def _hear(self, model: nn.Module, args: tuple, output: Any) -> None:
        # Of the rest, which is only logged, a NaN may be legitimate.
        if isinstance(output, dict):
            self._losses = {k: x for k, x in output.items() if 'loss' in k}

    def _look(self, optimizer: Optimizer, args: tuple, kwargs: dict) -> None:
        """Take gradients away that the optimizer must not use."""
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

    @staticmethod
    def _last(runner: Runner) -> str:
        return runner.message_hub.runtime_info.get('last_ckpt') or 'none'


def finite(tensors: List[Tensor]) -> bool:
    """Whether all numbers of tensors are finite; waits for the device once."""
    norms = torch._foreach_norm(tensors)
    return bool(torch.isfinite(torch.stack(norms)).all())


def not_finite(values: Dict[str, Any]) -> List[str]:
    """Names of what has a value that is infinite or not a number.

    Args:
        values (dict): Tensors, lists of tensors and anything else, by name.
    """
    return [
        name
        for name, value in values.items()
        for x in (value if isinstance(value, (list, tuple)) else [value])
        if isinstance(x, Tensor) and not torch.isfinite(x).all()
    ]
