"""Conversion of the student's images to the teacher's normalization.

The student's data pipeline and data preprocessor pad, resize and mix the
images. The teacher gets the same pixels at the same positions, in the
normalization and the channels that it was trained with.
"""

import logging
from math import lcm
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.model import BaseDataPreprocessor
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmfmkt.utils import ConfigError

# OpenCV's weights of B, G and R in a gray image.
LUMINANCE = (0.114, 0.587, 0.299)
# Images whose values span a smaller part of the range 0 to 255 are blank or
# were normalized twice.
MIN_RANGE = 16


class Normalization(NamedTuple):
    """Normalization of pixels: ``(x - mean) / std``.

    Attributes:
        mean (Tensor): ``(C, 1, 1)`` or, for all channels, ``(1, 1, 1)``.
        std (Tensor): As ``mean``.
        swaps_rgb (bool): Whether RGB and BGR are swapped first.
    """

    mean: Tensor = torch.zeros(1, 1, 1)
    std: Tensor = torch.ones(1, 1, 1)
    swaps_rgb: bool = False

    def then(self, after: 'Normalization') -> 'Normalization':
        """Return this normalization followed by another."""
        mean, std = self.mean, self.std
        if after.swaps_rgb:
            mean, std = mean.flip(0), std.flip(0)
        return Normalization(
            mean + std * after.mean,
            std * after.std,
            self.swaps_rgb != after.swaps_rgb,
        )

    def equals(self, other: 'Normalization') -> bool:
        """Return whether two normalizations give the same values."""
        return (
            torch.equal(self.mean, other.mean)
            and torch.equal(self.std, other.std)
            and self.swaps_rgb == other.swaps_rgb
        )


IDENTITY = Normalization()


class TeacherInputAdapter(nn.Module):
    """Converter of images from the student's normalization to the teacher's.

    For a teacher of three channels, the channel of gray images is repeated,
    and of images with more channels the first three are used. For a teacher
    of one channel, color images are converted to their luminance.

    Args:
        student (BaseDataPreprocessor): Preprocessor of the student.
        teacher (BaseDataPreprocessor): Preprocessor of the teacher.
        pipelines (tuple[Normalization]): Normalizations by the data pipelines
            of student and teacher.
        channels (tuple[int]): Channels of the images that student and
            teacher take.
        scale (float): Side of the teacher's images, relative to the
            student's.
        multiple_of (int): Divisor of the sides of the teacher's images.

    Attributes:
        is_identity (bool): Whether the values of pixels and padding are not
            changed.

    Raises:
        ConfigError: If the normalization of a preprocessor is unknown and
            both are of different classes, or if the channels cannot be
            converted.
    """

    def __init__(
        self,
        student: BaseDataPreprocessor,
        teacher: BaseDataPreprocessor,
        pipelines: Tuple[Normalization, Normalization] = (IDENTITY, IDENTITY),
        channels: Tuple[int, int] = (3, 3),
        scale: float = 1.0,
        multiple_of: int = 1,
    ) -> None:
        super().__init__()
        self.scale_factor = scale
        self.multiple_of = multiple_of
        source, target = map(normalization, (student, teacher), channels)
        self.pad_value = pad_value(teacher)
        self.divisor = int(getattr(teacher, 'pad_size_divisor', 1) or 1)
        if source is None or target is None:
            if type(student) is not type(teacher):
                raise ConfigError(
                    'model.student.data_preprocessor is a '
                    f"{type(student).__name__}, the teacher's is a "
                    f'{type(teacher).__name__}, and the normalization of one '
                    'is unknown; give both the same type.'
                )
            self.is_identity = True
            return
        source = pipelines[0].then(source)
        target = pipelines[1].then(target)
        indices = source_channels(*channels)
        if channels[1] == 3 and source.swaps_rgb != target.swaps_rgb:
            indices = indices[::-1]
        mean, std = (
            x if len(x) == 1 else x[indices] for x in (source.mean, source.std)
        )
        scale, shift = std / target.std, (mean - target.mean) / target.std
        changes_values = bool((scale != 1).any() or (shift != 0).any())
        keeps_channels = indices == list(range(channels[0]))
        self.to_gray = channels == (3, 1)
        self.is_identity = (
            keeps_channels
            and not changes_values
            and not self.to_gray
            and self.pad_value == pad_value(student)
        )
        self.checks_range = changes_values
        gray = LUMINANCE[::-1] if source.swaps_rgb else LUMINANCE
        for name, tensor in dict(
            scale=scale,
            shift=shift,
            indices=None if keeps_channels else torch.tensor(indices),
            gray=torch.tensor(gray).view(-1, 1, 1),
            student_std=source.std.flatten(),
        ).items():
            self.register_buffer(name, tensor, persistent=False)

    def forward(
        self, inputs: Tensor, data_samples: Optional[Sequence[BaseDataElement]]
    ) -> Tensor:
        """Return the images for the teacher.

        Args:
            inputs (Tensor): Images of the student, ``(B, C, H, W)``.
            data_samples (Sequence, optional): With ``pad_shape`` if images
                are padded, and ``img_shape``, their size without padding.

        Returns:
            Tensor: ``(B, C', H', W')``, padded at the right and the bottom to
            multiples of the teacher's divisor, and scaled.
        """
        return self._scale(self._normalize(inputs, data_samples))

    def _normalize(
        self, inputs: Tensor, data_samples: Optional[Sequence[BaseDataElement]]
    ) -> Tensor:
        images = inputs
        if not self.is_identity:
            if self.checks_range:
                self._check_range(inputs)
                self.checks_range = False
            if self.indices is not None:
                images = images.index_select(1, self.indices)
            images = images * self.scale + self.shift
            if self.to_gray:
                images = (images * self.gray).sum(1, keepdim=True)
            for image, sample in zip(images, data_samples or ()):
                # Set the padding to the teacher's value. Without padding,
                # img_shape may be the size before a crop by torchvision.
                if {'img_shape', 'pad_shape'} <= sample.metainfo.keys():
                    height, width = sample.img_shape[:2]
                    image[:, height:] = self.pad_value
                    image[:, :, width:] = self.pad_value
        return images

    def _scale(self, images: Tensor) -> Tensor:
        """Scale images, and pad them at the right and the bottom.

        If ``multiple_of`` pixels of the teacher's image correspond to a whole
        number of the student's pixels, padding comes first, so that the
        borders of the teacher's patches are borders of the student's pixels.
        """
        if self.scale_factor != 1:
            multiple = self.multiple_of / self.scale_factor
            if abs(multiple - round(multiple)) < 1e-6:
                images = self._pad(images, round(multiple))
            size = [round(x * self.scale_factor) for x in images.shape[-2:]]
            images = F.interpolate(
                images,
                size=size,
                mode='bilinear',
                align_corners=False,
                antialias=self.scale_factor < 1,
            )
        return self._pad(images, lcm(self.multiple_of, self.divisor))

    def _pad(self, images: Tensor, multiple: int) -> Tensor:
        bottom, right = (-side % multiple for side in images.shape[-2:])
        if bottom or right:
            images = F.pad(images, (0, right, 0, bottom), value=self.pad_value)
        return images

    def scale_samples(
        self, data_samples: List[BaseDataElement], images: Tensor
    ) -> List[BaseDataElement]:
        """Return meta data of the teacher's images.

        Args:
            data_samples (list): Meta data of the student's images.
            images (Tensor): The teacher's images, ``(B, C', H', W')``.
        """
        size = tuple(images.shape[-2:])
        if self.scale_factor == 1 and all(
            sample.metainfo.get('batch_input_shape', size) == size
            for sample in data_samples
        ):
            return data_samples
        scaled = []
        for sample in data_samples:
            metainfo = dict(sample.metainfo)
            for key in ('img_shape', 'pad_shape'):
                if key in metainfo:
                    sides = metainfo[key][:2]
                    metainfo[key] = tuple(
                        round(x * self.scale_factor) for x in sides
                    )
            metainfo['batch_input_shape'] = size
            scaled.append(BaseDataElement(metainfo=metainfo))
        return scaled

    def adapt_batch(self, batch: Any) -> Any:
        """Return a batch of a data loader with images for the teacher.

        Args:
            batch (dict): With ``inputs``, stacked or as a list of images.
        """
        if self.is_identity or not isinstance(batch, dict):
            return batch
        inputs = batch['inputs']
        if isinstance(inputs, Tensor):
            return dict(batch, inputs=self(inputs, None))
        return dict(batch, inputs=[self(x[None], None)[0] for x in inputs])

    def _check_range(self, inputs: Tensor) -> None:
        """Warn if the images are nearly blank for the teacher."""
        spans = inputs.amax((0, 2, 3)) - inputs.amin((0, 2, 3))
        span = (spans * self.student_std).max().item()
        if span < MIN_RANGE:
            print_log(
                f'model.teacher: the first images span {span:.3g} of 255 '
                'levels, so they are nearly blank for the teacher. If a '
                "transform of train_dataloader normalizes them, use mmcv's "
                'Normalize or model.student.data_preprocessor instead.',
                logger='current',
                level=logging.WARNING,
            )


def source_channels(student: int, teacher: int) -> list:
    """Return indices of the student's channels for the teacher's channels.

    Args:
        student (int): Number of the student's channels.
        teacher (int): Number of the teacher's channels.

    Raises:
        ConfigError: If the channels cannot be converted.
    """
    if student == teacher or (student, teacher) == (3, 1):
        return list(range(student))
    if teacher == 3 and (student == 1 or student > 3):
        return [0] * 3 if student == 1 else [0, 1, 2]
    raise ConfigError(
        f'model.teacher takes images of {teacher} channels, which cannot be '
        f"converted from the student's {student}; give a teacher that takes "
        f'{student} or 3 channels.'
    )


def pad_value(preprocessor: BaseDataPreprocessor) -> float:
    """Return the padding value of a data preprocessor."""
    return float(getattr(preprocessor, 'pad_value', 0) or 0)


def normalization(
    preprocessor: BaseDataPreprocessor, channels: int = 3
) -> Optional[Normalization]:
    """Return the normalization of a data preprocessor; None if unknown.

    Args:
        preprocessor (BaseDataPreprocessor): A preprocessor with the
            attributes of MMEngine's, MMDetection's or MMPretrain's.
        channels (int): Channels of the images. RGB and BGR are swapped only
            in images of three.
    """
    swaps_rgb = getattr(preprocessor, 'to_rgb', None)
    if swaps_rgb is None:
        # MMEngine 0.10 has no public attribute for it.
        swaps_rgb = getattr(preprocessor, '_channel_conversion', None)
    if swaps_rgb is None and type(preprocessor) is not BaseDataPreprocessor:
        return None
    swaps_rgb = bool(swaps_rgb) and channels == 3
    mean = getattr(preprocessor, 'mean', None)
    if mean is None:
        return Normalization(swaps_rgb=swaps_rgb)
    # On the CPU, so that values do not depend on the networks' device.
    mean, std = (x.float().cpu() for x in (mean, preprocessor.std))
    return Normalization(mean, std, swaps_rgb)
