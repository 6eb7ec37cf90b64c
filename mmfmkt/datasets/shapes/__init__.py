"""A detection data set of drawn shapes, written once as COCO files.

It needs no download, is the same for the same seed, and is meant to be hard
enough that a large detector beats a small one: look-alike classes, sizes from
4 % to 50 % of the short image side, occlusion, texture, clutter, uneven
contrast, blur and noise.
"""

from .classes import SHAPES_CLASSES, SHAPES_METAINFO, SHAPES_PALETTE
from .make import make_shapes

__all__ = [
    'SHAPES_CLASSES',
    'SHAPES_METAINFO',
    'SHAPES_PALETTE',
    'make_shapes',
]
