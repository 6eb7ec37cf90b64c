"""Loss weight of a transfer, computed from gradient norms."""

from contextlib import nullcontext
from typing import Any, ContextManager, Dict, Optional, Union

import torch
from mmengine.dist import all_reduce
from mmengine.logging import print_log
from torch import Tensor, nn

from mmfmkt.utils.schema import Positive, PositiveInt, check_arguments

# Factor of the measured gradients, so that they do not underflow in float16.
# A power of two changes no digit of other types.
GRAD_SCALE = 2.0**12
# Gradients of the transfer below this share of the task's are rounding errors.
MIN_SHARE = 1e-6
# Loss of a classifier's training-only branch on the labels. It belongs to the
# task, and has no loss weight.
BRANCH_LOSS = 'loss_branch'


class GradientShare(nn.Module):
    """Weight ``w = share * mean |g_task| / mean |g_transfer|``.

    ``g_task`` and ``g_transfer`` are the gradients of the task's losses and
    of the unweighted transfer losses at the tapped feature; their norms are
    averaged over iterations and ranks. ``g_task`` includes the losses of other
    transfers that depend on the feature, such as those of deeper levels of a
    backbone. The weight is 0 in the first iteration and then follows the
    running means; after ``iterations`` measured iterations it is constant.
    While a schedule lowers the transfer, the weight follows the norms of the
    preceding iteration. A frozen feature has no gradient, and its losses have
    weight 1. Checkpoints contain the weight, exported models do not.

    Args:
        name (str): Tap and level, for the log.
        share (float): Norm of the weighted transfer gradient, divided by that
            of the task gradient.
        iterations (int): Number of iterations in which norms are measured.
    """

    # Whether the transfer has no gradient at the start of a training.
    starts_at_zero = False

    def __init__(
        self, name: str, share: Positive = 0.5, iterations: PositiveInt = 50
    ) -> None:
        super().__init__()
        self.name, self.share, self.iterations = name, share, iterations
        # Gradient norms (task, transfer): their sums over iterations, and the
        # norms of the last backward pass on this rank, which are averaged
        # over ranks before they are used or saved.
        self.register_buffer('sums', torch.zeros(2))
        self.register_buffer('last', torch.zeros(2))
        self.register_buffer('count', torch.zeros((), dtype=torch.long))
        self.register_buffer('weight', torch.zeros(()))
        self._is_fixed = False

    @property
    def is_measuring(self) -> bool:
        """Whether the weight is not fixed yet."""
        # Cached, because reading the count synchronizes with the GPU.
        self._is_fixed = self._is_fixed or int(self.count) >= self.iterations
        return not self._is_fixed

    def weigh(
        self, source: Tensor, losses: Dict[str, Tensor], factor: float
    ) -> Dict[str, Tensor]:
        """Return the weighted losses.

        Args:
            source (Tensor): The tapped feature.
            losses (dict[str, Tensor]): Unweighted losses of the transfer.
            factor (float): Factor by which a schedule scales the transfer;
                while it is 0, nothing is measured.
        """
        if not source.requires_grad:
            return scaled(losses, factor)
        measure = factor > 0 and self.is_measuring
        if measure:
            self._add_last(is_counted=factor == 1)
        weight = factor * self.weight
        weighted = scaled(losses, weight)
        if measure and self.is_measuring:
            self._measure(source, losses, weighted, weight)
        return weighted

    def _measure(
        self,
        source: Tensor,
        losses: Dict[str, Tensor],
        weighted: Dict[str, Tensor],
        weight: Tensor,
    ) -> None:
        """Measure both gradients in the backward pass of this iteration.

        The gradient of the task is the total gradient at the feature minus
        that of the transfer. The gradient with respect to a loss is the
        factor by which mixed precision and gradient accumulation scale it.
        """
        terms = [name for name, loss in losses.items() if loss.requires_grad]
        total = sum(losses[name] for name in terms)
        (transfer_grad,) = torch.autograd.grad(
            GRAD_SCALE * total, source, retain_graph=True, allow_unused=True
        )
        if transfer_grad is None:
            return
        scale: Dict[str, Tensor] = {}

        def record_scale(grad: Tensor) -> None:
            scale['loss'] = grad

        def record_norms(grad: Tensor) -> None:
            transfer = transfer_grad.float() / GRAD_SCALE
            task = grad.float() / scale['loss'] - weight * transfer
            self.last = torch.stack([task.norm(), transfer.norm()])

        weighted[terms[0]].register_hook(record_scale)
        source.register_hook(record_norms)

    def average_last(self) -> None:
        """Average the norms of the last backward pass over ranks."""
        all_reduce(self.last, 'mean')

    def _add_last(self, is_counted: bool) -> None:
        """Add the norms of the last backward pass, averaged over ranks.

        Args:
            is_counted (bool): Whether the iteration is one of those to
                average over.
        """
        self.average_last()
        norms = self.last.clone()
        self.last.zero_()
        # Skip norms that overflowed in mixed precision, and those of rounding
        # errors. Before the first backward pass, both are 0.
        if not norms.isfinite().all() or norms[1] <= MIN_SHARE * norms[0]:
            return
        self.sums *= self.count > 0  # drops norms that are not counted
        self.sums += norms
        self.count += is_counted
        self.weight.copy_(self.share * self.sums[0] / self.sums[1])
        if not self.is_measuring:
            task, transfer = (self.sums / self.count).tolist()
            print_log(
                f'{self.name}: loss_weight is fixed at '
                f'{float(self.weight):.4g}, for {self.share:g} times the '
                f'gradient of the task at the tapped feature (mean norms '
                f'over {int(self.count)} iterations: task {task:.3g}, '
                f'transfer at weight 1 {transfer:.3g}, a share of '
                f'{transfer / max(task, 1e-12):.3g}).',
                logger='current',
            )


def eager_while_measuring(transfer: nn.Module) -> ContextManager:
    """Return a context that disables compiled graphs while norms are measured.

    A compiled graph cannot be run backward twice.

    Args:
        transfer (nn.Module): A transfer; with the attribute
            ``gradient_share`` if its weight is computed from gradient norms.
    """
    share = getattr(transfer, 'gradient_share', None)
    set_stance = getattr(torch.compiler, 'set_stance', None)
    if share is None or set_stance is None or not share.is_measuring:
        return nullcontext()
    return set_stance('force_eager')


def weigh(
    transfer: nn.Module,
    source: Tensor,
    losses: Dict[str, Tensor],
    weight: float,
) -> Dict[str, Tensor]:
    """Return a transfer's weighted losses.

    Args:
        transfer (nn.Module): As `eager_while_measuring`.
        source, losses: As `GradientShare.weigh`.
        weight (float): Factor by which a schedule scales the transfer.
    """
    share = getattr(transfer, 'gradient_share', None)
    if share is None:
        return scaled(losses, weight)
    branch = {k: x for k, x in losses.items() if k == BRANCH_LOSS}
    # Norms are those of the losses after the warm-up of the metric.
    parts = transfer.metric.modules()
    warmup = min(getattr(part, 'warmup_factor', 1.0) for part in parts)
    terms = {k: x / warmup for k, x in losses.items() if k != BRANCH_LOSS}
    return {
        **share.weigh(source, terms, warmup * weight),
        **scaled(branch, weight),
    }


def scaled(
    losses: Dict[str, Tensor], factor: Union[float, Tensor]
) -> Dict[str, Tensor]:
    """Return losses, multiplied by a factor."""
    return {name: factor * loss for name, loss in losses.items()}


def gradient_share(loss_weight: Any, name: str) -> Optional[GradientShare]:
    """Return the module of ``loss_weight='auto'``, or None for a number.

    Args:
        loss_weight (float | str | dict): ``model.flow.loss_weight`` of a
            level: ``'auto'``, or a dict with ``share`` and ``iterations``.
        name (str): Tap and level, for the log.

    Raises:
        ConfigError: If the dict has an unknown key or an invalid value.
    """
    if loss_weight == 'auto':
        loss_weight = {}
    if not isinstance(loss_weight, dict):
        return None
    settings = {k: v for k, v in loss_weight.items() if k != '_scope_'}
    settings = dict(settings, name=name)
    check_arguments(GradientShare, settings, 'model.flow.loss_weight')
    return GradientShare(**settings)
