"""Boxes, areas and polygons of shapes, clipped to the image."""

from typing import Tuple

import numpy as np

from ..annotated_image import area_of
from .piece import Piece


def clip_polygon(points: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    """Clip a polygon, shape (N, 2), to the image (Sutherland-Hodgman).

    In this module, ``size`` is the image's width and height in pixels.
    """
    borders = (0, 0, 1), (1, 0, 1), (0, size[0], -1), (1, size[1], -1)
    for axis, bound, sign in borders:
        clipped = []
        for start, stop in zip(np.roll(points, 1, 0), points):
            # Distances to the border, positive inside.
            a, b = sign * (start[axis] - bound), sign * (stop[axis] - bound)
            if a * b < 0:
                clipped.append(start + (stop - start) * (a / (a - b)))
            if b >= 0:
                clipped.append(stop)
        points = np.array(clipped).reshape(-1, 2)
    return points


def box_of(outline: np.ndarray, size: Tuple[int, int]) -> Tuple[float, ...]:
    """Return the box (x, y, width, height) of an outline in the image."""
    points = clip_polygon(outline, size)
    if not len(points):
        return (0.0, 0.0, 0.0, 0.0)
    low, high = points.min(0), points.max(0)
    return (*low.tolist(), *(high - low).tolist())


def polygon_of(piece: Piece, size: Tuple[int, int]) -> np.ndarray:
    """Return a shape as one closed polygon, clipped to the image.

    COCO polygons have no holes. A hole is connected with the outline by a cut
    of zero width.
    """
    outline = piece.contours[0]
    if len(piece.contours) > 1:
        hole = piece.contours[1][::-1]
        outline = np.concatenate([outline, outline[:1], hole[-1:], hole])
    return clip_polygon(outline, size)


def annotate(piece: Piece, size: Tuple[int, int]) -> dict:
    """Return an object's COCO annotation without ``id`` and ``image_id``."""
    polygon = polygon_of(piece, size).ravel().tolist()
    return dict(
        category_id=piece.label + 1,
        bbox=[round(v, 2) for v in box_of(piece.contours[0], size)],
        area=round(area_of(polygon), 2),
        iscrowd=0,
        segmentation=[[round(v, 2) for v in polygon]],
    )
