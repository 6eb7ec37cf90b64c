"""The student's images, in the teacher's normalization and channels.

After the student's data pipeline and data preprocessor, with padding, resizing
and mixing, the teacher gets the same pixels at the same places, as it was
trained on them.
"""

import logging
from typing import Any, NamedTuple, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.model import BaseDataPreprocessor
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmfmkt.utils import ConfigError

# OpenCV's weights of B, G and R in a gray image.
LUMINANCE = (0.114, 0.587, 0.299)
# Images that span fewer of 255 levels are blank, or normalized already.
MIN_LEVELS = 16


class Normalization(NamedTuple):
    """Normalization of pixels: ``(x - mean) / std``.

    Attributes:
        mean (Tensor): ``(C, 1, 1)`` or, for all channels, ``(1, 1, 1)``.
        std (Tensor): As ``mean``.
        flips (bool): Whether the order of channels is reversed before.
    """

    mean: Tensor = torch.zeros(1, 1, 1)
    std: Tensor = torch.ones(1, 1, 1)
    flips: bool = False

    def then(self, after: 'Normalization') -> 'Normalization':
        """Return this normalization followed by another."""
        mean, std = self.mean, self.std
        if after.flips:
            mean, std = mean.flip(0), std.flip(0)
        return Normalization(
            mean + std * after.mean, std * after.std, self.flips != after.flips
        )

    def equals(self, other: 'Normalization') -> bool:
        """Return whether another one gives the same values."""
        return self.flips == other.flips and all(
            x.shape == y.shape and torch.equal(x, y)
            for x, y in zip(self[:2], other[:2])
        )


AS_LOADED = Normalization()


class TeacherInputAdapter(nn.Module):
    """Converts images from the student's normalization to the teacher's.

    Gray images are repeated for a teacher of three channels. Of more than
    three channels it gets the first three. A teacher of one channel gets the
    luminance of color images.

    Args:
        student (BaseDataPreprocessor): The student's own.
        teacher (BaseDataPreprocessor): The teacher's own.
        pipelines (tuple[Normalization]): Normalizations of the data pipelines
            of student and teacher.
        channels (tuple[int]): Channels of the images that student and
            teacher take.

    Attributes:
        is_identity (bool): Whether values and padding are left unchanged.

    Raises:
        ConfigError: If the normalization of one is unknown, and they are not
            of the same class; or if the channels of one cannot be converted
            to those of the other.
    """

    def __init__(
        self,
        student: BaseDataPreprocessor,
        teacher: BaseDataPreprocessor,
        pipelines: Tuple[Normalization, Normalization] = (
            AS_LOADED,
            AS_LOADED,
        ),
        channels: Tuple[int, int] = (3, 3),
    ) -> None:
        super().__init__()
        own, target = map(normalization, (student, teacher), channels)
        self.pad_value = pad_value(teacher)
        self.divisor = int(getattr(teacher, 'pad_size_divisor', 1) or 1)
        if own is None or target is None:
            if type(student) is not type(teacher):
                raise ConfigError(
                    f'model.student.data_preprocessor is a '
                    f"{type(student).__name__} and the teacher's a "
                    f'{type(teacher).__name__}, and the normalization of one '
                    'is unknown; give both the same.'
                )
            self.is_identity = True
            return
        own, target = pipelines[0].then(own), pipelines[1].then(target)
        order = source_channels(*channels)
        if channels[1] == 3 and own.flips != target.flips:
            order = order[::-1]
        mean, std = (
            x if len(x) == 1 else x[order] for x in (own.mean, own.std)
        )
        scale, shift = std / target.std, (mean - target.mean) / target.std
        converts = bool((scale != 1).any() or (shift != 0).any())
        in_order = order == list(range(channels[0]))
        self.to_gray = channels == (3, 1)
        self.is_identity = (
            in_order
            and not converts
            and not self.to_gray
            and self.pad_value == pad_value(student)
        )
        self.checked = not converts
        gray = LUMINANCE[::-1] if own.flips else LUMINANCE
        for name, tensor in dict(
            scale=scale,
            shift=shift,
            order=None if in_order else torch.tensor(order),
            gray=torch.tensor(gray).view(-1, 1, 1),
            student_mean=own.mean,
            student_std=own.std,
        ).items():
            self.register_buffer(name, tensor, persistent=False)

    def forward(
        self, inputs: Tensor, data_samples: Optional[Sequence[BaseDataElement]]
    ) -> Tensor:
        """Return the images for the teacher.

        Args:
            inputs (Tensor): The student's, ``(B, C, H, W)``.
            data_samples (Sequence, optional): With ``img_shape``, the part
                of each image that is not padding.

        Returns:
            Tensor: ``(B, C', H', W')``, padded at the right and the bottom to
            multiples of the teacher's divisor.
        """
        images = inputs
        if not self.is_identity:
            self._check(inputs)
            if self.order is not None:
                images = images.index_select(1, self.order)
            images = images * self.scale + self.shift
            if self.to_gray:
                images = (images * self.gray).sum(1, keepdim=True)
            for image, sample in zip(images, data_samples or ()):
                # Padding gets the teacher's value.
                if (shape := sample.metainfo.get('img_shape')) is not None:
                    image[:, shape[0] :] = self.pad_value
                    image[:, :, shape[1] :] = self.pad_value
        bottom, right = (-side % self.divisor for side in images.shape[-2:])
        if bottom or right:
            images = F.pad(images, (0, right, 0, bottom), value=self.pad_value)
        return images

    def adapt_batch(self, batch: Any) -> Any:
        """Return a batch of a data loader with images for the teacher.

        Args:
            batch (dict): With ``inputs``, stacked or one tensor an image.
        """
        if self.is_identity or not isinstance(batch, dict):
            return batch
        inputs = batch['inputs']
        if isinstance(inputs, Tensor):
            return dict(batch, inputs=self(inputs, None))
        return dict(batch, inputs=[self(x[None], None)[0] for x in inputs])

    def _check(self, inputs: Tensor) -> None:
        """Warn if the first images are blank for the teacher."""
        if self.checked:
            return
        self.checked = True
        levels = inputs * self.student_std + self.student_mean
        span = (levels.amax((0, 2, 3)) - levels.amin((0, 2, 3))).max().item()
        if span < MIN_LEVELS:
            print_log(
                f'model.teacher: the first images span {span:.3g} of 255 '
                'levels, so they are nearly blank for the teacher. If a '
                "transform of train_dataloader normalizes them, use mmcv's "
                'Normalize or model.student.data_preprocessor instead.',
                logger='current',
                level=logging.WARNING,
            )


def source_channels(student: int, teacher: int) -> list:
    """Return the student's channels that the teacher's are made of.

    Args:
        student (int): Number of the student's channels.
        teacher (int): Number of the teacher's channels.

    Raises:
        ConfigError: If they cannot be converted.
    """
    if student == teacher or (student, teacher) == (3, 1):
        return list(range(student))
    if teacher == 3 and (student == 1 or student > 3):
        return [0] * 3 if student == 1 else [0, 1, 2]
    raise ConfigError(
        f'model.teacher takes images of {teacher} channels, which cannot be '
        f"made of the student's {student}; give a teacher of {student} or of "
        '3.'
    )


def pad_value(preprocessor: BaseDataPreprocessor) -> float:
    """Return the value of a data preprocessor's padding."""
    return float(getattr(preprocessor, 'pad_value', 0) or 0)


def normalization(
    preprocessor: BaseDataPreprocessor, channels: int = 3
) -> Optional[Normalization]:
    """Return the normalization of a data preprocessor; None if unknown.

    Args:
        preprocessor (BaseDataPreprocessor): One of MMEngine, MMDetection or
            MMPretrain, or with their attributes.
        channels (int): Channels of the images; only three are reversed.
    """
    flips = getattr(preprocessor, 'to_rgb', None)
    if flips is None:
        # MMEngine 0.10 has no public name for it.
        flips = getattr(preprocessor, '_channel_conversion', None)
    if flips is None and type(preprocessor) is not BaseDataPreprocessor:
        return None
    flips = bool(flips) and channels == 3
    mean = getattr(preprocessor, 'mean', None)
    if mean is None:
        return Normalization(flips=flips)
    # On the CPU, so that values do not depend on the networks' device.
    mean, std = (x.float().cpu() for x in (mean, preprocessor.std))
    return Normalization(mean, std, flips)
