"""Conversion between colors and ids: id = R + 256 G + 256 ** 2 B."""

import numpy as np


def rgb2id(colors: np.ndarray) -> np.ndarray:
    """Return the ids of colors ``(H, W, 3)``."""
    return colors.astype(np.int32) @ (1, 256, 256**2)


def id2rgb(ids: np.ndarray) -> np.ndarray:
    """Return the colors of ids ``(H, W)``."""
    return np.stack([ids >> x & 255 for x in (0, 8, 16)], -1).astype(np.uint8)
