"""Outlines of the classes, and clutter.

Lengths are in image pixels. ``size`` is the image's width and height;
``unit`` is 1/160 of its short side.
"""

import math
from typing import Callable, List, Sequence

import numpy as np

from .classes import SHAPES_CLASSES
from .piece import Piece

# Number of corners of each class's outline.
CORNERS = dict(circle=48, ring=48, square=4, pentagon=5, hexagon=6, star=10)


def uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a uniformly distributed number."""
    return float(rng.uniform(low, high))


def on_circle(angle: np.ndarray) -> np.ndarray:
    """Return the points of the unit circle at angles, shape (N, 2)."""
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def outline_of(label: int, rng: np.random.Generator) -> List[np.ndarray]:
    """Return the outline of a class in the unit circle, and its hole."""
    name = SHAPES_CLASSES[label]
    corners = CORNERS[name]
    outline = on_circle(np.arange(corners) * (2 * np.pi / corners))
    if name == 'ring':
        return [outline, outline * uniform(rng, 0.45, 0.7)]
    if name == 'star':
        radii = np.tile([1.0, uniform(rng, 0.42, 0.55)], 5)
        return [outline * radii[:, None]]
    return [outline]


def draw_shape(
    label: int, center: np.ndarray, diameter: float, rng: np.random.Generator
) -> Piece:
    """Draw an object: the rotated and slightly squeezed outline of a class."""
    angle, axis = rng.uniform(0, 2 * np.pi, 2)
    squeeze = np.array([1.0, uniform(rng, 0.8, 1.0)])

    def rotation(theta):
        cos, sin = math.cos(theta), math.sin(theta)
        return np.array([[cos, -sin], [sin, cos]])

    # The direction of the squeeze is independent of the rotation.
    matrix = rotation(axis) @ (squeeze[:, None] * rotation(angle))
    contours = [
        contour @ matrix.T * (diameter / 2) + center
        for contour in outline_of(label, rng)
    ]
    return Piece(contours, label=label)


def draw_line(
    size: np.ndarray, unit: float, rng: np.random.Generator
) -> Piece:
    """Draw clutter: a long, slightly curved line."""
    ends = rng.uniform(0, 1, (2, 2)) * size
    middle = ends.mean(0) + rng.normal(0, 0.08, 2) * size
    t = np.linspace(0, 1, 12)[:, None]
    points = (1 - t) ** 2 * ends[0] + 2 * t * (1 - t) * middle + t**2 * ends[1]
    return Piece([points], width=unit * uniform(rng, 0.6, 2.2))


def draw_glyph(
    size: np.ndarray, unit: float, rng: np.random.Generator
) -> Piece:
    """Draw clutter: two to four strokes similar to a letter."""
    center = rng.uniform(0, 1, 2) * size
    extent = unit * uniform(rng, 4, 16)
    strokes = []
    for _ in range(rng.integers(2, 5)):
        if rng.random() < 0.3:
            # An open arc; a closed one would be a ring.
            start, sweep = rng.uniform(0, 6.28), rng.uniform(1.5, 4.0)
            angle = np.linspace(start, start + sweep, 12)
            stroke = on_circle(angle) * 0.5
        else:
            stroke = rng.integers(-1, 2, (2, 2)).astype(float)
        strokes.append(stroke * extent / 2 + center)
    return Piece(strokes, width=unit * uniform(rng, 0.8, 2.4))


def draw_blob(
    size: np.ndarray, unit: float, rng: np.random.Generator
) -> Piece:
    """Draw clutter: a filled wavy curve that is not similar to a circle."""
    center = rng.uniform(0, 1, 2) * size
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    radius = np.ones_like(angle)
    for wave in (2, 3, 4):
        radius += uniform(rng, 0.12, 0.28) * np.cos(
            wave * angle + uniform(rng, 0, 2 * np.pi)
        )
    radius *= unit * math.exp(uniform(rng, math.log(3), math.log(22)))
    return Piece([on_circle(angle) * radius[:, None] + center])


def draw_clutter(
    count: int,
    draw_functions: Sequence[Callable[..., Piece]],
    size: np.ndarray,
    unit: float,
    rng: np.random.Generator,
) -> List[Piece]:
    """Draw ``count`` pieces of clutter, each by a random function."""
    return [
        draw_functions[rng.integers(len(draw_functions))](size, unit, rng)
        for _ in range(count)
    ]
