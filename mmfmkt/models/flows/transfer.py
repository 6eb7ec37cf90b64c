"""The flow transfer: serial training, and what each variant deploys.

Section 2 and 3 of the method (arXiv 2402.02012, Alg. 1).
"""

from typing import Dict, Optional, Tuple

import torch
from torch import Tensor, nn

from mmfmkt.registry import build_part

from .sampler import Walk, euler_walk
from .shape_transform import ShapeTransform


class FlowTransfer(nn.Module):
    """FM-KT: leads a student's feature to a teacher's, in training and after.

    Args:
        in_channels (int): C_s of the student's feature.
        target_channels (int, optional): C_t of the teacher's feature. None
            leaves out what only training needs: the flow can then walk but
            not be trained.
        encoder (dict): Config of the meta-encoder.
        schedule (dict): Config of the noise schedule.
        metric (dict): Config of the metric D.
        loss_weight (float): Weight of the losses.
    """

    # Whether the flow's output takes the place of the student's feature.
    deploys_flow = True

    def __init__(self, in_channels: int, target_channels: Optional[int],
                 encoder: dict, schedule: dict, metric: dict,
                 loss_weight: float) -> None:
        super().__init__()
        self.encoder = build_part(encoder, channels=in_channels)
        self.schedule = build_part(schedule)
        self.loss_weight = loss_weight
        if target_channels is not None:
            self.transform = ShapeTransform(in_channels, target_channels)
            self.metric = build_part(metric)

    def walk(self, source: Tensor, num_steps: int) -> Walk:
        """Walk from the source; states are float32 or better.

        Args:
            source (Tensor): ``X_S``, ``(B, C_s, H, W)``.
            num_steps (int): N or K.
        """
        exact = source.to(torch.promote_types(source.dtype, torch.float32))
        return euler_walk(
            lambda state, t: self.encoder(state.to(source.dtype), t).to(exact),
            exact, self.schedule, num_steps)

    def transport(self, source: Tensor, num_steps: int) -> Tensor:
        """Return ``Z_0``, the transferred feature, as at inference.

        Args:
            source (Tensor): ``X_S``, ``(B, C_s, H, W)``.
            num_steps (int): K, any positive integer.

        Returns:
            Tensor: Shape and type of ``source``.
        """
        return self.walk(source, num_steps).final.to(source.dtype)

    def forward(self, source: Tensor, target: Tensor,
                num_steps: int) -> Tuple[Dict[str, Tensor], Tensor]:
        """Walk and compare.

        Args:
            source (Tensor): ``X_S``, ``(B, C_s, H, W)``; gradients reach it.
            target (Tensor): ``X_T``, ``(B, C_t, H', W')``; detached.
            num_steps (int): N.

        Returns:
            tuple: Losses by name, and the feature that the student's head
            reads (shape and type of ``source``).
        """
        walk, estimates = self._walk_transformed(source, target, num_steps)
        losses = dict(loss_flow=self._mean_metric(estimates, target))
        return losses, walk.final.to(source.dtype)

    def _walk_transformed(self, source, target, num_steps):
        walk = self.walk(source, num_steps)
        size = target.shape[-2:]
        return walk, [self.transform(x, size) for x in walk.estimates]

    def _mean_metric(self, estimates, target):
        losses = [self.metric(x, target) for x in estimates]
        return self.loss_weight * sum(losses) / len(losses)


class ThetaTransfer(FlowTransfer):
    """FM-KT^Theta: the flow teaches and stays behind (section 3).

    A training-only branch: the student's own feature, through a transform
    ``T_s`` of its own, follows the mean of the flow's estimates, and the
    student's head reads the feature as it is. Arguments as FM-KT.
    """

    deploys_flow = False

    def __init__(self, in_channels: int, target_channels: Optional[int],
                 *args, **kwargs) -> None:
        super().__init__(in_channels, target_channels, *args, **kwargs)
        if target_channels is not None:
            self.student_transform = ShapeTransform(in_channels,
                                                    target_channels)

    def forward(self, source: Tensor, target: Tensor,
                num_steps: int) -> Tuple[Dict[str, Tensor], Tensor]:
        _, estimates = self._walk_transformed(source, target, num_steps)
        ensemble = torch.stack(estimates).mean(0)
        student = self.student_transform(source, target.shape[-2:])
        losses = dict(
            loss_flow=self._mean_metric(estimates, target),
            loss_student=self.loss_weight * self.metric(student, ensemble))
        return losses, source


VARIANTS = dict(fmkt=FlowTransfer, theta=ThetaTransfer)
