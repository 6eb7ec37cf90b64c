"""Parameters and FLOPs of networks."""

from typing import Tuple

import torch
from mmengine.analysis import FlopAnalyzer
from torch import nn

from mmfmkt.models.distillers.probing import input_channels


def size_and_flops(
    detector: nn.Module, image_size: Tuple[int, int]
) -> Tuple[int, int]:
    """Count parameters and FLOPs of what is deployed.

    Args:
        detector (nn.Module): A detector, with its flow if it deploys one.
        image_size (tuple[int, int]): Width and height of the input.

    Returns:
        tuple[int, int]: Number of parameters, and FLOPs of one image as
        MMDetection counts them (one per multiply-add).
    """
    parameters = sum(p.numel() for p in detector.parameters())
    width, height = image_size
    device = next(detector.parameters()).device
    image = torch.zeros(
        1, input_channels(detector), height, width, device=device
    )
    with torch.no_grad():
        analyzer = FlopAnalyzer(detector, (image,))
        # Losses and the like are never called; that is as it should be.
        analyzer.uncalled_modules_warnings(False)
        analyzer.unsupported_ops_warnings(False)
        return parameters, int(analyzer.total())
