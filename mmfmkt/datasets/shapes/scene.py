"""Where things lie in an image, before colors are chosen."""

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
MIN_DIAMETER = 4.0  # pixels, keeps the smallest shapes drawable
MIN_SIDE = 2.0  # pixels of a box left inside the image
MIN_VISIBLE = 0.4  # of a shape's area, after occlusion and the image border
TRIES = 30  # places tried for an object before it is left out


@dataclass
class Scene:
    """What an image shows, before colors are chosen.

    Attributes:
        size (tuple[int]): Width and height in pixels.
        pieces (list[Piece]): Front to back; those with a label are the
            objects, all of them annotated.
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
    """Find a place for one more object behind those already there.

    Args:
        object_size (tuple[float]): Smallest and largest diameter over the
            short image side.
        free (ndarray): Share of each pixel not yet covered, shape (H, W).
        placed (list[Piece]): The objects in front.
        rng (Generator): Source of all choices.

    Returns:
        Piece, optional: The object; None if every place tried hides too much
        of it.
    """
    height, width = free.shape
    label = int(rng.integers(len(SHAPES_CLASSES)))
    small, large = (side * min(width, height) for side in object_size)
    # Fewer tiny ones than log-uniform, where every third would be one that
    # a network trained for minutes cannot find.
    diameter = small * (large / small) ** (rng.random() ** 0.4)
    diameter = max(diameter, MIN_DIAMETER)
    for _ in range(TRIES):
        center = rng.uniform(0, 1, 2) * (width, height)
        if placed and rng.random() < 0.35:
            # Beside an object in front: occlusion, not left to chance.
            other = placed[rng.integers(len(placed))].contours[0]
            reach = np.ptp(other, 0).max() / 2 + diameter / 2
            offset = on_circle(rng.uniform(0, 2 * np.pi, 1))[0]
            center = other.mean(0) + offset * reach * uniform(rng, 0.5, 1)
        piece = draw_shape(label, center, diameter, rng)
        box = box_of(piece.contours[0], (width, height))
        visible = piece.visible_share(free)
        if visible >= MIN_VISIBLE and min(box[2:]) >= MIN_SIDE:
            return piece
    return None


def compose(
    size: Tuple[int, int],
    object_size: Tuple[float, float],
    rng: np.random.Generator,
) -> Scene:
    """Choose and place everything in an image.

    Objects are placed front to back, so that what hides an object is known
    when it is placed and an object that would be hidden too much is never
    drawn: everything drawn is annotated.
    """
    width, height = size
    extent, unit = np.array(size, float), min(size) / 160
    front = draw_clutter(
        int(rng.integers(0, 2)), (draw_line, draw_glyph), extent, unit, rng
    )
    free = np.ones((height, width), np.float32)
    for piece in front:
        piece.cover(free)
    objects: List[Piece] = []
    for _ in range(rng.integers(1, MAX_OBJECTS + 1)):
        piece = place_object(object_size, free, objects, rng)
        if piece is not None:
            objects.append(piece)
            piece.cover(free)
    clutter = (draw_line, draw_glyph, draw_blob)
    back = draw_clutter(int(rng.integers(1, 6)), clutter, extent, unit, rng)
    return Scene(size, front + objects + back)
