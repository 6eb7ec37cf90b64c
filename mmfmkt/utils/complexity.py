"""Parameters and FLOPs of networks."""

from contextlib import ExitStack
from typing import Tuple

import torch
from mmengine.analysis import FlopAnalyzer
from mmengine.model import BaseModel
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
    with ExitStack() as stack, torch.no_grad():
        if isinstance(network, BaseModel):
            # Two-stage and query-based detectors need the sizes of the images.
            samples = dummy_samples(image)
            hook = network.register_forward_pre_hook(
                lambda _, inputs: (*inputs, samples)
            )
            stack.callback(hook.remove)
        analyzer = FlopAnalyzer(network, (image,))
        # Inference does not call losses and other training modules.
        analyzer.uncalled_modules_warnings(False)
        analyzer.unsupported_ops_warnings(False)
        return count_parameters(network), int(analyzer.total())
