"""The teacher's view of the images that the student sees.

Whatever the student's data pipeline and data preprocessor do to a batch,
padding, resizing and mixing included, the teacher sees the same pixels at the
same places, in the normalization and with the channels that it was trained
on.
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

# Weights of B, G and R in the luminance that OpenCV loads as a gray image.
LUMINANCE = (0.114, 0.587, 0.299)
# Of 255 levels; images that span fewer are blank, or not in levels at all.
FEWEST_LEVELS = 16


class Normalization(NamedTuple):
    """What is done to the values of pixels: ``(x - mean) / std``.

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
        """Whether another one gives the same values."""
        return self.flips == other.flips and all(
            x.shape == y.shape and torch.equal(x, y)
            for x, y in zip(self[:2], other[:2])
        )


AS_LOADED = Normalization()


class TeacherView(nn.Module):
    """Brings images from the student's normalization to the teacher's.

    Gray images are repeated for a teacher of three channels, of more than
    three channels it sees the first three, and a teacher of one channel sees
    the luminance of color images.

    Args:
        student (BaseDataPreprocessor): The student's own.
        teacher (BaseDataPreprocessor): The teacher's own.
        pipelines (tuple[Normalization]): What the data pipelines of student
            and teacher do to the values of pixels before.
        channels (tuple[int]): Channels of the images that student and
            teacher take.

    Raises:
        ConfigError: If it is not known how one of them normalizes, and they
            are not the same; or if the channels of one cannot be made of
            those of the other.
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
        ours, theirs = map(normalization, (student, teacher), channels)
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
        ours, theirs = pipelines[0].then(ours), pipelines[1].then(theirs)
        order = picked_channels(*channels)
        if channels[1] == 3 and ours.flips != theirs.flips:
            order = order[::-1]
        mean, std = (
            x if len(x) == 1 else x[order] for x in (ours.mean, ours.std)
        )
        scale, shift = std / theirs.std, (mean - theirs.mean) / theirs.std
        same_padding = self.pad_value == float(
            getattr(student, 'pad_value', 0) or 0
        )
        self.converts = bool((scale != 1).any() or (shift != 0).any())
        in_order = order == list(range(channels[0]))
        self.turns_gray = channels == (3, 1)
        self.alike = (
            in_order
            and same_padding
            and not self.converts
            and not self.turns_gray
        )
        gray = LUMINANCE[::-1] if ours.flips else LUMINANCE
        for name, tensor in dict(
            scale=scale,
            shift=shift,
            order=None if in_order else torch.tensor(order),
            gray=torch.tensor(gray).view(-1, 1, 1),
            student_mean=ours.mean,
            student_std=ours.std,
        ).items():
            self.register_buffer(name, tensor, persistent=False)
        self.checked = not self.converts

    def forward(
        self, inputs: Tensor, data_samples: Optional[Sequence[BaseDataElement]]
    ) -> Tensor:
        """Return the images as the teacher wants them.

        Args:
            inputs (Tensor): The student's, ``(B, C, H, W)``.
            data_samples (Sequence, optional): With ``img_shape``, the part
                of each image that is not padding.

        Returns:
            Tensor: ``(B, C', H', W')``, padded at the right and the bottom to
            what the teacher divides by.
        """
        view = inputs
        if not self.alike:
            self._check(inputs)
            if self.order is not None:
                view = view.index_select(1, self.order)
            view = view * self.scale + self.shift
            if self.turns_gray:
                view = (view * self.gray).sum(1, keepdim=True)
            for image, sample in zip(view, data_samples or ()):
                self._pad(image, sample.metainfo.get('img_shape'))
        below, right = (-side % self.divisor for side in view.shape[-2:])
        if below or right:
            view = F.pad(view, (0, right, 0, below), value=self.pad_value)
        return view

    def of_batch(self, batch: Any) -> Any:
        """Return a batch of a data loader with the images for the teacher.

        Args:
            batch (dict): With ``inputs``, stacked or one tensor an image.
        """
        if self.alike or not isinstance(batch, dict):
            return batch
        inputs = batch['inputs']
        if isinstance(inputs, Tensor):
            return dict(batch, inputs=self(inputs, None))
        return dict(batch, inputs=[self(x[None], None)[0] for x in inputs])

    def _check(self, inputs: Tensor) -> None:
        """Warn, of the first batch, where the teacher sees nothing."""
        if self.checked:
            return
        self.checked = True
        levels = inputs * self.student_std + self.student_mean
        span = (levels.amax((0, 2, 3)) - levels.amin((0, 2, 3))).max().item()
        if span < FEWEST_LEVELS:
            print_log(
                f'model.teacher: the first images span {span:.3g} of 255 '
                'levels, so the teacher sees them nearly blank. If a '
                "transform of train_dataloader normalizes them, use mmcv's "
                'Normalize or model.student.data_preprocessor instead.',
                logger='current',
                level=logging.WARNING,
            )

    def _pad(self, image: Tensor, shape: Optional[Tuple[int, ...]]) -> None:
        """Let padding be the teacher's own, in place."""
        if shape is not None:
            height, width = shape[:2]
            image[:, height:] = self.pad_value
            image[:, :, width:] = self.pad_value


def picked_channels(given: int, wanted: int) -> list:
    """Return the student's channel for each that the teacher's are made of.

    Raises:
        ConfigError: If it is not defined.
    """
    if given == wanted or (given, wanted) == (3, 1):
        return list(range(given))
    if wanted == 3 and (given == 1 or given > 3):
        return [0] * 3 if given == 1 else [0, 1, 2]
    raise ConfigError(
        f'model.teacher takes images of {wanted} channels, which cannot be '
        f"made of the student's {given}; give a teacher of {given} or of 3."
    )


def normalization(
    preprocessor: BaseDataPreprocessor, channels: int = 3
) -> Optional[Normalization]:
    """Return what a data preprocessor does to values; None if unknown.

    Args:
        preprocessor (BaseDataPreprocessor): One of MMEngine, MMDetection or
            MMPretrain, or of their kind.
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
    # On the CPU, wherever the networks are: so the values are the same.
    mean, std = (x.float().cpu() for x in (mean, preprocessor.std))
    return Normalization(mean, std, flips)
