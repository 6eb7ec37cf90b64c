"""Transfer of the feature before a classifier's neck and head (tap 'head')."""

from typing import Dict, Optional, Tuple

from mmengine.config import ConfigDict
from torch import Tensor

from ..flows.transforms import Head
from .builder import FeaturePair, build_transfer
from .feature_transfer import TapTransfer
from .gradient_share import eager_while_measuring, weigh


class HeadTransfer(TapTransfer):
    """Transfer of the last feature of a classifier's backbone.

    The student's neck and head follow the flow, and logits are compared.

    Args:
        tap (str): ``'head'``, the feature before neck and head.
        pair (FeaturePair): The last feature, with logits as target.
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
            variant, pair, flow, flow.loss_weight, flow.encoder, tap
        )

    def draw(self, source: Tensor) -> Tuple[int, Optional[Tensor]]:
        """Draw N and a permutation of the targets.

        ``forward`` takes them as arguments, so that the distiller can draw
        them in its random stream and run the student's head outside it.

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
        """Return the losses of the transfer and of the student's task.

        Args:
            source (Tensor): ``(B, C, H, W)`` or ``(B, C)``.
            target (Tensor, optional): The teacher's logits, ``(B,
                classes)``; None without a teacher and while the transfer
                weight is 0.
            labels (Tensor): Classes ``(B, )`` or probabilities ``(B,
                classes)``.
            head (Callable): The student's head, a function from a feature to
                logits and task losses.
            weight (float): Factor of the transfer's losses.
            num_steps (int): N.
            permutation (Tensor, optional): Result of ``draw``.
            diagnose (bool): Whether to add ``metric_of_mean``.

        Returns:
            dict: Losses named ``<tap>.<term>``.
        """
        with eager_while_measuring(self.flow):
            losses, task_losses, _ = self.flow.forward_head(
                source, target, num_steps, labels, head, permutation, diagnose
            )
        task_losses |= weigh(self.flow, source, losses, weight)
        return {f'{self.tap}.{name}': x for name, x in task_losses.items()}
