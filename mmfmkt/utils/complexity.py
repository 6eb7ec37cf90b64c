"""Size and speed of detectors."""

import statistics
import time
from typing import Dict, Tuple

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


def latencies(
    detectors: Dict[str, nn.Module], image: str, repeats: int = 20
) -> Dict[str, float]:
    """Time detectors on one image, turn by turn.

    Turns are what makes the figures comparable on a machine that does other
    things as well.

    Args:
        detectors (dict[str, nn.Module]): Detectors of
            ``mmdet.apis.init_detector``.
        image (str): Path of the image.
        repeats (int): Times that each detector is run.

    Returns:
        dict[str, float]: Median seconds from image file to boxes.
    """
    from mmdet.apis import inference_detector

    times: Dict[str, list] = {name: [] for name in detectors}
    for turn in range(repeats + 2):
        for name, detector in detectors.items():
            start = time.perf_counter()
            # Moving the boxes to the CPU waits for the GPU.
            inference_detector(detector, image).cpu()
            if turn >= 2:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(x) for name, x in times.items()}
