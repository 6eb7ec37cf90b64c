"""Data sets: the shapes that the project draws itself."""

from .shapes import (
    SHAPES_CLASSES,
    SHAPES_METAINFO,
    SHAPES_PALETTE,
    make_shapes,
)

__all__ = [
    'SHAPES_CLASSES',
    'SHAPES_METAINFO',
    'SHAPES_PALETTE',
    'make_shapes',
]
