"""Placement of objects and clutter in an image."""

from dataclasses import dataclass
from typing import List, Optional, Tuple

import numpy as np

from .annotation import box_of
from .classes import SHAPES_CLASSES
from .figures import (
    draw_blob,
    draw_clutter,
    draw_glyph,
    draw_line,
    draw_shape,
    on_circle,
    uniform,
)
from .piece import Piece

MAX_OBJECTS = 8
MIN_DIAMETER = 4.0  # pixels
MIN_SIDE = 2.0  # pixels, side of a box in the image
MIN_VISIBLE = 0.4  # visible fraction of a shape's area
MAX_TRIES = 30  # positions tried for an object before it is omitted


@dataclass
class Scene:
    """The pieces of an image and their order.

    Attributes:
        size (tuple[int]): Width and height in pixels.
        pieces (list[Piece]): Front to back. Those with a label are the
            objects, which are all annotated.
    """

    size: Tuple[int, int]
    pieces: List[Piece]

    @property
    def objects(self) -> List[Piece]:
        """The annotated pieces."""
        return [piece for piece in self.pieces if piece.label is not None]


def place_object(
    object_size: Tuple[float, float],
    free: np.ndarray,
    placed: List[Piece],
    rng: np.random.Generator,
) -> Optional[Piece]:
    """Place an object behind the objects that are already placed.

    Args:
        object_size (tuple[float]): Smallest and largest diameter relative
            to the short image side.
        free (ndarray): Uncovered fraction of each pixel, shape (H, W).
        placed (list[Piece]): The objects in front.
        rng (Generator): Random number generator.

    Returns:
        Piece, optional: The object; None if too much of it is hidden at all
        positions that were tried.
    """
    height, width = free.shape
    label = int(rng.integers(len(SHAPES_CLASSES)))
    small, large = (side * min(width, height) for side in object_size)
    # Fewer tiny objects than in a log-uniform distribution, in which a third
    # would be too small for a network that is trained for minutes.
    diameter = small * (large / small) ** (rng.random() ** 0.4)
    diameter = max(diameter, MIN_DIAMETER)
    for _ in range(MAX_TRIES):
        center = rng.uniform(0, 1, 2) * (width, height)
        if placed and rng.random() < 0.35:
            # Overlap an object in front.
            other = placed[rng.integers(len(placed))].contours[0]
            distance = np.ptp(other, 0).max() / 2 + diameter / 2
            offset = on_circle(rng.uniform(0, 2 * np.pi, 1))[0]
            center = other.mean(0) + offset * distance * uniform(rng, 0.5, 1)
        piece = draw_shape(label, center, diameter, rng)
        box = box_of(piece.contours[0], (width, height))
        visible = piece.visible_fraction(free)
        if visible >= MIN_VISIBLE and min(box[2:]) >= MIN_SIDE:
            return piece
    return None


def compose_scene(
    size: Tuple[int, int],
    object_size: Tuple[float, float],
    rng: np.random.Generator,
) -> Scene:
    """Place all objects and clutter of an image.

    Objects are placed front to back, so their visible area is known. An
    object that would be hidden too much is omitted, so all drawn objects are
    annotated.
    """
    width, height = size
    extent, unit = np.array(size, float), min(size) / 160
    front_clutter = draw_clutter(
        int(rng.integers(0, 2)), (draw_line, draw_glyph), extent, unit, rng
    )
    free = np.ones((height, width), np.float32)
    for piece in front_clutter:
        piece.cover(free)
    objects: List[Piece] = []
    for _ in range(rng.integers(1, MAX_OBJECTS + 1)):
        piece = place_object(object_size, free, objects, rng)
        if piece is not None:
            objects.append(piece)
            piece.cover(free)
    functions = (draw_line, draw_glyph, draw_blob)
    count = int(rng.integers(1, 6))
    back_clutter = draw_clutter(count, functions, extent, unit, rng)
    return Scene(size, front_clutter + objects + back_clutter)
