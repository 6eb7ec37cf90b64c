"""KD: Distilling the Knowledge in a Neural Network (arXiv 1503.02531)."""

import torch.nn.functional as F
from torch import Tensor

from mmfmkt.registry import MODELS

from .base import BaseMetricLoss


@MODELS.register_module()
class KDLoss(BaseMetricLoss):
    """T^2 KL(softmax(q / T) || softmax(p / T)), mean over the batch.

    Args:
        temperature (float): T; 4 is usual on CIFAR, 1 on ImageNet.
    """

    spaces = ('logits', )

    def __init__(self, temperature: float = 4.) -> None:
        super().__init__()
        self.temperature = temperature

    def compare(self, pred: Tensor, target: Tensor) -> Tensor:
        return self.temperature**2 * F.kl_div(
            F.log_softmax(pred / self.temperature, dim=1),
            F.log_softmax(target / self.temperature, dim=1),
            reduction='batchmean',
            log_target=True)
