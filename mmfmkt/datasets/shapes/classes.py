"""Classes of the shapes dataset."""

SHAPES_CLASSES = ('circle', 'ring', 'square', 'pentagon', 'hexagon', 'star')
