"""One batch of images, normalised for the student and for the teacher."""

import math
from typing import Optional

import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor

# The settings that decide what a network sees of an image.
VIEW = ('type', 'mean', 'std', 'bgr_to_rgb', 'rgb_to_bgr', 'pad_value',
        'pad_size_divisor')


def same_view(student: Optional[dict], teacher: Optional[dict]) -> bool:
    """Whether two data preprocessor configs show an image alike."""

    def view(config):
        config = config or {}
        return [
            list(x) if isinstance(x, (list, tuple)) else x
            for x in (config.get(key) or None for key in VIEW)
        ]

    return view(student) == view(teacher)


class PairDataPreprocessor(BaseDataPreprocessor):
    """The student's data preprocessor, and beside it the teacher's.

    The student's runs as in plain training, batch augmentation included. A
    teacher with another normalisation gets the same raw images through its
    own, as ``teacher_inputs``: padded to what both can work with, at the
    right and the bottom, or batch-resized like the student's.

    Args:
        student (BaseDataPreprocessor): The student's own.
        teacher (BaseDataPreprocessor): The teacher's own.
    """

    def __init__(self, student: BaseDataPreprocessor,
                 teacher: BaseDataPreprocessor) -> None:
        super().__init__()
        self.student = student
        self.teacher = teacher
        # Batch augmentation draws at random: once, on the student's side.
        teacher.batch_augments = None
        divisor = getattr(student, 'pad_size_divisor', 1)
        if getattr(student, 'batch_augments', None) is None:
            divisor = math.lcm(divisor,
                               getattr(teacher, 'pad_size_divisor', 1))
        teacher.pad_size_divisor = divisor

    def forward(self, data: dict, training: bool = False) -> dict:
        """Prepare a batch.

        Args:
            data (dict): ``inputs`` (raw images) and ``data_samples``.
            training (bool): Whether the teacher looks on too.

        Returns:
            dict: What the student's preprocessor gives; in training with
            ``teacher_inputs``.
        """
        raw = data['inputs']
        data = self.student(data, training)
        if not training:
            return data
        view = self.teacher(dict(inputs=raw, data_samples=None))['inputs']
        if getattr(self.student, 'batch_augments', None) is not None:
            # Interpolation and normalisation commute, so resizing the
            # normalised images is exact.
            view = F.interpolate(
                view,
                size=data['inputs'].shape[-2:],
                mode='bilinear',
                align_corners=False)
        return dict(data, teacher_inputs=view)
