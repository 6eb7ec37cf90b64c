"""The teacher sees the student's pixels, at their places, as its own."""

import pytest
import torch
from mmengine.model import BaseDataPreprocessor
from tiny import batch

pytest.importorskip('mmdet')

from mmdet.models import DetDataPreprocessor  # noqa: E402

from mmfmkt.models.distillers.teacher_view import TeacherView  # noqa: E402
from mmfmkt.utils import ConfigError  # noqa: E402

RGB = dict(
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
)
BGR = dict(mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0])
RAW = dict()
AUGMENTS = {
    'none': None,
    'fixed size': dict(type='mmdet.BatchFixedSizePad', size=(160, 160)),
    'resized': dict(
        type='mmdet.BatchSyncRandomResize', random_size_range=(64, 64)
    ),
    'resized and padded': dict(
        type='mmdet.BatchResize', scale=(96, 144), pad_size_divisor=64
    ),
}


def images():
    """A wide and a high image: each is padded."""
    one, other = batch(1, 128, 96), batch(1, 64, 120)
    samples = one['data_samples'] + other['data_samples']
    for sample in samples:
        sample.ignored_instances = sample.gt_instances[:0]
    return dict(inputs=one['inputs'] + other['inputs'], data_samples=samples)


@pytest.mark.parametrize('augment', AUGMENTS)
@pytest.mark.parametrize(
    'student, teacher', [(RGB, BGR), (RAW, RGB), (BGR, RAW)]
)
def test_pixels_are_those_of_the_teachers_own_under_any_augmentation(
    student, teacher, augment, run_progress
):
    augments = AUGMENTS[augment] and [AUGMENTS[augment]]
    ours = DetDataPreprocessor(**student, batch_augments=augments)
    # What the teacher would make of the images with the same augmentation.
    theirs = DetDataPreprocessor(**teacher, batch_augments=augments)
    for preprocessor in (ours, theirs):
        if augment == 'resized':
            preprocessor.batch_augments[0]._input_size = (96, 64)
    view = TeacherView(ours, DetDataPreprocessor(**teacher))
    seen = ours(images(), True)
    expected = theirs(images(), True)['inputs']
    found = view(seen['inputs'], seen['data_samples'])
    assert found.shape == expected.shape == seen['inputs'].shape
    for image, wanted, sample in zip(found, expected, seen['data_samples']):
        # Resizing mixes the last row and column with the padding behind.
        height, width = (side - 1 for side in sample.img_shape)
        torch.testing.assert_close(
            image[:, :height, :width],
            wanted[:, :height, :width],
            rtol=1e-5,
            atol=1e-3 if teacher is RAW else 1e-5,
        )
        assert not image[:, height + 1 :].any()
        assert not image[:, :, width + 1 :].any()


def test_padding_is_the_teachers_own():
    ours = DetDataPreprocessor(**RGB)
    theirs = DetDataPreprocessor(**BGR, pad_value=7, pad_size_divisor=64)
    view = TeacherView(ours, theirs)
    seen = ours(images(), True)
    found = view(seen['inputs'], seen['data_samples'])
    assert found.shape == (2, 3, 128, 128)
    expected = theirs(images(), True)['inputs']
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


def test_what_is_alike_is_handed_on_as_it_is():
    view = TeacherView(DetDataPreprocessor(**RGB), DetDataPreprocessor(**RGB))
    seen = torch.rand(2, 3, 8, 8)
    assert view(seen, None) is seen


def test_a_preprocessor_that_is_not_understood_is_refused():
    class Strange(BaseDataPreprocessor):
        pass

    TeacherView(Strange(), Strange())
    with pytest.raises(ConfigError, match='data_preprocessor is a Strange'):
        TeacherView(Strange(), DetDataPreprocessor(**RGB))
