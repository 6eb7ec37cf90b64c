"""The flow of a classifier's last feature, compared where it ends: logits."""

from typing import Callable, Dict, Optional, Sequence, Tuple

from mmengine.config import ConfigDict
from torch import Tensor, nn

from ..flows import decouple_pairs
from ..flows.transforms import Head
from .builder import Ends, build_transfer, check_pairing
from .feature_transfer import weigh
from .step_count import StepCount


class HeadFlow(nn.Module):
    """The flow in front of a classifier's neck and head.

    Args:
        tap (str): Name of the tap, ``'head'``.
        in_channels (int): C of the last feature.
        vectors (bool): Whether it is ``(B, C)`` instead of a map.
        num_classes (int): Classes of student and teacher.
        variant (str): A key of ``VARIANTS``.
        flow (ConfigDict): Settings, complete.
    """

    def __init__(
        self,
        tap: str,
        in_channels: int,
        vectors: bool,
        num_classes: int,
        variant: str,
        flow: ConfigDict,
    ) -> None:
        super().__init__()
        self.tap = tap
        self.inference_steps = flow.inference_steps
        self.dirac_ratio = flow.dirac_ratio
        self.step_count = StepCount(flow.num_steps)
        check_pairing(variant, flow)
        ends = Ends(in_channels, num_classes, vectors, 'logits')
        self.flow = build_transfer(
            variant, ends, flow, flow.loss_weight, flow.encoder
        )

    def draw(self, source: Tensor) -> Tuple[int, Optional[Tensor]]:
        """Draw N, and which samples the flow is led to (None: its own).

        Apart from the walk, since the student's own head, in which that
        ends, draws from the student's random numbers.

        Args:
            source (Tensor): ``(B, C, H, W)`` or ``(B, C)``.
        """
        order = None
        if self.dirac_ratio < 1:
            order = decouple_pairs(
                len(source), self.dirac_ratio, device=source.device
            )
        return self.step_count.draw(), order

    def transfer(
        self,
        source: Tensor,
        target: Optional[Tensor],
        labels: Tensor,
        head: Head,
        weight: float,
        num_steps: int,
        order: Optional[Tensor],
        diagnose: bool = False,
    ) -> Dict[str, Tensor]:
        """Walk and compare.

        Args:
            source (Tensor): ``(B, C, H, W)`` or ``(B, C)``.
            target (Tensor, optional): The teacher's logits, ``(B,
                classes)``; None while the transfer is stopped.
            labels (Tensor): ``(B, )`` or ``(B, classes)``.
            head (Callable): The student's own.
            weight (float): Factor of the transfer's losses.
            num_steps (int): N.
            order (Tensor, optional): As ``draw`` gives it.
            diagnose (bool): Whether to give ``metric_of_mean`` as well.

        Returns:
            dict: Losses named ``<tap>.<part>``.
        """
        # As a function: a compiled call would trace the student's head.
        losses, _ = self.flow.forward(
            source, target, num_steps, labels, head, order, diagnose
        )
        return weigh(losses, weight, prefix=f'{self.tap}.')

    def logits(
        self,
        source: Tensor,
        head: Callable[[Tensor], Tensor],
        counts: Sequence[int] = (),
    ) -> Dict[int, Tensor]:
        """Return what is deployed, the mean of the logits of K steps, by K.

        Args:
            source (Tensor): ``(B, C, H, W)`` or ``(B, C)``.
            head (Callable): The student's own.
            counts (Sequence[int]): Further K beside the configured one.
        """
        return self.flow.logits(source, (self.inference_steps, *counts), head)
