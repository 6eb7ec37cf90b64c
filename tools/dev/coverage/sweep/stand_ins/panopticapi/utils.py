"""Colours of segments and their numbers: R + 256 G + 256 ** 2 B."""

import numpy as np


def rgb2id(colours: np.ndarray) -> np.ndarray:
    """Return the numbers of colours ``(H, W, 3)``."""
    return colours.astype(np.int32) @ (1, 256, 256**2)


def id2rgb(numbers: np.ndarray) -> np.ndarray:
    """Return the colours of numbers ``(H, W)``."""
    return np.stack([numbers >> x & 255 for x in (0, 8, 16)], -1).astype(
        np.uint8
    )
