"""What LVISV1Dataset calls of lvis, where lvis is not installed."""

from mmdet.datasets.api_wrappers import COCO


class LVIS(COCO):
    """Annotations, in the layout of COCO but for ``file_name``."""
