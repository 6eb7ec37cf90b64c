"""Conversion of the student's images to the teacher's normalization."""

from copy import deepcopy
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers import run
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.model import BaseDataPreprocessor
from mmengine.registry import DATASETS, DefaultScope
from mmengine.runner import Runner
from tiny import batch, classification, resnet, retinanet, write_config

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
from mmfmkt.models.distillers.teacher_input import (
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
    """Return a wide and a high image, both of which are padded."""
    one, other = batch(1, 128, 96), batch(1, 64, 120)
    samples = one['data_samples'] + other['data_samples']
    for sample in samples:
        sample.ignored_instances = sample.gt_instances[:0]
    return dict(inputs=one['inputs'] + other['inputs'], data_samples=samples)


@pytest.mark.parametrize('augment', AUGMENTS)
@pytest.mark.parametrize(
    'student, teacher', [(RGB, BGR), (RAW, RGB), (BGR, RAW)]
)
def test_adapted_images_equal_those_of_the_teachers_preprocessor(
    student, teacher, augment, run_progress
):
    augments = AUGMENTS[augment] and [AUGMENTS[augment]]
    student_preprocessor = DetDataPreprocessor(
        **student, batch_augments=augments
    )
    # The expected images have the same augmentation.
    teacher_preprocessor = DetDataPreprocessor(
        **teacher, batch_augments=augments
    )
    for preprocessor in (student_preprocessor, teacher_preprocessor):
        if augment == 'resized':
            preprocessor.batch_augments[0]._input_size = (96, 64)
    adapter = TeacherInputAdapter(
        student_preprocessor, DetDataPreprocessor(**teacher)
    )
    data = student_preprocessor(images(), True)
    expected = teacher_preprocessor(images(), True)['inputs']
    adapted = adapter(data['inputs'], data['data_samples'])
    assert adapted.shape == expected.shape == data['inputs'].shape
    for image, target, sample in zip(adapted, expected, data['data_samples']):
        # Resizing mixes the last row and column with the padding.
        height, width = (side - 1 for side in sample.img_shape)
        torch.testing.assert_close(
            image[:, :height, :width],
            target[:, :height, :width],
            rtol=1e-5,
            atol=1e-3 if teacher is RAW else 1e-5,
        )
        assert not image[:, height + 1 :].any()
        assert not image[:, :, width + 1 :].any()


def test_padding_has_the_teachers_value_and_divisor():
    student_preprocessor = DetDataPreprocessor(**RGB)
    teacher_preprocessor = DetDataPreprocessor(
        **BGR, pad_value=7, pad_size_divisor=64
    )
    adapter = TeacherInputAdapter(student_preprocessor, teacher_preprocessor)
    data = student_preprocessor(images(), True)
    adapted = adapter(data['inputs'], data['data_samples'])
    assert adapted.shape == (2, 3, 128, 128)
    expected = teacher_preprocessor(images(), True)['inputs']
    torch.testing.assert_close(adapted, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    'view', ({}, dict(multiple_of=28), dict(scale=1.5, multiple_of=28))
)
def test_meta_data_name_the_size_of_the_teachers_images(view):
    student = DetDataPreprocessor(**RGB)
    adapter = TeacherInputAdapter(student, DetDataPreprocessor(**BGR), **view)
    data = student(images(), True)
    adapted = adapter(data['inputs'], data['data_samples'])
    for sample in adapter.scale_samples(data['data_samples'], adapted):
        assert sample.batch_input_shape == tuple(adapted.shape[-2:])


def test_images_that_a_transform_of_torchvision_enlarges_are_kept_whole():
    pytest.importorskip('mmpretrain')
    from mmpretrain.models import ClsDataPreprocessor
    from mmpretrain.structures import DataSample

    # The transform does not change the meta data of the loaded image.
    data = dict(
        inputs=[torch.randint(256, (3, 24, 24), dtype=torch.uint8)],
        data_samples=[DataSample(metainfo=dict(img_shape=(10, 10)))],
    )
    student, teacher = (
        ClsDataPreprocessor(mean=x['mean'], std=x['std']) for x in (RGB, BGR)
    )
    adapter = TeacherInputAdapter(student, teacher)
    adapted = adapter(student(data)['inputs'], data['data_samples'])
    expected = teacher(data)['inputs']
    torch.testing.assert_close(adapted, expected, rtol=1e-5, atol=1e-4)


def test_equal_normalizations_return_the_same_tensor():
    adapter = TeacherInputAdapter(
        DetDataPreprocessor(**RGB), DetDataPreprocessor(**RGB)
    )
    inputs = torch.rand(2, 3, 8, 8)
    assert adapter(inputs, None) is inputs


def test_preprocessors_of_unknown_and_different_class_raise_an_error():
    class Unknown(BaseDataPreprocessor):
        pass

    TeacherInputAdapter(Unknown(), Unknown())
    with pytest.raises(ConfigError, match='data_preprocessor is a Unknown'):
        TeacherInputAdapter(Unknown(), DetDataPreprocessor(**RGB))


NORMALIZE = dict(
    type='Normalize', mean=RGB['mean'], std=RGB['std'], to_rgb=True
)
# Data pipelines and settings of data preprocessors.
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


def preprocess(pipeline, preprocessor, image):
    """Return an image after data pipeline and data preprocessor."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        results = Compose([*pipeline, dict(type='PackDetInputs')])(
            dict(img=image.copy(), img_shape=image.shape[:2])
        )
    data = pseudo_collate([results])
    return DetDataPreprocessor(**preprocessor)(data, False)['inputs']


@pytest.mark.parametrize('teacher', FORMS)
@pytest.mark.parametrize('student', FORMS)
def test_pipeline_and_preprocessor_may_both_normalize(student, teacher):
    image = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    forms = FORMS[student], FORMS[teacher]
    adapter = TeacherInputAdapter(
        *(DetDataPreprocessor(**preprocessor) for _, preprocessor in forms),
        tuple(
            pipeline_normalization(dict(pipeline=pipeline), 'x', 'mmdet')
            for pipeline, _ in forms
        ),
    )
    inputs, expected = (preprocess(*form, image) for form in forms)
    adapted = adapter(inputs, None)
    scale = expected.abs().max()
    torch.testing.assert_close(adapted, expected, rtol=0, atol=1e-5 * scale)
    if student == teacher:
        assert adapted is inputs


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


def normalizing_datasets(shapes):
    """Return data sets with the same normalization in different places."""
    plain = coco(shapes, NORMALIZE)
    recorded = dict(
        type='mmfmkt.RecordedViews', views=2, transforms=[NORMALIZE]
    )
    mixed = dict(type='MultiImageMixDataset', dataset=coco(shapes))
    return dict(
        plain=plain,
        subclass=coco(shapes, dict(NORMALIZE, type=CustomNormalize)),
        recorded=coco(shapes, recorded),
        nested=coco(
            shapes, dict(type='RandomApply', prob=1.0, transforms=NORMALIZE)
        ),
        repeated=dict(type='RepeatDataset', times=2, dataset=plain),
        joined=dict(type='ConcatDataset', datasets=[plain, plain]),
        mixed=dict(mixed, pipeline=[NORMALIZE]),
    )


class CustomNormalize(Normalize):
    """Subclass in a user's project."""


@pytest.mark.parametrize('built', (False, True))
def test_normalize_is_detected_in_wrapped_data_sets_and_transforms(
    built, shapes
):
    with DefaultScope.overwrite_default_scope('mmdet'):
        for name, dataset in normalizing_datasets(shapes).items():
            if built:
                dataset = DATASETS.build(deepcopy(dataset))
            mean, std, swaps_rgb = pipeline_normalization(dataset, 'x')
            assert mean.flatten().tolist() == pytest.approx(RGB['mean']), name
            assert std.flatten().tolist() == pytest.approx(RGB['std']), name
            assert swaps_rgb, name


def test_normalization_by_torchvision_transforms_is_detected():
    pytest.importorskip('mmpretrain')
    from mmpretrain.datasets.transforms import PackInputs  # noqa: F401

    pipeline = [
        dict(type='NumpyToPIL', to_rgb=True),
        dict(type='torchvision/ToTensor'),
        dict(
            type='torchvision/Normalize', mean=[0.4, 0.5, 0.6], std=[0.2] * 3
        ),
    ]
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        expected = Compose(deepcopy(pipeline))(dict(img=image))['img']
    for part in (pipeline, Compose):
        if part is Compose:
            with DefaultScope.overwrite_default_scope('mmpretrain'):
                part = Compose(deepcopy(pipeline))
        mean, std, swaps_rgb = pipeline_normalization(
            dict(pipeline=part), 'x', 'mmpretrain'
        )
        raw = torch.from_numpy(image).permute(2, 0, 1).flip(0)
        assert swaps_rgb
        torch.testing.assert_close((raw - mean) / std, expected)


@pytest.mark.parametrize(
    'teacher_data', [None, 'mmpretrain.CustomDataset', 'mmpretrain.CIFAR100']
)
def test_the_channels_of_cifar_are_not_swapped_for_the_teacher(teacher_data):
    """MMPretrain loads CIFAR in RGB, and image files in BGR."""
    datasets = pytest.importorskip('mmpretrain.datasets')
    norm = dict(mean=[125.3, 123.0, 113.9], std=[50.0, 51.0, 52.0])
    student, teacher = resnet(), resnet(8)
    student['data_preprocessor'] = dict(norm, to_rgb=False)
    from_files = teacher_data != 'mmpretrain.CIFAR100'
    teacher['data_preprocessor'] = dict(
        mean=RGB['mean'], std=RGB['std'], to_rgb=from_files
    )
    config = dict(model=teacher)
    if teacher_data is not None:
        config['train_dataloader'] = dict(dataset=dict(type=teacher_data))
    settings = classification(
        'theta', student=student, teacher=config, tap='backbone'
    )
    model = build_network(settings, 'mmpretrain')
    rgb = torch.rand(2, 3, 4, 4) * 255
    images = model.data_preprocessor(dict(inputs=rgb))['inputs']
    mean, std = (torch.tensor(RGB[x]).view(3, 1, 1) for x in ('mean', 'std'))
    data = dict(
        type='RepeatDataset', times=2, dataset=dict(type='mmpretrain.CIFAR10')
    )
    for dataset in (data, datasets.CIFAR10.__new__(datasets.CIFAR10)):
        model.set_teacher_dataset(dataset)
        adapted = model.teacher_holder.input_adapter(images, None)
        assert torch.allclose(adapted, (rgb - mean) / std, atol=1e-5)


CIFAR_PAIR = """
import mmfmkt
from mmfmkt.models.distillers.data_pipeline import dataset_of
from mmfmkt.models.distillers.networks import build_network, load_model_config
from mmfmkt.utils.configs import read_config

config = read_config('mmfmkt::mmpretrain/cifar10/fmkt_resnet56_resnet20.py')
config.model.teacher.checkpoint = None
model = build_network(load_model_config(config, 'model'), 'mmpretrain')
model.set_teacher_dataset(dataset_of(config))
assert model.teacher_holder.input_adapter.is_identity
"""


@pytest.mark.slow
def test_a_teacher_of_the_same_data_set_gets_the_same_images(tmp_path):
    """The libraries' data sets are imported only when they are built."""
    pytest.importorskip('mmpretrain')
    (tmp_path / 'pair.py').write_text(CIFAR_PAIR)
    run(tmp_path / 'pair.py', fresh=True)


def test_data_sets_with_different_normalizations_raise_an_error():
    datasets = [dict(pipeline=[NORMALIZE]), dict(pipeline=[])]
    with pytest.raises(
        ConfigError, match='^train.dataset: its data sets norm'
    ):
        pipeline_normalization(dict(datasets=datasets), 'train.dataset')


@TRANSFORMS.register_module()
class Standardize(BaseTransform):
    """Normalization by an unknown transform."""

    def transform(self, results):
        results['img'] = results['img'].astype(np.float32) / 128 - 1
        return results


def configured(path, shapes, *transforms, **preprocessor):
    """Return a distillation of one iteration on unshuffled images."""
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


def train(cfg):
    """Return the teacher's first input in a Runner, and the log."""
    # Runs of the same second would share a logger.
    cfg.experiment_name = str(cfg.work_dir)
    runner, inputs = Runner.from_cfg(cfg), []
    runner.model.teacher.backbone.register_forward_pre_hook(
        lambda module, args: inputs.append(args[0].clone())
    )
    runner.train()
    runner.message_hub.runtime_info.pop('cfg')
    (log,) = Path(cfg.work_dir).rglob('*.log')
    return inputs[0], log.read_text()


def teacher_inputs(cfg):
    """Return the input of the teacher without a student."""
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
def test_runners_pass_the_normalization_to_the_teacher(kind, shapes, tmp_path):
    transforms = dict(name=[NORMALIZE], **{'new style': []}).get(
        kind, [dict(NORMALIZE, type=Normalize)]
    )
    cfg = configured(tmp_path / 'old.py', shapes, *transforms)
    if kind == 'new style':
        cfg.dump(tmp_path / 'old.py')
        (tmp_path / 'new.py').write_text(NEW_STYLE.format(**RGB))
        cfg = Config.fromfile(tmp_path / 'new.py')
    if '<class ' in cfg.pretty_text:
        pytest.skip('this version of MMEngine writes no classes of configs')
    expected = teacher_inputs(cfg)
    inputs, log = train(cfg)
    torch.testing.assert_close(inputs, expected, rtol=0, atol=1e-5)
    assert 'WARNING - model.teacher.config' not in log
    assert 'nearly blank' not in log


@pytest.mark.slow
@pytest.mark.parametrize('student', ('normalizes', 'is gray'))
def test_the_teacher_is_validated_in_its_normalization(
    student, shapes, tmp_path
):
    cfg = configured(tmp_path / 'a.py', shapes, NORMALIZE)
    expected = teacher_inputs(cfg)
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
    resize = dict(type='Resize', scale=(64, 64))  # unchanged
    cfg.val_dataloader.dataset.pipeline.insert(2, resize)
    cfg.val_evaluator = dict(
        type='CocoMetric',
        metric='bbox',
        ann_file=str(shapes / 'annotations/instances_train.json'),
    )
    cfg.val_cfg = dict(type='ValLoop')
    cfg.custom_hooks = [dict(type='mmfmkt.TeacherCheckHook')]
    inputs, log = train(cfg)
    torch.testing.assert_close(inputs, expected, rtol=0, atol=1e-5)
    assert 'Teacher metrics: coco/bbox_mAP' in log


@pytest.mark.slow
def test_an_unknown_normalization_logs_a_warning(shapes, tmp_path):
    unknown = dict(type='Standardize')
    _, log = train(configured(tmp_path / 'a.py', shapes, unknown))
    assert 'the first images span 1.' in log and 'nearly blank' in log
    _, log = train(configured(tmp_path / 'b.py', shapes, **BGR))
    assert 'nearly blank' not in log


@pytest.mark.slow
def test_the_teachers_data_pipeline_is_applied(shapes, tmp_path):
    cfg = configured(tmp_path / 'a.py', shapes, **RGB)
    teacher = cfg.model.teacher.config
    expected = teacher_inputs(cfg)
    teacher.data_preprocessor = dict(
        type='DetDataPreprocessor', pad_size_divisor=32
    )
    loader = dict(dataset=dict(pipeline=[NORMALIZE]))
    cfg.model.teacher.config = dict(model=teacher, train_dataloader=loader)
    inputs, _ = train(cfg)
    torch.testing.assert_close(inputs, expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_a_teacher_without_a_pipeline_uses_the_students(shapes, tmp_path):
    cfg = configured(tmp_path / 'a.py', shapes, NORMALIZE)
    expected = teacher_inputs(cfg)
    cfg.model.teacher.config.data_preprocessor = dict(
        type='DetDataPreprocessor'
    )
    inputs, log = train(cfg)
    torch.testing.assert_close(inputs, expected, rtol=0, atol=1e-5)
    assert 'give its whole config' in log


CHANNELS = {
    'gray to color': (1, 3, lambda x: np.repeat(x, 3, 2)),
    'four to color': (4, 3, lambda x: x[..., :3]),
    'color to gray': (
        3,
        1,
        lambda x: cv2.cvtColor(x, cv2.COLOR_BGR2GRAY)[..., None],
    ),
    'gray to gray': (1, 1, lambda x: x),
    'four to four': (4, 4, lambda x: x),
}


@pytest.mark.parametrize('swaps_rgb', (False, True))
@pytest.mark.parametrize('name', CHANNELS)
def test_channels_are_converted_as_by_opencv(name, swaps_rgb):
    student_channels, teacher_channels, convert = CHANNELS[name]
    image = np.random.default_rng(0).integers(
        0, 256, (16, 24, student_channels)
    )
    image = image.astype(np.uint8)
    forms = []
    for count, mean in ((student_channels, 90.0), (teacher_channels, 120.0)):
        is_rgb = swaps_rgb and count == 3
        preprocessor = dict(mean=[mean], std=[50.0], bgr_to_rgb=is_rgb)
        if count == 3:
            preprocessor.update(mean=[mean, 1, 2], std=[50.0, 60, 70])
        forms.append(([], preprocessor))
    adapter = TeacherInputAdapter(
        *(DetDataPreprocessor(**preprocessor) for _, preprocessor in forms),
        channels=(student_channels, teacher_channels),
    )
    inputs = preprocess(*forms[0], image)
    expected = preprocess(*forms[1], convert(image))
    # OpenCV rounds gray values to whole levels.
    atol = 0.51 / 50 if name == 'color to gray' else 1e-5
    adapted = adapter(inputs, None)
    torch.testing.assert_close(adapted, expected, rtol=0, atol=atol)


def test_channels_that_cannot_be_converted_raise_an_error():
    with pytest.raises(ConfigError, match='takes images of 4 channels, which'):
        TeacherInputAdapter(
            DetDataPreprocessor(), DetDataPreprocessor(), channels=(3, 4)
        )


@pytest.mark.parametrize('channels', (1, 3, 4, 12))
def test_input_channels_are_those_of_the_first_convolution(channels):
    model = retinanet()
    model.backbone.in_channels = channels
    model.data_preprocessor = dict(type='DetDataPreprocessor')
    assert input_channels(build_network(model, 'mmdet')) == channels


def test_input_channels_of_a_network_with_a_focus_layer():
    config = Config._get_cfg_path(
        'mmdet::yolox/yolox_tiny_8xb8-300e_coco.py', ''
    )
    model = build_network(Config.fromfile(config[0]).model, 'mmdet')
    stem = next(x for x in model.modules() if isinstance(x, torch.nn.Conv2d))
    assert stem.in_channels == 12 and input_channels(model) == 3
