"""What the variants of the transfer share: parts, weights and calls."""

from abc import ABCMeta, abstractmethod
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from ..losses.base import BaseMetricLoss, Prepared
from .steps import Step, Steps
from .transforms import Head, Losses, MapTransform, resize
from .velocity import VelocityField
from .walk import Walk

COMPARED = ('targets', 'velocities')
MAX_GRAPHS = 64


class Transfer(nn.Module, metaclass=ABCMeta):
    """Base of the variants: leads a student's feature to a target.

    Args:
        metric (BaseMetricLoss, optional): The metric D. None leaves out what
            only training needs: the flow can then walk but not be trained.
        transform (nn.Module, optional): T, by default without a map of
            channels.
        loss_weight (float): Weight of the losses of the transfer.

    Attributes:
        deploys_flow (bool): Whether the flow's output takes the place of the
            student's feature.
        needs_teacher (bool): Whether the target is a teacher's.
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
        if metric is not None and transform is None:
            transform = MapTransform()
        self.transform, self.metric = transform, metric
        self.field: Optional[VelocityField] = None

    def forward(
        self,
        source: Tensor,
        target: Optional[Tensor],
        num_steps: int = 1,
        labels: Optional[Tensor] = None,
        order: Optional[Tensor] = None,
        diagnose: bool = False,
    ) -> Tuple[Losses, Tensor]:
        """Walk and compare.

        Args:
            source (Tensor): ``X_S``, ``(B, C_s, H, W)`` or ``(B, C_s)``;
                gradients reach it.
            target (Tensor, optional): ``X_T``, ``(B, C_t, H', W')`` or ``(B,
                classes)``; detached. None while the transfer is stopped, and
                where there is no teacher.
            num_steps (int): N.
            labels (Tensor, optional): Classes ``(B, )`` or probabilities
                ``(B, classes)``, for metrics that need them.
            order (Tensor, optional): Indices ``(B, )`` of
                ``decouple_pairs``: which samples the flow is led to. All
                other terms compare a sample with itself.
            diagnose (bool): Whether to give ``metric_of_mean`` as well, of
                no gradient: D of the mean of the estimates, which is what is
                deployed, in the units of ``loss_flow``, which bounds it for
                a convex D.

        Returns:
            tuple: Losses by name, and what the student's head reads.
        """
        losses, _, output = self._run(
            source, target, num_steps, labels, None, order, diagnose
        )
        return losses, output

    def forward_head(
        self,
        source: Tensor,
        target: Optional[Tensor],
        num_steps: int,
        labels: Optional[Tensor],
        head: Head,
        order: Optional[Tensor] = None,
        diagnose: bool = False,
    ) -> Tuple[Losses, Losses, Tensor]:
        """Walk and compare, with the student's own head as T.

        Args:
            source, target, num_steps, labels, order, diagnose: As in
                ``forward``.
            head (Callable): From a feature to logits ``(B, classes)`` and
                the losses of the student's task.

        Returns:
            tuple: Losses of the transfer and of the task, both by name, and
            the logits.
        """
        return self._run(
            source, target, num_steps, labels, head, order, diagnose
        )

    @abstractmethod
    def _run(
        self,
        source: Tensor,
        target: Optional[Tensor],
        num_steps: int,
        labels: Optional[Tensor],
        head: Optional[Head],
        order: Optional[Tensor],
        diagnose: bool,
    ) -> Tuple[Losses, Losses, Tensor]:
        """``forward_head``; without a head, T is the transform."""

    def logits(
        self,
        source: Tensor,
        counts: Sequence[int],
        head: Callable[[Tensor], Tensor],
    ) -> Dict[int, Tensor]:
        """Return what is deployed: by default the plain student's logits.

        Args:
            source (Tensor): ``X_S``, ``(B, C_s, H, W)`` or ``(B, C_s)``.
            counts (Sequence[int]): One K or several.
            head (Callable): The student's own head, which gives logits.

        Returns:
            dict: Logits ``(B, classes)`` by K.
        """
        return dict.fromkeys(counts, head(source))

    def compile(self, **options: Any) -> None:
        """Compile the transfer of a level: walk, T and metric.

        A call is one graph, with N as a constant of it: a number of steps
        that is drawn for the first time compiles one more. In
        ``forward_head``, whose head is the student's, and in ``transport``
        encoder and metric are compiled.

        Args:
            options: Of ``torch.compile``. By default sizes are ``dynamic``,
                so that those of another image compile nothing again.
        """
        # Imported where it is used: it takes seconds.
        from torch._dynamo import config

        # A graph for each N that may be drawn; PyTorch gives up after 8.
        config.cache_size_limit = max(config.cache_size_limit, MAX_GRAPHS)
        options = {'dynamic': True, **options}
        # Not the call, which also runs hooks: monitors come and go.
        self.forward = torch.compile(self.forward, **options)
        if self.field is not None:
            self.field.encoder.core.compile(**options)
        if self.metric is not None:
            self.metric.compile(**options)

    def __getstate__(self) -> Dict[str, Any]:
        state = super().__getstate__()
        # A compiled function is bound to this module: copies have none.
        state.pop('forward', None)
        return state

    @property
    def deployed(self) -> List[nn.Module]:
        """The parts that are deployed; all others are for training."""
        return [self.field] if self.deploys_flow else []

    def _goal(
        self,
        source: Tensor,
        target: Optional[Tensor],
        labels: Optional[Tensor],
        order: Optional[Tensor] = None,
    ) -> Optional[Prepared]:
        """Prepare what all steps are compared with, if there is a target."""
        if target is None:
            return None
        if order is not None:
            # The labels of a pair are those of the sample that it leads to.
            target = target[order]
            labels = None if labels is None else labels[order]
        return self.metric.prepare(target, labels, source.dtype)

    @torch.no_grad()
    def _of_mean(self, output: Tensor, goal: Prepared) -> Tensor:
        """``metric_of_mean``, of T of the mean of the estimates."""
        return self.loss_weight * self.metric.measure(output, goal)

    def _idle_loss(self, source: Tensor) -> Tensor:
        """Zero, from every parameter: data parallelism waits for them all."""
        return sum(
            (0 * p.sum() for p in self.parameters()), source.new_zeros(())
        )


class FlowTransfer(Transfer):
    """Base of the variants with a flow, whose output is deployed.

    Args:
        field (VelocityField): The flow.
        metric, transform, loss_weight: As `Transfer`. Where calls bring the
            student's own head along, that is T.
        with_cp (bool): Whether backward computes the steps once more
            instead of keeping what it needs of each, to save memory.
    """

    deploys_flow = True

    def __init__(
        self,
        field: VelocityField,
        metric: Optional[BaseMetricLoss] = None,
        transform: Optional[nn.Module] = None,
        loss_weight: float = 1.0,
        with_cp: bool = False,
    ) -> None:
        super().__init__(metric, transform, loss_weight)
        self.field, self.with_cp = field, with_cp

    def transport(self, source: Tensor, num_steps: int) -> Tensor:
        """Return what is deployed in the place of the source.

        Args:
            source (Tensor): ``X_S``, ``(B, C_s, H, W)`` or ``(B, C_s)``.
            num_steps (int): K, any positive integer.

        Returns:
            Tensor: The mean of the estimates, shape and type of ``source``.
        """
        return Walk(self.field, source, num_steps).mean().to(source.dtype)

    def logits(
        self,
        source: Tensor,
        counts: Sequence[int],
        head: Callable[[Tensor], Tensor],
    ) -> Dict[int, Tensor]:
        """Return the implicit ensembles of logits, ``mean_i T(X_hat_i)``.

        Args:
            source (Tensor): ``X_S``, ``(B, C_s, H, W)`` or ``(B, C_s)``.
            counts (Sequence[int]): One K or several, whose first step is
                taken once.
            head (Callable): The student's own head, which gives logits.

        Returns:
            dict: Logits ``(B, classes)`` by K.
        """
        found: Dict[int, Tensor] = {}
        first: Optional[Step] = None
        for count in dict.fromkeys(counts):
            inner = None if first is None else first.inner
            steps = Walk(self.field, source, count, inner)
            total = None
            for step in steps:
                if first is None:
                    first, start = step, head(step.estimate)
                logits = start if step.t == 1 else head(step.estimate)
                total = logits if total is None else total + logits
            found[count] = total / count
        return found

    def _transformed(self, steps: Steps, target: Optional[Tensor]) -> Tensor:
        """T of the estimates of all steps, as one batch."""
        flat = self.transform(steps.estimate.flatten(0, 1), target)
        return flat.unflatten(0, (len(steps), -1))


class TeacherFlowTransfer(FlowTransfer):
    """Base of the variants whose flow is led to a teacher's feature.

    Args:
        field, metric, transform, loss_weight, with_cp: As `FlowTransfer`.
        direct_weight (float): Weight, in units of ``loss_weight``, of a
            term D(T(X_S), X_T) beside the flow's.
        compare (str): ``'targets'``: D(T(X_hat), X_T); ``'velocities'``:
            D(v, alpha' X_S + sigma' X_T), for features of equal shape.

    Raises:
        ValueError: If the settings make no sense together.
    """

    def __init__(
        self,
        field: VelocityField,
        metric: Optional[BaseMetricLoss] = None,
        transform: Optional[nn.Module] = None,
        loss_weight: float = 1.0,
        direct_weight: float = 0.0,
        compare: str = 'targets',
        with_cp: bool = False,
    ) -> None:
        super().__init__(field, metric, transform, loss_weight, with_cp)
        self.direct_weight, self.compare = direct_weight, compare
        if compare not in COMPARED:
            raise ValueError(
                f'compare must be one of {", ".join(COMPARED)}, but is '
                f'{compare!r}.'
            )
        if (
            compare == 'velocities'
            and metric is not None
            and metric.ignores_scale
            and field.encoder.zero_init
        ):
            raise ValueError(
                f'metric {type(metric).__name__} ignores scale and '
                'cannot compare velocities that start at zero; set '
                'encoder.zero_init to False.'
            )

    def _compared(
        self, steps: Steps, outputs: Tensor, goal: Prepared, led: Tensor
    ) -> Losses:
        """The mean loss of steps, by their outputs or by their velocities."""
        if self.compare == 'targets':
            return dict(loss_flow=self.metric.measure_steps(outputs, goal))
        source, velocity = steps.source, self.field.schedule.velocity
        here = resize(led, source).to(source)
        losses = [
            self.metric(given, velocity(source, here, step.t))
            for given, step in zip(steps.velocity, steps.steps)
        ]
        return dict(loss_flow=sum(losses) / len(steps))

    def _direct(
        self, output: Tensor, target: Tensor, labels: Optional[Tensor]
    ) -> Tensor:
        """``loss_direct``, of T of the source."""
        weight = self.loss_weight * self.direct_weight
        return weight * self.metric(output, target, labels)
