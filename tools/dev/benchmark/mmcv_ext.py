"""Replacement of ``mmcv._ext``, the compiled operators of mmcv.

mmcv checks on import that its operators exist. Here each operator exists and
raises ``NotImplementedError``, except NMS, which torchvision computes.
``gpu.sh`` uses it where mmcv was installed without operators.
"""

from typing import Any, Callable

from torch import Tensor


def nms(
    boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0
) -> Tensor:
    """Return the indices of the boxes that NMS keeps."""
    from torchvision.ops import nms as torchvision_nms

    if offset:
        raise NotImplementedError('nms: offset must be 0 without mmcv._ext.')
    return torchvision_nms(boxes.float(), scores.float(), iou_threshold)


def __getattr__(name: str) -> Callable[..., Any]:
    if name.startswith('__'):
        raise AttributeError(name)

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f'{name}: mmcv has no compiled operators.')

    return refuse
