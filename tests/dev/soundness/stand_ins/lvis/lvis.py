"""The part of lvis that LVISV1Dataset uses, if lvis is not installed."""

from mmdet.datasets.api_wrappers import COCO


class LVIS(COCO):
    """Annotations in COCO format without ``file_name``."""
