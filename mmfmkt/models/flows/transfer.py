"""The flow transfer: serial training, and what each variant deploys.

Sections 2 and 3 of the method (arXiv 2402.02012, Alg. 1).
"""

from typing import Callable, Dict, List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmfmkt.registry import build_part
from mmfmkt.utils import ConfigError

from .sampler import Walk, euler_walk
from .shape_transform import PooledHead, ShapeTransform, resize

Losses = Dict[str, Tensor]
# A student's own head: from a feature to logits and the losses of its task.
Head = Callable[[Tensor], Tuple[Tensor, Losses]]
PREDICTIONS = ('velocity', 'target')
COMPARED = ('targets', 'velocities')


class FlowTransfer(nn.Module):
    """FM-KT: leads a student's feature to a teacher's, in training and after.

    The deployed feature is the mean of the estimates of the target. Under
    rectified flow it is the state Z_0; under the other schedules Z_0 still
    holds some of the source and an error of the walk that changes with K,
    while the mean does not.

    Args:
        in_channels (int): C_s of the student's feature.
        target_channels (int, optional): C_t of the teacher's feature, or its
            number of classes. None leaves out what only training needs: the
            flow can then walk but not be trained.
        encoder (dict): Config of the meta-encoder.
        schedule (dict): Config of the noise schedule.
        metric (dict): Config of the metric D.
        loss_weight (float): Weight of the losses of the transfer.
        prediction (str): What the encoder predicts, ``'velocity'`` or
            ``'target'``.
        compare (str): ``'targets'``: D(T(X_hat), X_T); ``'velocities'``:
            D(v, alpha' X_S + sigma' X_T), for features of equal shape.
        direct_weight (float): Weight, in units of ``loss_weight``, of a
            term D(T(X_S), X_T) beside the flow's.
        space (str): ``'maps'`` (B, C, H, W), ``'vectors'`` (B, C) or
            ``'logits'`` (B, classes): what is compared.
        vectors (bool): Whether the student's feature is (B, C) instead of
            (B, C, H, W).
        labelled (bool): Whether ``forward`` is going to be given labels.
        own_head (bool): Whether T is the student's own head, which
            ``forward`` and ``logits`` are then given, instead of pooling and
            a linear layer; in the space of logits.

    Raises:
        ConfigError: If the settings make no sense together.
    """

    # Whether the flow's output takes the place of the student's feature.
    deploys_flow = True
    needs_teacher = True
    # Whether a flow is led to the teacher, so that pairs can be decoupled.
    pairs = True

    def __init__(
        self,
        in_channels: int,
        target_channels: Optional[int],
        encoder: dict,
        schedule: dict,
        metric: dict,
        loss_weight: float = 1.0,
        prediction: str = 'velocity',
        compare: str = 'targets',
        direct_weight: float = 0.0,
        space: str = 'maps',
        vectors: bool = False,
        labelled: bool = False,
        own_head: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels, self.target_channels = in_channels, target_channels
        self.loss_weight, self.direct_weight = loss_weight, direct_weight
        self.prediction, self.compare = prediction, compare
        self.space, self.labelled = space, labelled
        self.own_head = own_head
        self.vectors = vectors or space == 'vectors'
        self.equal_shape = False
        self._check_words()
        if target_channels is not None:
            self.transform = self._build_transform()
            self.metric = build_part(metric)
            self._check_metric()
        self._build_walk(encoder, schedule)

    def _build_walk(self, encoder: dict, schedule: dict) -> None:
        """Build what also the deployed flow has."""
        self.encoder = build_part(
            encoder,
            channels=self.in_channels,
            deep_time=self.space == 'logits',
        )
        self.schedule = build_part(schedule)
        self.schedule.check()
        if self.vectors and not self.encoder.takes_vectors:
            raise ConfigError(
                f'model.flow.encoder {type(self.encoder).__name__} takes '
                'feature maps, but the feature is a vector; an MLPEncoder '
                'takes both.'
            )
        if (
            self.compare == 'velocities'
            and self.encoder.zero_init
            and self.target_channels
            and self.metric.ignores_scale
        ):
            raise ConfigError(
                f'model.flow.metric {type(self.metric).__name__} ignores '
                'scale and cannot compare velocities that start at zero; set '
                'model.flow.encoder.zero_init to False.'
            )

    def _build_transform(self) -> nn.Module:
        """Build T, unless it is the student's own head."""
        return nn.Identity() if self.own_head else self._new_transform()

    def _new_transform(self) -> nn.Module:
        """Build a map from the student's space to the teacher's.

        Where both must have one shape, it is the identity, also among
        logits: what flows is then the student's own logits.
        """
        if self.space == 'logits' and not self.equal_shape:
            return PooledHead(self.in_channels, self.target_channels)
        return ShapeTransform(
            self.in_channels, self.target_channels, self.vectors
        )

    def _check_words(self) -> None:
        """Refuse words that mean nothing, alone or together."""
        for key, value, words in (
            ('prediction', self.prediction, PREDICTIONS),
            ('compare', self.compare, COMPARED),
        ):
            if value not in words:
                raise ConfigError(
                    f'model.flow.{key} must be one of '
                    f'{", ".join(words)}, but is {value!r}.'
                )
        if self.compare == 'velocities':
            self._insist_on_equal_shape("model.flow.compare 'velocities'")

    def _insist_on_equal_shape(self, what: str) -> None:
        """Refuse what mixes both networks' features where it cannot."""
        self.equal_shape = True
        unlike = self.target_channels not in (None, self.in_channels)
        if (
            unlike
            or self.own_head
            or (self.space == 'logits' and not self.vectors)
        ):
            kind = 'logits' if self.space == 'logits' else 'channels'
            raise ConfigError(
                f"{what} needs features of equal shape, but the student's "
                f'has {self.in_channels} channels and the target '
                f'{self.target_channels} {kind}.'
            )

    def _check_metric(self) -> None:
        """Refuse a metric for which there is nothing to compare."""
        name = type(self.metric).__name__
        if self.space not in self.metric.spaces:
            raise ConfigError(
                f'model.flow.metric {name} compares '
                f'{" or ".join(self.metric.spaces)}, but the target is '
                f'{self.space} here.'
            )
        if self.metric.needs_labels and not self.labelled:
            raise ConfigError(
                f'model.flow.metric {name} needs the labels of the samples, '
                'and there are none here.'
            )

    def predict(
        self, source: Tensor, state: Tensor, t: float
    ) -> Tuple[Tensor, Tensor]:
        """Return the velocity at a state, and the target it points at.

        Where the encoder starts as the identity, what it gives counts from
        the velocity, or the target, of a flow that stays at the source.

        Args:
            source (Tensor): ``X_S``, float32 or better, any shape.
            state (Tensor): ``Z_t``, shape of ``source``.
            t (float): Time in (0, 1].
        """
        given = self.encoder(state, t).to(source)
        at = self.schedule(t)
        if self.prediction == 'target':
            estimate = given + source if self.encoder.zero_init else given
            return self.schedule.velocity(source, estimate, t), estimate
        if self.encoder.zero_init:
            given = given + (at.d_alpha + at.d_sigma) * source
        return given, self.schedule.estimate(source, given, t)

    def walk(self, source: Tensor, num_steps: int) -> Walk:
        """Walk from the source; states are float32 or better.

        Args:
            source (Tensor): ``X_S``, ``(B, C_s, H, W)`` or ``(B, C_s)``.
            num_steps (int): N or K.
        """
        exact = source.to(torch.promote_types(source.dtype, torch.float32))
        return euler_walk(
            lambda state, t: self.predict(exact, state, t), exact, num_steps
        )

    def transport(self, source: Tensor, num_steps: int) -> Tensor:
        """Return what is deployed in the place of the source.

        Args:
            source (Tensor): ``X_S``, ``(B, C_s, H, W)`` or ``(B, C_s)``.
            num_steps (int): K, any positive integer.

        Returns:
            Tensor: The mean of the estimates, shape and type of ``source``.
        """
        return self.walk(source, num_steps).mean.to(source.dtype)

    def logits(
        self,
        source: Tensor,
        num_steps: int,
        head: Optional[Callable[[Tensor], Tensor]] = None,
    ) -> Tensor:
        """Return the implicit ensemble of logits, ``mean_i T(X_hat_i)``.

        Args:
            source (Tensor): ``X_S``, ``(B, C_s, H, W)`` or ``(B, C_s)``.
            num_steps (int): K, any positive integer.
            head (Callable, optional): The student's own head, where it is T.

        Returns:
            Tensor: ``(B, classes)``.
        """
        estimates = self.walk(source, num_steps).estimates
        return torch.stack(
            [(head or self.transform)(x) for x in estimates]
        ).mean(0)

    def forward(
        self,
        source: Tensor,
        target: Optional[Tensor],
        num_steps: int,
        labels: Optional[Tensor] = None,
        head: Optional[Head] = None,
        order: Optional[Tensor] = None,
    ) -> Tuple[Losses, Tensor]:
        """Walk and compare.

        Args:
            source (Tensor): ``X_S``, ``(B, C_s, H, W)`` or ``(B, C_s)``;
                gradients reach it.
            target (Tensor, optional): ``X_T``, ``(B, C_t, H', W')``, ``(B,
                C_t)`` or ``(B, classes)``; detached. None while the transfer
                is stopped, and where there is no teacher.
            num_steps (int): N.
            labels (Tensor, optional): Classes ``(B, )`` or probabilities
                ``(B, classes)``.
            head (Callable, optional): The student's own head, with
                ``own_head``.
            order (Tensor, optional): Indices ``(B, )`` of
                ``decouple_pairs``: which samples the flow is led to. All
                other terms compare a sample with itself.

        Returns:
            tuple: Losses by name (and ``ensemble``, of no gradient: the loss
            of the mean of the estimates, which ``loss_flow`` bounds for a
            convex D), and what the student's head reads, or, in the space of
            logits, the logits. Losses of the student's task have names that
            start with ``task`` or ``loss_task``; all others are of the
            transfer.
        """
        walk = self.walk(source, num_steps)
        return self._losses(walk, source, target, labels, head, order)

    def _losses(
        self,
        walk: Walk,
        source: Tensor,
        target: Optional[Tensor],
        labels: Optional[Tensor],
        head: Optional[Head],
        order: Optional[Tensor],
    ) -> Tuple[Losses, Tensor]:
        """What ``forward`` returns, of a walk."""
        outputs, task = self._outputs(walk.estimates, target, labels, head)
        if target is None:
            losses = dict(loss_flow=self._idle_loss(source))
        else:
            losses = self._flow_losses(
                walk, outputs, source, target, labels, order
            )
            if self.direct_weight:
                direct, _ = self._outputs([source], target, labels, head)
                weight = self.loss_weight * self.direct_weight
                losses['loss_direct'] = weight * self.metric(
                    direct[0], target, labels
                )
        losses.update(task)
        if self.space == 'logits':
            return losses, torch.stack(outputs).mean(0)
        return losses, walk.mean.to(source.dtype)

    def _outputs(
        self,
        features: List[Tensor],
        target: Optional[Tensor],
        labels: Optional[Tensor],
        head: Optional[Head],
        smoothing: float = 0.0,
    ) -> Tuple[List[Tensor], Losses]:
        """T of each feature, and the mean losses of the task on them."""
        if self.own_head:
            outputs, losses = zip(*[head(x) for x in features])
            return list(outputs), {
                name: sum(x[name] for x in losses) / len(losses)
                for name in losses[0]
            }
        return self._transformed(
            self.transform, features, target, labels, smoothing
        )

    def _transformed(
        self,
        transform: nn.Module,
        features: List[Tensor],
        target: Optional[Tensor],
        labels: Optional[Tensor],
        smoothing: float,
    ) -> Tuple[List[Tensor], Losses]:
        size = None if target is None else target.shape[2:] or None
        outputs = [transform(x, size) for x in features]
        if self.space != 'logits' or labels is None:
            return outputs, {}
        losses = [
            F.cross_entropy(x, labels, label_smoothing=smoothing)
            for x in outputs
        ]
        return outputs, dict(loss_task=sum(losses) / len(losses))

    def _flow_losses(
        self,
        walk: Walk,
        outputs: List[Tensor],
        source: Tensor,
        target: Tensor,
        labels: Optional[Tensor],
        order: Optional[Tensor],
    ) -> Losses:
        """``loss_flow`` over the steps, and beside it the ensemble's."""
        if order is not None:
            # The labels of a pair are those of the sample that it leads to.
            target = target[order]
            labels = None if labels is None else labels[order]
        goal = self.metric.prepare(target, labels, outputs[0].dtype)
        if self.compare == 'targets':
            losses = [self.metric.measure(x, goal) for x in outputs]
        else:
            here = resize(target, source.shape[2:])
            steps = len(walk.velocities)
            losses = [
                self.metric(
                    v,
                    self.schedule.velocity(
                        source.to(v), here.to(v), (steps - i) / steps
                    ),
                    labels,
                )
                for i, v in enumerate(walk.velocities)
            ]
        running = self.loss_weight * sum(losses) / len(losses)
        with torch.no_grad():
            mean = torch.stack(outputs).mean(0)
            ensemble = self.loss_weight * self.metric.measure(mean, goal)
        return dict(loss_flow=running, ensemble=ensemble)

    def _idle_loss(self, source: Tensor) -> Tensor:
        """Zero, from every parameter: data parallelism waits for them all."""
        return sum(
            (0 * p.sum() for p in self.parameters()), source.new_zeros(())
        )


class ThetaTransfer(FlowTransfer):
    """FM-KT^Theta: the flow teaches and stays behind (section 3).

    A training-only branch with a ``T`` of its own: the student's feature,
    through ``T_s``, follows the mean of the flow's estimates, and the
    student's head reads the feature as it is. In the space of logits the
    branch learns the labels too, and ``own_head`` means ``T_s``. Arguments
    as FM-KT.
    """

    deploys_flow = False

    def _build_transform(self) -> nn.Module:
        if not self.own_head:
            self.student_transform = self._new_transform()
        return self._new_transform()

    def forward(
        self,
        source: Tensor,
        target: Optional[Tensor],
        num_steps: int,
        labels: Optional[Tensor] = None,
        head: Optional[Head] = None,
        order: Optional[Tensor] = None,
    ) -> Tuple[Losses, Tensor]:
        own, task = self._student(source, target, labels, head)
        output = own if self.space == 'logits' else source
        if target is None:
            return dict(loss_flow=self._idle_loss(source), **task), output
        walk = self.walk(source, num_steps)
        outputs, branch = self._transformed(
            self.transform, walk.estimates, target, labels, smoothing=0.0
        )
        losses = self._flow_losses(
            walk, outputs, source, target, labels, order
        )
        ensemble = torch.stack(outputs).mean(0)
        losses['loss_student'] = self.loss_weight * self.metric(
            own, ensemble, labels
        )
        if self.direct_weight:
            weight = self.loss_weight * self.direct_weight
            losses['loss_direct'] = weight * self.metric(own, target, labels)
        if branch:
            losses['loss_branch'] = branch['loss_task']
        return {**losses, **task}, output

    def _student(self, source, target, labels, head) -> Tuple[Tensor, Losses]:
        """``T_s(X_S)``, and the losses of the student's task on it."""
        if self.own_head:
            return head(source)
        outputs, task = self._transformed(
            self.student_transform, [source], target, labels, smoothing=0.0
        )
        return outputs[0], task

    def logits(
        self,
        source: Tensor,
        num_steps: int,
        head: Optional[Callable[[Tensor], Tensor]] = None,
    ) -> Tensor:
        """Return the plain student's logits; steps play no part."""
        return (head or self.student_transform)(source)


class OnlineTransfer(FlowTransfer):
    """OFM-KT: no teacher, each step follows the mean of all (section 3).

    ``o_i = T(X_hat_i)`` is led to ``sg(mean_j o_j)``, and in the space of
    logits to the labels: smoothed by 0.1, or as the student's own head has
    it. In the space of features T is the identity. Arguments as FM-KT.
    """

    needs_teacher = False
    pairs = False
    label_smoothing = 0.1

    def _check_words(self) -> None:
        super()._check_words()
        if self.direct_weight or self.compare != 'targets':
            raise ConfigError(
                "model.variant 'online' has no teacher: leave out "
                'model.flow.direct_weight and model.flow.compare.'
            )

    def _losses(
        self,
        walk: Walk,
        source: Tensor,
        target: Optional[Tensor],
        labels: Optional[Tensor],
        head: Optional[Head],
        order: Optional[Tensor],
    ) -> Tuple[Losses, Tensor]:
        outputs, task = self._outputs(
            walk.estimates, None, labels, head, self.label_smoothing
        )
        mean = torch.stack(outputs).mean(0)
        goal = self.metric.prepare(mean, labels)
        losses = [self.metric.measure(x, goal) for x in outputs]
        running = self.loss_weight * sum(losses) / len(losses)
        output = mean if self.space == 'logits' else walk.mean
        return dict(loss_flow=running, **task), output.to(
            mean if self.space == 'logits' else source
        )


class ParallelTransfer(FlowTransfer):
    """Parallel training, the ablation: states drawn from the interpolant.

    The encoder sees ``Z_t = alpha_t X_S + sigma_t X_T`` in training, which
    leaks the target that it has to find, and its own states at inference
    (section 3). Arguments as FM-KT; shapes must be equal.
    """

    def _check_words(self) -> None:
        super()._check_words()
        self._insist_on_equal_shape("model.variant 'parallel'")

    def forward(
        self,
        source: Tensor,
        target: Optional[Tensor],
        num_steps: int,
        labels: Optional[Tensor] = None,
        head: Optional[Head] = None,
        order: Optional[Tensor] = None,
    ) -> Tuple[Losses, Tensor]:
        if target is None:
            return super().forward(source, target, num_steps, labels, head)
        paired = target if order is None else target[order]
        exact = source.to(torch.promote_types(source.dtype, torch.float32))
        here = resize(paired, source.shape[2:]).detach().to(exact)
        walk = Walk([], [], exact)
        for i in range(num_steps, 0, -1):
            at = self.schedule(i / num_steps)
            state = at.alpha * exact + at.sigma * here
            velocity, estimate = self.predict(exact, state, i / num_steps)
            walk.velocities.append(velocity)
            walk.estimates.append(estimate)
        return self._losses(walk, source, target, labels, head, order)


class DirectTransfer(FlowTransfer):
    """No flow: D(T(X_S), X_T), the metric's own distillation.

    What the flow is measured against, under the same settings. Arguments as
    FM-KT; encoder, schedule and steps play no part.
    """

    deploys_flow = False
    pairs = False

    def _build_walk(self, encoder: dict, schedule: dict) -> None:
        """Nothing is walked."""
        if self.direct_weight or self.compare != 'targets':
            raise ConfigError(
                "model.variant 'direct' has no flow: leave out "
                'model.flow.direct_weight and model.flow.compare.'
            )

    def forward(
        self,
        source: Tensor,
        target: Optional[Tensor],
        num_steps: int,
        labels: Optional[Tensor] = None,
        head: Optional[Head] = None,
        order: Optional[Tensor] = None,
    ) -> Tuple[Losses, Tensor]:
        outputs, task = self._outputs([source], target, labels, head)
        if target is None:
            direct = self._idle_loss(source)
        else:
            direct = self.loss_weight * self.metric(outputs[0], target, labels)
        output = outputs[0] if self.space == 'logits' else source
        return dict(loss_direct=direct, **task), output

    def logits(
        self,
        source: Tensor,
        num_steps: int,
        head: Optional[Callable[[Tensor], Tensor]] = None,
    ) -> Tensor:
        """Return the plain student's logits; steps play no part."""
        return (head or self.transform)(source)


VARIANTS = dict(
    fmkt=FlowTransfer,
    theta=ThetaTransfer,
    online=OnlineTransfer,
    parallel=ParallelTransfer,
    direct=DirectTransfer,
)
