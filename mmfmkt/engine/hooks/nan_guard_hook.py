"""Guard of losses and gradients against NaN and Inf."""

from typing import Any, Iterable, List, Literal, Optional, Tuple

import torch
from mmengine.dist import all_gather_object, all_reduce
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.optim import Optimizer

from mmfmkt.models.deprecation import renamed_argument, warn_renamed
from mmfmkt.registry import HOOKS
from mmfmkt.utils import ConfigError
from mmfmkt.utils.schema import PositiveInt

from .progress import get_optim_wrappers, unwrap_model

MAX_LISTED_NAMES = 6


@HOOKS.register_module()
class NanGuardHook(Hook):
    """Stops training on NaN or Inf before the optimizer step.

    Losses and gradients are checked right before the optimizer step, and all
    processes take the same decision. A skipped batch changes neither the
    weights nor the optimizer's state. If the forward pass has written NaN or
    Inf into a buffer, such as the running mean of BatchNorm, the batch cannot
    be skipped, and training stops. Without an optimizer step (in gradient
    accumulation, or in float16, where the gradient scaler skips steps with
    infinite gradients), only the losses are checked.

    Args:
        action (str): ``'stop'``, or ``'skip'`` to skip the batch and log the
            number of skipped batches as ``skipped``. With a gradient scaler
            (float16), where single overflows are normal, ``'stop'`` skips,
            too.
        max_skips (int): Maximum number of consecutive batches that are
            skipped before training stops.
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
        self._losses: List[Tuple[str, Tensor]] = []
        self._bad_names: List[str] = []
        self._handles: List[Any] = []

    def before_train(self, runner: Runner) -> None:
        """Register hooks on the model and its optimizers."""
        model = unwrap_model(runner.model)
        self._names = {id(p): name for name, p in model.named_parameters()}
        # Masks may be infinite from the start.
        self._buffers = [
            x for x in model.named_buffers() if torch.isfinite(x[1]).all()
        ]
        # DeepSpeed has optimizers of its own, without hooks.
        self._optimizers = [
            x.optimizer
            for x in get_optim_wrappers(runner)
            if isinstance(x.optimizer, Optimizer)
        ]
        self._skips = self.action == 'skip' or any(
            x.loss_scaler.is_enabled()
            for x in get_optim_wrappers(runner)
            if hasattr(x, 'loss_scaler')
            # None is float16 on GPUs.
            and getattr(x, 'cast_dtype', None) in (None, torch.float16)
        )
        self._handles = [model.register_forward_hook(self._record_losses)]
        for optimizer in self._optimizers:
            self._handles.append(optimizer.register_step_pre_hook(self._check))

    def after_train_iter(self, runner: Runner, *args: Any, **kw: Any) -> None:
        """Stop, or count a skipped batch, if there was a NaN or Inf.

        Raises:
            ConfigError: If training has to stop.
        """
        if self._losses:  # There was no optimizer step.
            self._check()
        names, self._bad_names = self._bad_names, []
        self._consecutive_skips = self._consecutive_skips + 1 if names else 0
        if not names:
            return
        listed = ', '.join(names[:MAX_LISTED_NAMES])
        if len(names) > MAX_LISTED_NAMES:
            listed += f' and {len(names) - MAX_LISTED_NAMES} more'
        message = f'NaN or Inf in iteration {runner.iter + 1}: {listed}'
        buffers = non_finite_names(self._buffers)
        if buffers:
            message += f'; the forward pass wrote it into {buffers[0]}'
        is_last = buffers or self._consecutive_skips > self.max_skips
        if is_last or not self._skips:
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
            self._losses = [
                (name, x)
                for name, value in output.items()
                for x in (value if isinstance(value, list) else [value])
                if 'loss' in name and isinstance(x, Tensor)
            ]

    def _check(
        self, optimizer: Optional[Optimizer] = None, *args: Any
    ) -> None:
        """Remove all gradients if a loss or gradient has NaN or Inf."""
        losses, self._losses = self._losses, []
        # With `found_inf` from the gradient scaler, a fused optimizer skips
        # infinite gradients itself.
        if getattr(optimizer, 'found_inf', None) is not None:
            optimizer = None
        parameters = [
            p
            for group in (optimizer.param_groups if optimizer else ())
            for p in group['params']
            if p.grad is not None
        ]
        flags = [torch.isfinite(x).all() for _, x in losses]
        if parameters:
            norms = torch._foreach_norm([p.grad for p in parameters])
            flags.append(torch.isfinite(torch.stack(norms)).all())
        # With CPU offload of FSDP, losses are on another device.
        flags = [x.to(flags[0].device) for x in flags]
        finite = torch.stack(flags).all().float() if flags else torch.ones(())
        # Losses differ between processes, as do gradients with FSDP.
        all_reduce(finite, 'min')
        if finite:
            return
        # In float16, the norm of a finite gradient may overflow.
        norms = [
            (
                f'the gradient of {self._names.get(id(p), "a parameter")}',
                p.grad.float().norm(),
            )
            for p in parameters
        ]
        self._bad_names += non_finite_names(losses) or non_finite_names(norms)
        if not self._bad_names:
            return
        for optimizer in self._optimizers:
            # The optimizer ignores parameters without a gradient; with a zero
            # gradient it would apply weight decay.
            optimizer.zero_grad(set_to_none=True)


@HOOKS.register_module()
class FiniteHook(NanGuardHook):
    """Former name of `NanGuardHook`."""

    def __init__(self, **kwargs: Any) -> None:
        warn_renamed('FiniteHook', 'NanGuardHook')
        super().__init__(**kwargs)


def non_finite_names(tensors: Iterable[Tuple[str, Tensor]]) -> List[str]:
    """Return the names of tensors with NaN or Inf in any process."""
    names = [name for name, x in tensors if not torch.isfinite(x).all()]
    return list(dict.fromkeys(sum(all_gather_object(names), [])))
