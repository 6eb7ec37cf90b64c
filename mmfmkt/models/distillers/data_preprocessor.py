"""One batch of images, normalised for the student and for the teacher."""

import math
from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

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


class RenormalisedPair(BaseDataPreprocessor):
    """The student's data preprocessor, and the teacher's view of its images.

    For MMPretrain: mixup and cutmix are linear in the pixels, so the mixed
    images can be brought from the student's normalisation to the teacher's.

    Args:
        student (BaseDataPreprocessor): The student's own.
        teacher (BaseDataPreprocessor): The teacher's own.
    """

    def __init__(self, student: BaseDataPreprocessor,
                 teacher: BaseDataPreprocessor) -> None:
        super().__init__()
        self.student = student
        self.teacher = teacher

    @classmethod
    def of(cls, student: BaseDataPreprocessor,
           teacher: BaseDataPreprocessor) -> BaseDataPreprocessor:
        """Return the student's own where the teacher sees images alike."""
        alike = (
            student.to_rgb == teacher.to_rgb
            and all(
                torch.equal(*pair)
                for pair in zip(statistics(student), statistics(teacher))))
        return student if alike else cls(student, teacher)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Prepare a batch.

        Args:
            data (dict): ``inputs`` and ``data_samples``.
            training (bool): Whether the teacher looks on too.

        Returns:
            dict: What the student's preprocessor gives; in training with
            ``teacher_inputs``.
        """
        data = self.student(data, training)
        if not training:
            return data
        mean, std = statistics(self.student)
        view = data['inputs'] * std + mean
        if self.student.to_rgb != self.teacher.to_rgb:
            view = view.flip(1)
        mean, std = statistics(self.teacher)
        return dict(data, teacher_inputs=(view - mean) / std)


def statistics(preprocessor: BaseDataPreprocessor) -> Tuple[Tensor, Tensor]:
    """Mean and standard deviation ``(3, 1, 1)``; 0 and 1 where it has none.

    Args:
        preprocessor (BaseDataPreprocessor): One of MMPretrain.
    """
    mean = getattr(preprocessor, 'mean', None)
    if mean is None:
        device = preprocessor.device
        return (torch.zeros(3, 1, 1, device=device),
                torch.ones(3, 1, 1, device=device))
    return mean, preprocessor.std
