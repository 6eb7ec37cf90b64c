"""What the variants of the transfer share: parts, weights and readings."""

from abc import ABCMeta, abstractmethod
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from ..losses.base import BaseMetricLoss, Prepared
from .transforms import Head, Losses, MapTransform, resize
from .velocity import VelocityField
from .walk import Step, Steps, Walk

COMPARED = ('targets', 'velocities')
MAX_GRAPHS = 64


class Transfer(nn.Module, metaclass=ABCMeta):
    """Base of the variants: leads a student's feature to a teacher's.

    Args:
        field (VelocityField, optional): The flow; None where there is none.
        metric (BaseMetricLoss, optional): The metric D. None leaves out what
            only training needs: the flow can then walk but not be trained.
        transform (nn.Module, optional): T, by default without a map of
            channels. Where calls bring the student's own head along, that is
            T.
        loss_weight (float): Weight of the losses of the transfer.
        direct_weight (float): Weight, in units of ``loss_weight``, of a
            term D(T(X_S), X_T) beside the flow's.
        compare (str): ``'targets'``: D(T(X_hat), X_T); ``'velocities'``:
            D(v, alpha' X_S + sigma' X_T), for features of equal shape.
        with_cp (bool): Whether backward computes the steps once more
            instead of keeping what it needs of each, to save memory.

    Raises:
        ValueError: If the settings make no sense together.
    """

    # Whether the flow's output takes the place of the student's feature.
    deploys_flow = True
    needs_teacher = True
    # Whether a flow is led to the teacher, so that pairs can be decoupled.
    pairs = True
    # Whether there is a flow at all.
    walks = True
    # Whether student's and teacher's features are mixed.
    mixes = False
    # Settings that a variant alone has, and the transforms, in the order in
    # which they are built.
    settings: Sequence[str] = ()
    transforms: Sequence[str] = ('transform',)

    def __init__(
        self,
        field: Optional[VelocityField] = None,
        metric: Optional[BaseMetricLoss] = None,
        transform: Optional[nn.Module] = None,
        loss_weight: float = 1.0,
        direct_weight: float = 0.0,
        compare: str = 'targets',
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        self.loss_weight, self.direct_weight = loss_weight, direct_weight
        self.compare, self.with_cp = compare, with_cp
        self.transform = transform
        if metric is not None and transform is None:
            self.transform = MapTransform()
        self.metric, self.field = metric, field
        self._check()

    def _check(self) -> None:
        """Refuse settings that mean nothing, alone or together."""
        if self.compare not in COMPARED:
            raise ValueError(
                f'compare must be one of {", ".join(COMPARED)}, but is '
                f'{self.compare!r}.'
            )
        if (
            self.compare == 'velocities'
            and self.metric is not None
            and self.metric.ignores_scale
            and self.field.encoder.zero_init
        ):
            raise ValueError(
                f'metric {type(self.metric).__name__} ignores scale and '
                'cannot compare velocities that start at zero; set '
                'encoder.zero_init to False.'
            )

    @abstractmethod
    def forward(
        self,
        source: Tensor,
        target: Optional[Tensor],
        num_steps: int,
        labels: Optional[Tensor] = None,
        head: Optional[Head] = None,
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
                ``(B, classes)``.
            head (Callable, optional): The student's own head as T, from a
                feature to logits and the losses of its task.
            order (Tensor, optional): Indices ``(B, )`` of
                ``decouple_pairs``: which samples the flow is led to. All
                other terms compare a sample with itself.
            diagnose (bool): Whether to give ``metric_of_mean`` as well, of
                no gradient: D of the mean of the estimates, which is what is
                deployed, in the units of ``loss_flow``, which bounds it for
                a convex D.

        Returns:
            tuple: Losses by name, and what the student's head reads, or,
            with ``head``, the logits. Losses of the student's task have
            names that start with ``task`` or ``loss_task``; all others are
            of the transfer.
        """

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

    def compile(self, **options: Any) -> None:
        """Compile the transfer of a level: walk, T and metric.

        A call is one graph, with N as a constant of it: a number of steps
        that is drawn for the first time compiles one more. Calls of
        ``forward`` itself, as those with a student's own head, which is not
        ours to compile, and ``transport`` have encoder and metric compiled.

        Args:
            options: Of ``torch.compile``. By default sizes are ``dynamic``,
                so that those of another image compile nothing again.
        """
        # Imported where it is used: it takes seconds.
        from torch._dynamo import config

        # A graph for each N that may be drawn; PyTorch gives up after 8.
        config.cache_size_limit = max(config.cache_size_limit, MAX_GRAPHS)
        options = {'dynamic': True, **options}
        super().compile(**options)
        if self.field is not None:
            self.field.encoder.core.compile(**options)
        if self.metric is not None:
            self.metric.compile(**options)

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

    def _read(
        self, feature: Tensor, target: Optional[Tensor], head: Optional[Head]
    ) -> Tuple[Tensor, Losses]:
        """T of a feature, and the losses of the student's task on it."""
        if head is not None:
            return head(feature)
        return self.transform(feature, target), {}

    def _transformed(self, steps: Steps, target: Optional[Tensor]) -> Tensor:
        """T of the estimates of all steps, as one batch."""
        flat = self.transform(steps.estimate.flatten(0, 1), target)
        return flat.unflatten(0, (len(steps), -1))

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

    @torch.no_grad()
    def _of_mean(self, output: Tensor, goal: Prepared) -> Tensor:
        """``metric_of_mean``, of T of the mean of the estimates."""
        return self.loss_weight * self.metric.measure(output, goal)

    def _direct(
        self, output: Tensor, target: Tensor, labels: Optional[Tensor]
    ) -> Tensor:
        """``loss_direct``, of T of the source."""
        weight = self.loss_weight * self.direct_weight
        return weight * self.metric(output, target, labels)

    def _idle_loss(self, source: Tensor) -> Tensor:
        """Zero, from every parameter: data parallelism waits for them all."""
        return sum(
            (0 * p.sum() for p in self.parameters()), source.new_zeros(())
        )
