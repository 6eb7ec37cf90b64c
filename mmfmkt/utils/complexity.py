"""Parameters and FLOPs of networks."""

from typing import Tuple

import torch
from mmengine.analysis import FlopAnalyzer
from torch import nn

from mmfmkt.models.distillers.probing import input_channels


def size_and_flops(
    network: nn.Module, image_size: Tuple[int, int]
) -> Tuple[int, int]:
    """Count parameters and FLOPs of a deployed network.

    Args:
        network (nn.Module): A network, including its flow if it has one.
        image_size (tuple[int, int]): Width and height of the input.

    Returns:
        tuple[int, int]: Number of parameters, and FLOPs of one image as
        MMDetection counts them (one per multiply-add).
    """
    parameters = sum(p.numel() for p in network.parameters())
    width, height = image_size
    device = next(network.parameters()).device
    image = torch.zeros(
        1, input_channels(network), height, width, device=device
    )
    with torch.no_grad():
        analyzer = FlopAnalyzer(network, (image,))
        # Inference does not call losses and other training modules.
        analyzer.uncalled_modules_warnings(False)
        analyzer.unsupported_ops_warnings(False)
        return parameters, int(analyzer.total())
