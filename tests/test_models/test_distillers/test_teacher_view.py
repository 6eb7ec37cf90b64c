"""Teacher input: the student's images, in the teacher's normalization."""

from copy import deepcopy
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.model import BaseDataPreprocessor
from mmengine.registry import DATASETS, DefaultScope
from mmengine.runner import Runner
from tiny import batch, retinanet, write_config

pytest.importorskip('mmdet')

from mmcv.transforms import BaseTransform, Normalize  # noqa: E402
from mmdet.models import DetDataPreprocessor  # noqa: E402
from mmdet.registry import MODELS, TRANSFORMS  # noqa: E402

from mmfmkt.models.distillers.data_pipeline import (  # noqa: E402
    pipeline_normalization,
)
from mmfmkt.models.distillers.networks import build_network  # noqa: E402
from mmfmkt.models.distillers.probing import (  # noqa: E402
    input_channels,
)
from mmfmkt.models.distillers.teacher_view import (
    TeacherInputAdapter,  # noqa: E402
)
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
    view = TeacherInputAdapter(ours, DetDataPreprocessor(**teacher))
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
    view = TeacherInputAdapter(ours, theirs)
    seen = ours(images(), True)
    found = view(seen['inputs'], seen['data_samples'])
    assert found.shape == (2, 3, 128, 128)
    expected = theirs(images(), True)['inputs']
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


def test_equal_preprocessors_pass_images_on_unchanged():
    view = TeacherInputAdapter(
        DetDataPreprocessor(**RGB), DetDataPreprocessor(**RGB)
    )
    seen = torch.rand(2, 3, 8, 8)
    assert view(seen, None) is seen


def test_a_preprocessor_that_is_not_understood_is_refused():
    class Strange(BaseDataPreprocessor):
        pass

    TeacherInputAdapter(Strange(), Strange())
    with pytest.raises(ConfigError, match='data_preprocessor is a Strange'):
        TeacherInputAdapter(Strange(), DetDataPreprocessor(**RGB))


NORMALIZE = dict(
    type='Normalize', mean=RGB['mean'], std=RGB['std'], to_rgb=True
)
# Pipelines and data preprocessors, and what they take together.
FORMS = {
    'preprocessor': ([], RGB),
    'pipeline': ([NORMALIZE], {}),
    'pipeline in BGR': ([dict(NORMALIZE, to_rgb=False)], {}),
    'both': (
        [dict(NORMALIZE, mean=[9.0, 8.0, 7.0], std=[200.0] * 3)],
        dict(mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.4], bgr_to_rgb=True),
    ),
    'neither': ([], {}),
}


def seen_through(pipeline, preprocessor, picture):
    """What a network sees of a picture."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        results = Compose([*pipeline, dict(type='PackDetInputs')])(
            dict(img=picture.copy(), img_shape=picture.shape[:2])
        )
    data = pseudo_collate([results])
    return DetDataPreprocessor(**preprocessor)(data, False)['inputs']


@pytest.mark.parametrize('teacher', FORMS)
@pytest.mark.parametrize('student', FORMS)
def test_wherever_images_are_normalized_the_teacher_sees_its_own(
    student, teacher
):
    picture = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    forms = FORMS[student], FORMS[teacher]
    view = TeacherInputAdapter(
        *(DetDataPreprocessor(**preprocessor) for _, preprocessor in forms),
        tuple(
            pipeline_normalization(dict(pipeline=pipeline), 'x', 'mmdet')
            for pipeline, _ in forms
        ),
    )
    seen, expected = (seen_through(*form, picture) for form in forms)
    found = view(seen, None)
    scale = expected.abs().max()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * scale)
    if student == teacher:
        assert found is seen


def coco(shapes, *transforms):
    return dict(
        type='CocoDataset',
        data_root=str(shapes),
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='train/'),
        metainfo=dict(classes=('circle', 'ring')),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            *transforms,
            dict(type='PackDetInputs'),
        ],
    )


def wrapped(shapes):
    """Data sets that all normalize, each in its own way."""
    plain = coco(shapes, NORMALIZE)
    recorded = dict(
        type='mmfmkt.RecordedViews', views=2, transforms=[NORMALIZE]
    )
    mixed = dict(type='MultiImageMixDataset', dataset=coco(shapes))
    return dict(
        plain=plain,
        subclass=coco(shapes, dict(NORMALIZE, type=OwnNormalize)),
        recorded=coco(shapes, recorded),
        nested=coco(
            shapes, dict(type='RandomApply', prob=1.0, transforms=NORMALIZE)
        ),
        repeated=dict(type='RepeatDataset', times=2, dataset=plain),
        joined=dict(type='ConcatDataset', datasets=[plain, plain]),
        mixed=dict(mixed, pipeline=[NORMALIZE]),
    )


class OwnNormalize(Normalize):
    """A user's."""


@pytest.mark.parametrize('built', (False, True))
def test_normalize_is_found_in_all_that_wraps_it(built, shapes):
    with DefaultScope.overwrite_default_scope('mmdet'):
        for name, dataset in wrapped(shapes).items():
            if built:
                dataset = DATASETS.build(deepcopy(dataset))
            mean, std, flips = pipeline_normalization(dataset, 'x')
            assert mean.flatten().tolist() == pytest.approx(RGB['mean']), name
            assert std.flatten().tolist() == pytest.approx(RGB['std']), name
            assert flips, name


def test_transforms_of_torchvision_are_known_where_mmpretrain_is():
    pytest.importorskip('mmpretrain')
    from mmpretrain.datasets.transforms import PackInputs  # noqa: F401

    pipeline = [
        dict(type='NumpyToPIL', to_rgb=True),
        dict(type='torchvision/ToTensor'),
        dict(
            type='torchvision/Normalize', mean=[0.4, 0.5, 0.6], std=[0.2] * 3
        ),
    ]
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        expected = Compose(deepcopy(pipeline))(dict(img=picture))['img']
    for part in (pipeline, Compose):
        if part is Compose:
            with DefaultScope.overwrite_default_scope('mmpretrain'):
                part = Compose(deepcopy(pipeline))
        mean, std, flips = pipeline_normalization(
            dict(pipeline=part), 'x', 'mmpretrain'
        )
        raw = torch.from_numpy(picture).permute(2, 0, 1).flip(0)
        assert flips
        torch.testing.assert_close((raw - mean) / std, expected)


def test_data_sets_that_disagree_are_named():
    datasets = [dict(pipeline=[NORMALIZE]), dict(pipeline=[])]
    with pytest.raises(
        ConfigError, match='^train.dataset: its data sets norm'
    ):
        pipeline_normalization(dict(datasets=datasets), 'train.dataset')


@TRANSFORMS.register_module()
class Standardize(BaseTransform):
    """Normalizes, and nobody can know."""

    def transform(self, results):
        results['img'] = results['img'].astype(np.float32) / 128 - 1
        return results


def configured(path, shapes, *transforms, **preprocessor):
    """A distillation of one iteration, on images in their order."""
    cfg = Config.fromfile(write_config(path, shapes, 'theta', epochs=1))
    loader = cfg.train_dataloader
    loader.dataset.pipeline = coco(shapes, *transforms)['pipeline']
    loader.sampler = dict(type='DefaultSampler', shuffle=False)
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=1)
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.custom_hooks = []
    cfg.default_hooks = dict(checkpoint=None)
    cfg.model.student.data_preprocessor = dict(
        type='DetDataPreprocessor', **preprocessor
    )
    cfg.work_dir = str(path.parent / path.stem)
    return cfg


def trained(cfg):
    """What the teacher saw of the first batch under a plain Runner."""
    runner, seen = Runner.from_cfg(cfg), []
    runner.model.teacher.backbone.register_forward_pre_hook(
        lambda module, args: seen.append(args[0].clone())
    )
    runner.train()
    runner.message_hub.runtime_info.pop('cfg')
    (log,) = Path(cfg.work_dir).rglob('*.log')
    return seen[0], log.read_text()


def own_images(cfg):
    """What the teacher sees of these images where it is alone."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = DATASETS.build(
            dict(
                cfg.train_dataloader.dataset,
                pipeline=coco('')['pipeline'],
            )
        )
        teacher = MODELS.build(cfg.model.teacher.config.data_preprocessor)
    return teacher(pseudo_collate([dataset[i] for i in range(4)]))['inputs']


NEW_STYLE = """
from mmengine.config import read_base
from mmcv.transforms import Normalize
with read_base():
    from .old import *
train_dataloader.dataset.pipeline.insert(2, dict(
    type=Normalize, mean={mean}, std={std}, to_rgb=True))
"""


@pytest.mark.slow
@pytest.mark.parametrize('kind', ('name', 'class', 'new style'))
def test_a_runner_of_mmengine_shows_the_teacher_its_own_images(
    kind, shapes, tmp_path
):
    transforms = dict(name=[NORMALIZE], **{'new style': []}).get(
        kind, [dict(NORMALIZE, type=Normalize)]
    )
    cfg = configured(tmp_path / 'old.py', shapes, *transforms)
    if kind == 'new style':
        cfg.dump(tmp_path / 'old.py')
        (tmp_path / 'new.py').write_text(NEW_STYLE.format(**RGB))
        cfg = Config.fromfile(tmp_path / 'new.py')
    expected = own_images(cfg)
    seen, log = trained(cfg)
    torch.testing.assert_close(seen, expected, rtol=0, atol=1e-5)
    assert 'WARNING - model.teacher.config' not in log
    assert 'nearly blank' not in log


@pytest.mark.slow
@pytest.mark.parametrize('student', ('normalizes', 'is gray'))
def test_a_teacher_is_validated_on_its_own_images(student, shapes, tmp_path):
    cfg = configured(tmp_path / 'a.py', shapes, NORMALIZE)
    expected = own_images(cfg)
    if student == 'is gray':
        load = dict(type='LoadImageFromFile', color_type='grayscale')
        cfg.train_dataloader.dataset.pipeline[0] = load
        cfg.train_dataloader.dataset.pipeline.pop(2)
        cfg.model.student.backbone.in_channels = 1
        with DefaultScope.overwrite_default_scope('mmdet'):
            gray = DATASETS.build(deepcopy(cfg.train_dataloader.dataset))
            teacher = MODELS.build(cfg.model.teacher.config.data_preprocessor)
        images = [gray[i]['inputs'].repeat(3, 1, 1) for i in range(4)]
        expected = teacher(dict(inputs=images))['inputs']
    cfg.val_dataloader = deepcopy(cfg.train_dataloader)
    resize = dict(type='Resize', scale=(64, 64))  # as they are
    cfg.val_dataloader.dataset.pipeline.insert(2, resize)
    cfg.val_evaluator = dict(
        type='CocoMetric',
        metric='bbox',
        ann_file=str(shapes / 'annotations/instances_train.json'),
    )
    cfg.val_cfg = dict(type='ValLoop')
    cfg.custom_hooks = [dict(type='mmfmkt.TeacherCheckHook')]
    seen, log = trained(cfg)
    torch.testing.assert_close(seen, expected, rtol=0, atol=1e-5)
    assert 'Teacher metrics: coco/bbox_mAP' in log


@pytest.mark.slow
def test_an_unknown_transform_that_normalizes_causes_a_warning(
    shapes, tmp_path
):
    unknown = dict(type='Standardize')
    _, log = trained(configured(tmp_path / 'a.py', shapes, unknown))
    assert 'the first images span 1.' in log and 'nearly blank' in log
    _, log = trained(configured(tmp_path / 'b.py', shapes, **BGR))
    assert 'nearly blank' not in log


@pytest.mark.slow
def test_a_teacher_that_was_trained_on_normalized_images_gets_them(
    shapes, tmp_path
):
    cfg = configured(tmp_path / 'a.py', shapes, **RGB)
    teacher = cfg.model.teacher.config
    expected = own_images(cfg)
    teacher.data_preprocessor = dict(
        type='DetDataPreprocessor', pad_size_divisor=32
    )
    loader = dict(dataset=dict(pipeline=[NORMALIZE]))
    cfg.model.teacher.config = dict(model=teacher, train_dataloader=loader)
    seen, _ = trained(cfg)
    torch.testing.assert_close(seen, expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_a_teacher_of_which_no_data_are_known_shares_the_pipeline(
    shapes, tmp_path
):
    cfg = configured(tmp_path / 'a.py', shapes, NORMALIZE)
    expected = own_images(cfg)
    cfg.model.teacher.config.data_preprocessor = dict(
        type='DetDataPreprocessor'
    )
    seen, log = trained(cfg)
    torch.testing.assert_close(seen, expected, rtol=0, atol=1e-5)
    assert 'give its whole config' in log


CHANNELS = {
    'gray under color': (1, 3, lambda x: np.repeat(x, 3, 2)),
    'four under color': (4, 3, lambda x: x[..., :3]),
    'color under gray': (
        3,
        1,
        lambda x: cv2.cvtColor(x, cv2.COLOR_BGR2GRAY)[..., None],
    ),
    'gray under gray': (1, 1, lambda x: x),
    'four under four': (4, 4, lambda x: x),
}


@pytest.mark.parametrize('flips', (False, True))
@pytest.mark.parametrize('name', CHANNELS)
def test_a_teacher_of_other_channels_sees_the_same_picture(name, flips):
    given, wanted, convert = CHANNELS[name]
    picture = np.random.default_rng(0).integers(0, 256, (16, 24, given))
    picture = picture.astype(np.uint8)
    forms = []
    for count, mean in ((given, 90.0), (wanted, 120.0)):
        color = flips and count == 3
        preprocessor = dict(mean=[mean], std=[50.0], bgr_to_rgb=color)
        if count == 3:
            preprocessor.update(mean=[mean, 1, 2], std=[50.0, 60, 70])
        forms.append(([], preprocessor))
    view = TeacherInputAdapter(
        *(DetDataPreprocessor(**preprocessor) for _, preprocessor in forms),
        channels=(given, wanted),
    )
    seen = seen_through(*forms[0], picture)
    expected = seen_through(*forms[1], convert(picture))
    # OpenCV rounds gray values to whole levels.
    atol = 0.51 / 50 if name == 'color under gray' else 1e-5
    found = view(seen, None)
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


def test_channels_that_cannot_be_made_are_named():
    with pytest.raises(ConfigError, match='takes images of 4 channels, which'):
        TeacherInputAdapter(
            DetDataPreprocessor(), DetDataPreprocessor(), channels=(3, 4)
        )


@pytest.mark.parametrize('channels', (1, 3, 4, 12))
def test_the_channels_of_images_are_read_off_the_network(channels):
    model = retinanet()
    model.backbone.in_channels = channels
    model.data_preprocessor = dict(type='DetDataPreprocessor')
    assert input_channels(build_network(model, 'mmdet')) == channels


def test_a_first_layer_on_patches_does_not_hide_the_channels():
    config = Config._get_cfg_path(
        'mmdet::yolox/yolox_tiny_8xb8-300e_coco.py', ''
    )
    model = build_network(Config.fromfile(config[0]).model, 'mmdet')
    stem = next(x for x in model.modules() if isinstance(x, torch.nn.Conv2d))
    assert stem.in_channels == 12 and input_channels(model) == 3
