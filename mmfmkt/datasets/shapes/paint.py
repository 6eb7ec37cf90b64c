"""Colors, textures, illumination, blur and noise.

Colors are BGR in [0, 255]. ``unit`` is 1/160 of the short image side in
pixels.
"""

import math
from typing import Tuple

import cv2
import numpy as np

from .figures import uniform
from .scene import Scene


def draw_pattern(
    rows: int, cols: int, unit: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw a random pattern in [0, 1], shape (rows, cols)."""
    kind = rng.integers(6)
    if kind == 0:  # constant
        return np.zeros((rows, cols), np.float32)
    if kind == 1:  # smooth noise
        cell = unit * uniform(rng, 1.5, 12)
        shape = math.ceil(rows / cell) + 1, math.ceil(cols / cell) + 1
        grid = rng.random(shape, dtype=np.float32)
        noise = cv2.resize(grid, (cols, rows), interpolation=cv2.INTER_CUBIC)
        return np.clip(noise, 0, 1)
    y, x = np.mgrid[:rows, :cols].astype(np.float32)
    angle = uniform(rng, 0, 2 * np.pi)
    along = x * math.cos(angle) + y * math.sin(angle)
    across = y * math.cos(angle) - x * math.sin(angle)
    if kind == 2:  # gradient
        low, high = along.min(), along.max()
        return (along - low) / max(high - low, 1)
    frequency = 2 * np.pi / (unit * math.exp(uniform(rng, 1.1, 2.8)))
    phase = uniform(rng, 0, 2 * np.pi)
    if kind == 3:  # stripes
        wave = np.sin(along * frequency + phase)
    elif kind == 4:  # checkerboard
        wave = np.sin(along * frequency + phase) * np.sin(across * frequency)
    else:  # rings
        center = rng.uniform(-0.2, 1.2, 2) * (cols, rows)
        radius = np.hypot(x - center[0], y - center[1])
        wave = np.sin(radius * frequency + phase)
    # The factor controls the sharpness of edges; clipping flattens peaks.
    return np.clip(0.5 + uniform(rng, 0.6, 2.5) * wave, 0, 1)


def desaturate(color: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Reduce a color's saturation: vivid objects are too easy to detect."""
    gray = color.mean()
    return (gray + (color - gray) * uniform(rng, 0.2, 0.9)).astype(np.float32)


def draw_texture(
    shape: Tuple[int, int],
    unit: float,
    color: np.ndarray,
    spread: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw a two-color texture with mean ``color``, shape (*shape, 3).

    The colors differ by at most ``spread`` in each channel.
    """
    pattern = draw_pattern(*shape, unit, rng)
    difference = desaturate(rng.uniform(-spread, spread, 3), rng)
    return color + (pattern - pattern.mean())[..., None] * difference


def distinct_color(
    other: np.ndarray, contrast: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw a color that differs from another one by about ``contrast``.

    Args:
        other (ndarray): The other color, shape (3, ).
        contrast (float): Mean absolute difference in gray levels. Clipping
            to [0, 255] may lower it.
        rng (Generator): Random number generator.

    Returns:
        ndarray: The color, shape (3, ), float32 in [0, 255].
    """
    difference = desaturate(rng.uniform(-1, 1, 3), rng)
    difference *= contrast / np.abs(difference).mean()
    candidates = np.clip([other + difference, other - difference], 0, 255)
    best = np.abs(candidates - other).mean(1).argmax()
    return candidates[best]


def paint_scene(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Render a scene with illumination gradient, blur and noise.

    Returns:
        ndarray: BGR image, uint8, shape (height, width, 3).
    """
    width, height = scene.size
    unit = min(scene.size) / 160
    color = desaturate(rng.uniform(25, 230, 3), rng)
    spread = uniform(rng, 10, 45)
    background = draw_texture((height, width), unit, color, spread, rng)
    image = np.zeros((height, width, 3), np.float32)
    # Uncovered fraction of each pixel; pieces are painted front to back.
    free = np.ones((height, width, 1), np.float32)
    for piece in scene.pieces:
        window, alpha_window = piece.windows(width, height)
        alpha = piece.alpha[alpha_window][..., None]
        if not alpha.size:
            continue
        behind = background[window].mean((0, 1))
        contrast = uniform(rng, 60, 130)
        color = distinct_color(behind, contrast, rng)
        # A texture weaker than the contrast keeps the piece visible.
        spread = 0.5 * contrast
        texture = draw_texture(alpha.shape[:2], unit, color, spread, rng)
        image[window] += free[window] * alpha * texture
        free[window] *= 1 - alpha
    image += free * background

    y, x = np.mgrid[:height, :width].astype(np.float32)
    angle = uniform(rng, 0, 2 * np.pi)
    gradient = (x / width - 0.5) * math.cos(angle)
    gradient += (y / height - 0.5) * math.sin(angle)
    image *= 1 + uniform(rng, 0, 0.5) * gradient[..., None]
    blur = unit * uniform(rng, 0, 0.9)
    if blur > 0.2:
        image = cv2.GaussianBlur(image, (0, 0), blur)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    image += uniform(rng, 1, 8) * noise
    return np.clip(np.round(image), 0, 255).astype(np.uint8)
