"""Classes of the shapes dataset and their colors in visualizations."""

SHAPES_CLASSES = ('circle', 'ring', 'square', 'pentagon', 'hexagon', 'star')
SHAPES_PALETTE = [
    (230, 25, 75),
    (245, 130, 48),
    (60, 180, 75),
    (0, 130, 200),
    (145, 30, 180),
    (240, 220, 30),
]
SHAPES_METAINFO = dict(classes=SHAPES_CLASSES, palette=SHAPES_PALETTE)
