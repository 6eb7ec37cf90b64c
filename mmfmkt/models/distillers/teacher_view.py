"""The teacher's view of the images that the student sees.

Whatever the student's data preprocessor does to a batch, padding, resizing
and mixing included, it does to pixels that it has normalised; the view is
those pixels brought to the teacher's normalisation. So both networks see the
same pixels at the same places under any batch augmentation.
"""

from typing import NamedTuple, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmfmkt.utils import ConfigError


class Normalisation(NamedTuple):
    """What a data preprocessor does to the values of pixels.

    Attributes:
        mean (Tensor): ``(C, 1, 1)`` or, for all channels, ``(1, 1, 1)``.
        std (Tensor): As ``mean``.
        flips (bool): Whether the order of channels is turned.
    """

    mean: Tensor
    std: Tensor
    flips: bool


class TeacherView(nn.Module):
    """Brings images from the student's normalisation to the teacher's.

    Args:
        student (BaseDataPreprocessor): The student's own.
        teacher (BaseDataPreprocessor): The teacher's own.

    Raises:
        ConfigError: If it is not known how one of them normalises, and they
            are not the same.
    """

    def __init__(
        self, student: BaseDataPreprocessor, teacher: BaseDataPreprocessor
    ) -> None:
        super().__init__()
        ours, theirs = normalisation(student), normalisation(teacher)
        self.pad_value = float(getattr(teacher, 'pad_value', 0) or 0)
        self.divisor = int(getattr(teacher, 'pad_size_divisor', 1) or 1)
        if ours is None or theirs is None:
            if type(student) is not type(teacher):
                raise ConfigError(
                    f'model.student.data_preprocessor is a '
                    f"{type(student).__name__} and the teacher's a "
                    f'{type(teacher).__name__}, of which it is not known how '
                    'one sees the images of the other; give both the same.'
                )
            self.alike = True
            return
        self.flips = ours.flips != theirs.flips
        mean, std = ours.mean, ours.std
        if self.flips:
            mean, std = mean.flip(0), std.flip(0)
        scale, shift = std / theirs.std, (mean - theirs.mean) / theirs.std
        same_padding = self.pad_value == float(
            getattr(student, 'pad_value', 0) or 0
        )
        self.alike = (
            not self.flips
            and same_padding
            and bool((scale == 1).all() and (shift == 0).all())
        )
        self.register_buffer('scale', scale, persistent=False)
        self.register_buffer('shift', shift, persistent=False)

    def forward(
        self, inputs: Tensor, data_samples: Optional[Sequence[BaseDataElement]]
    ) -> Tensor:
        """Return the images as the teacher wants them.

        Args:
            inputs (Tensor): The student's, ``(B, C, H, W)``.
            data_samples (Sequence, optional): With ``img_shape``, the part
                of each image that is not padding.

        Returns:
            Tensor: ``(B, C, H', W')``, padded at the right and the bottom to
            what the teacher divides by.
        """
        view = inputs
        if not self.alike:
            view = inputs.flip(1) if self.flips else inputs
            view = view * self.scale + self.shift
            for image, sample in zip(view, data_samples or ()):
                self._pad(image, sample.metainfo.get('img_shape'))
        below, right = (-side % self.divisor for side in view.shape[-2:])
        if below or right:
            view = F.pad(view, (0, right, 0, below), value=self.pad_value)
        return view

    def _pad(self, image: Tensor, shape: Optional[Tuple[int, ...]]) -> None:
        """Let padding be the teacher's own, in place."""
        if shape is not None:
            height, width = shape[:2]
            image[:, height:] = self.pad_value
            image[:, :, width:] = self.pad_value


def normalisation(
    preprocessor: BaseDataPreprocessor,
) -> Optional[Normalisation]:
    """Return what a data preprocessor does to values; None if unknown.

    Args:
        preprocessor (BaseDataPreprocessor): One of MMEngine, MMDetection or
            MMPretrain, or of their kind.
    """
    flips = getattr(preprocessor, 'to_rgb', None)
    if flips is None:
        flips = getattr(preprocessor, '_channel_conversion', None)
    if flips is None and type(preprocessor) is not BaseDataPreprocessor:
        return None
    mean = getattr(preprocessor, 'mean', None)
    if mean is None:
        mean, std = torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
    else:
        mean, std = mean.float(), preprocessor.std.float()
    return Normalisation(mean, std, bool(flips))
