"""Transfer of a classifier's last feature, compared as logits."""

from typing import Callable, Dict, Optional, Sequence, Tuple

from mmengine.config import ConfigDict
from torch import Tensor

from ..flows.transforms import Head
from .builder import FeaturePair, build_transfer
from .feature_transfer import TapTransfer


class HeadTransfer(TapTransfer):
    """The flow between a classifier's backbone and its neck and head.

    Args:
        tap (str): ``'head'``.
        pair (FeaturePair): The last feature and the logits.
        variant (str): A key of ``VARIANTS``.
        flow (ConfigDict): Complete settings.
    """

    def __init__(
        self,
        tap: str,
        pair: FeaturePair,
        variant: str,
        flow: ConfigDict,
    ) -> None:
        super().__init__(tap, flow)
        self.flow = build_transfer(
            variant, pair, flow, flow.loss_weight, flow.encoder
        )

    def draw(self, source: Tensor) -> Tuple[int, Optional[Tensor]]:
        """Draw N and a permutation of the targets.

        They are drawn before ``forward``, in which the student's head draws
        from the student's random numbers.

        Args:
            source (Tensor): ``(B, C, H, W)`` or ``(B, C)``.
        """
        permutation = self.draw_permutation(source)
        return self.step_count.draw(), permutation

    def forward(
        self,
        source: Tensor,
        target: Optional[Tensor],
        labels: Tensor,
        head: Head,
        weight: float,
        num_steps: int,
        permutation: Optional[Tensor],
        diagnose: bool = False,
    ) -> Dict[str, Tensor]:
        """Return the losses.

        Args:
            source (Tensor): ``(B, C, H, W)`` or ``(B, C)``.
            target (Tensor, optional): The teacher's logits, ``(B,
                classes)``; None while the transfer rests.
            labels (Tensor): ``(B, )`` or ``(B, classes)``.
            head (Callable): The student's own.
            weight (float): Factor of the transfer's losses.
            num_steps (int): N.
            permutation (Tensor, optional): As ``draw`` returns it.
            diagnose (bool): Whether to add ``metric_of_mean``.

        Returns:
            dict: Losses named ``<tap>.<part>``.
        """
        losses, task, _ = self.flow.forward_head(
            source, target, num_steps, labels, head, permutation, diagnose
        )
        losses = {name: weight * loss for name, loss in losses.items()}
        return {
            f'{self.tap}.{name}': loss
            for name, loss in {**task, **losses}.items()
        }

    def logits(
        self,
        source: Tensor,
        head: Callable[[Tensor], Tensor],
        counts: Sequence[int] = (),
    ) -> Dict[int, Tensor]:
        """Return the mean of the logits of K steps, by K.

        Args:
            source (Tensor): ``(B, C, H, W)`` or ``(B, C)``.
            head (Callable): The student's own.
            counts (Sequence[int]): Values of K beside the configured one.
        """
        return self.flow.logits(source, (self.inference_steps, *counts), head)
