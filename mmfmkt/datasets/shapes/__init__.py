"""Synthetic detection dataset of shapes in COCO format.

It needs no download and is deterministic for a seed. It is hard enough that a
large detector outperforms a small one: similar classes, sizes from 4 % to
50 % of the short image side, occlusion, texture, clutter, uneven contrast,
blur and noise.
"""

from .classes import SHAPES_CLASSES
from .make import make_shapes

__all__ = ['SHAPES_CLASSES', 'make_shapes']
