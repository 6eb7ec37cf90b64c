"""Base class of the variants, and its inputs and outputs."""

from abc import ABCMeta, abstractmethod
from typing import (
    Any,
    Callable,
    Dict,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

import torch
from torch import Tensor, nn

from ..losses.base import BaseMetricLoss
from .transforms import Head, Losses, MapTransform
from .velocity import VelocityField

# torch.compile's limit of graphs per function is raised to this number.
MAX_GRAPHS = 64
# Losses of the transfer, losses of the student's task, and the input of the
# student's head (with a head as T: the logits).
TransferOutputs = Tuple[Losses, Losses, Tensor]


class TransferInputs(NamedTuple):
    """Arguments of `Transfer.forward_head`."""

    source: Tensor
    target: Optional[Tensor]
    num_steps: int
    labels: Optional[Tensor]
    head: Optional[Head]
    permutation: Optional[Tensor]
    diagnose: bool


class Transfer(nn.Module, metaclass=ABCMeta):
    """Base class of the variants: distill a student's feature to a target.

    Args:
        metric (BaseMetricLoss, optional): Distillation loss D. None for
            inference: the flow can then be sampled but not trained.
        transform (nn.Module, optional): Transform T from the student's
            feature space to the teacher's; by default resizing alone.
        loss_weight (float): Weight of the losses of the transfer.

    Attributes:
        deploys_flow (bool): Whether the flow's output replaces the student's
            feature at inference.
        needs_teacher (bool): Whether the target comes from a teacher.
    """

    deploys_flow = False
    needs_teacher = True

    def __init__(
        self,
        metric: Optional[BaseMetricLoss] = None,
        transform: Optional[nn.Module] = None,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.transform = MapTransform() if transform is None else transform
        self.metric = metric
        self.field: Optional[VelocityField] = None

    @property
    def distillation_loss(self) -> BaseMetricLoss:
        """The distillation loss ``metric``.

        Raises:
            RuntimeError: If ``metric`` is None.
        """
        if self.metric is None:
            raise RuntimeError(
                f'{type(self).__name__} was built for inference, without '
                'metric; set metric to a distillation loss to train it.'
            )
        return self.metric

    def forward(
        self,
        source: Tensor,
        target: Optional[Tensor],
        num_steps: int = 1,
        labels: Optional[Tensor] = None,
        permutation: Optional[Tensor] = None,
        diagnose: bool = False,
    ) -> Tuple[Losses, Tensor]:
        """Compute losses and the transferred feature.

        Args:
            source (Tensor): ``X_S``, ``(B, C_s, H, W)`` or ``(B, C_s)``.
                Gradients reach it.
            target (Tensor, optional): ``X_T``, ``(B, C_t, H', W')`` or ``(B,
                classes)``. It is detached. None without a teacher, and while
                the weight of the transfer is 0.
            num_steps (int): Number of Euler steps N.
            labels (Tensor, optional): Classes ``(B, )`` or probabilities
                ``(B, classes)``, for losses that need them.
            permutation (Tensor, optional): Result of ``decouple_pairs``,
                ``(B, )``: index of the target sample towards which the flow
                of each source sample is trained. All other terms compare
                source and target of the same image.
            diagnose (bool): Whether to return ``metric_of_mean`` as well: D
                of the mean of the estimates, which is deployed, without
                gradient. It is multiplied by ``loss_weight``. ``loss_flow``
                is its upper bound for a convex D.

        Returns:
            tuple: Losses by name, and the input of the student's head.
        """
        losses, _, output = self.forward_head(
            source, target, num_steps, labels, None, permutation, diagnose
        )
        return losses, output

    def forward_head(
        self,
        source: Tensor,
        target: Optional[Tensor],
        num_steps: int,
        labels: Optional[Tensor],
        head: Optional[Head],
        permutation: Optional[Tensor] = None,
        diagnose: bool = False,
    ) -> TransferOutputs:
        """Compute losses and logits, with the student's head as T.

        Args:
            source, target, num_steps, labels, permutation, diagnose: As in
                ``forward``.
            head (Callable, optional): Function from a feature to logits ``(B,
                classes)`` and the losses of the student's task. None: T is
                ``transform``, as in ``forward``.

        Returns:
            tuple: Losses of the transfer and of the task, both by name, and
            the logits.
        """
        inputs = TransferInputs(
            source, target, num_steps, labels, head, permutation, diagnose
        )
        return self._run(inputs)

    @abstractmethod
    def _run(self, inputs: TransferInputs) -> TransferOutputs:
        """Implement ``forward_head``; without a head, T is ``transform``."""

    def logits(
        self,
        source: Tensor,
        step_counts: Sequence[int],
        head: Callable[[Tensor], Tensor],
    ) -> Dict[int, Tensor]:
        """Return the logits of the deployed feature, by default the source.

        Args:
            source (Tensor): ``X_S``, ``(B, C_s, H, W)`` or ``(B, C_s)``.
            step_counts (Sequence[int]): One or more values of K.
            head (Callable): The student's head, which returns logits.

        Returns:
            dict: Logits ``(B, classes)`` by K.
        """
        return dict.fromkeys(step_counts, head(source))

    def compile(self, **options: Any) -> None:
        """Compile sampler, T and distillation loss.

        ``forward`` is one graph with N as a constant: each new number of
        steps causes one more compilation. In ``forward_head``, with the
        student's head, and in ``sample`` only encoder and distillation loss
        are compiled; with PyTorch 2.1 also in ``forward``.

        Args:
            options: Arguments of ``torch.compile``. By default ``dynamic`` is
                True, so that a new image size does not recompile.
        """
        # Imported here, because the import takes seconds.
        from torch._dynamo import config

        # One graph for each N; PyTorch gives up after 8 by default.
        config.cache_size_limit = max(config.cache_size_limit, MAX_GRAPHS)
        options = {'dynamic': True, **options}
        # PyTorch 2.1 splits this graph, and fails to resume after the split.
        if not torch.__version__.startswith('2.1.'):
            # `nn.Module.compile` would recompile whenever a forward hook is
            # added or removed.
            self.forward = torch.compile(  # type: ignore[method-assign]
                self.forward, **options
            )
        if self.field is not None:
            self.field.encoder.body_layers.compile(**options)
        if self.metric is not None:
            self.metric.compile(**options)

    def __getstate__(self) -> Dict[str, Any]:
        state = super().__getstate__()
        # `compile` sets a function that is bound to this module, so copies
        # must not contain it.
        state.pop('forward', None)
        return state

    @property
    def deployed_modules(self) -> List[nn.Module]:
        """Modules that are deployed; all others are used in training only."""
        if self.deploys_flow and self.field is not None:
            return [self.field]
        return []

    def _zero_loss(self, source: Tensor) -> Tensor:
        """Return 0 with a zero gradient for every parameter.

        DDP needs a gradient for each parameter.
        """
        return sum(
            (0 * p.sum() for p in self.parameters()), source.new_zeros(())
        )
