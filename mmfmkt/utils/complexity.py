"""Parameters and FLOPs of networks."""

from functools import partial
from typing import Tuple

import torch
from mmengine.analysis import FlopAnalyzer
from torch import nn

from mmfmkt.models.distillers.probing import input_channels
from mmfmkt.models.distillers.taps import dummy_samples
from mmfmkt.models.flows import Transfer


def count_parameters(network: nn.Module) -> int:
    """Count the parameters of a deployed network."""
    transfers = [x for x in network.modules() if isinstance(x, Transfer)]
    deployed = [part for x in transfers for part in x.deployed_modules]
    training = {*nn.ModuleList(transfers).parameters()}
    training -= {*nn.ModuleList(deployed).parameters()}
    return sum(p.numel() for p in {*network.parameters()} - training)


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
    width, height = image_size
    device = next(network.parameters()).device
    image = torch.zeros(
        1, input_channels(network), height, width, device=device
    )
    # Two-stage and query-based detectors need the sizes of the images.
    network.forward = partial(
        network.forward, data_samples=dummy_samples(image)
    )
    try:
        with torch.no_grad():
            analyzer = FlopAnalyzer(network, (image,))
            # Inference does not call losses and other training modules.
            analyzer.uncalled_modules_warnings(False)
            analyzer.unsupported_ops_warnings(False)
            return count_parameters(network), int(analyzer.total())
    finally:
        del network.forward
