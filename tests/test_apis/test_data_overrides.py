"""``--data-root``: a student of any data set reads a folder in COCO format."""

from pathlib import Path

import numpy as np
import pytest
import torch
from coco import CLASSES, coco_folder
from mmengine.config import Config
from mmengine.registry import DATASETS, METRICS, DefaultScope
from mmengine.structures import InstanceData

mmdet = pytest.importorskip('mmdet')

from mmdet.datasets import CocoDataset, MultiImageMixDataset  # noqa: E402
from mmdet.evaluation import CocoMetric  # noqa: E402
from mmdet.structures import DetDataSample  # noqa: E402
from mmdet.visualization import DetLocalVisualizer  # noqa: E402
from mmengine.dataset import ClassBalancedDataset, RepeatDataset  # noqa: E402

from mmfmkt.apis.data_overrides import (  # noqa: E402
    data_overrides,
    folder_data,
    num_classes_overrides,
)
from mmfmkt.apis.save_best import save_best_overrides  # noqa: E402
from mmfmkt.datasets.coco_folder import find_coco_folder  # noqa: E402
from mmfmkt.utils import ConfigError  # noqa: E402
from mmfmkt.utils.config_text import assignments  # noqa: E402

CONFIGS = Path(mmdet.__file__).parent / '.mim' / 'configs'
COCO = '_base_/datasets/coco_detection.py'
BOTH = ['bbox', 'segm']


@pytest.fixture(scope='module')
def with_masks(tmp_path_factory):
    return coco_folder(tmp_path_factory.mktemp('data') / 'masks')


@pytest.fixture(scope='module')
def with_boxes(tmp_path_factory):
    return coco_folder(tmp_path_factory.mktemp('data') / 'boxes', masks=False)


@pytest.fixture
def build(tmp_path):
    """A student's data sets and metric, on a folder, built by the library."""

    def build(student, folder, classes=CLASSES):
        student = CONFIGS / student
        config = Config.fromfile(student)
        overrides, lines = data_overrides(
            config, find_coco_folder(str(folder))
        )
        path = tmp_path / 'composed.py'
        text = [f'_base_ = {str(student)!r}', *assignments(overrides)]
        path.write_text('\n'.join(text))
        config = Config.fromfile(path)
        scope = config.get('default_scope') or 'mmdet'
        with DefaultScope.overwrite_default_scope(scope):
            data = {
                name: DATASETS.build(config[f'{name}_dataloader'].dataset)
                for name in ('train', 'val', 'test')
            }
            metric = METRICS.build(config.val_evaluator)
        for dataset in data.values():
            assert dataset.metainfo['classes'] == classes
            sample = dataset[0]['data_samples']
            assert len(sample.gt_instances) and len(dataset) >= 4
        assert data['val'].test_mode and data['test'].test_mode
        return data['train'], metric, '\n'.join(lines)

    return build


@pytest.fixture
def write(tmp_path):
    """Write a student's config that changes a shipped one."""

    def write(base, *lines):
        path = tmp_path / 'student.py'
        path.write_text(
            '\n'.join(
                [
                    f'_base_ = {str(CONFIGS / base)!r}',
                    "default_scope = 'mmdet'",
                    *lines,
                ]
            )
        )
        return path

    return write


def wrapped(*wrappers):
    """The training data of ``COCO`` in wrappers, the outermost first."""
    inner = '_base_.train_dataloader.dataset'
    for wrapper in reversed(wrappers):
        inner = wrapper.format(inner)
    return f'train_dataloader = dict(dataset=dict({inner}, _delete_=True))'


REPEAT = "dict(type='RepeatDataset', times=2, dataset={})"
BALANCE = "dict(type='ClassBalancedDataset', oversample_thr=0.1, dataset={})"


@pytest.mark.slow
@pytest.mark.parametrize(
    'student, metric, summary_line',
    [
        (
            'cityscapes/mask-rcnn_r50_fpn_1x_cityscapes.py',
            BOTH,
            'CocoMetric replaces CityScapesMetric',
        ),
        (
            'lvis/mask-rcnn_r50_fpn_sample1e-3_ms-1x_lvis-v1.py',
            BOTH,
            'CocoDataset replaces LVISV1Dataset',
        ),
        (
            'openimages/faster-rcnn_r50_fpn_32xb2-1x_openimages.py',
            ['bbox'],
            'CocoMetric replaces OpenImagesMetric',
        ),
        (
            'openimages/ssd300_32xb8-36e_openimages.py',
            ['bbox'],
            'CocoDataset replaces OpenImagesDataset',
        ),
        (
            'objects365/retinanet_r50_fpn_1x_objects365v1.py',
            ['bbox'],
            'CocoDataset replaces Objects365V1Dataset',
        ),
        (
            'pascal_voc/faster-rcnn_r50_fpn_1x_voc0712.py',
            ['bbox'],
            'CocoDataset replaces VOCDataset',
        ),
        (
            'crowddet/crowddet-rcnn_r50_fpn_8xb2-30e_crowdhuman.py',
            ['bbox'],
            'CocoMetric replaces CrowdHumanMetric',
        ),
        (
            'wider_face/ssd300_8xb32-24e_widerface.py',
            ['bbox'],
            'CocoDataset replaces WIDERFaceDataset',
        ),
        (
            'v3det/faster_rcnn_r50_fpn_8x4_sample1e-3_mstrain_v3det_2x.py',
            ['bbox'],
            'CocoDataset replaces V3DetDataset',
        ),
    ],
)
def test_another_data_set_and_its_metric_are_replaced(
    student, metric, summary_line, build, with_masks
):
    train, evaluator, lines = build(student, with_masks)
    while hasattr(train, 'dataset'):
        train = train.dataset
    assert type(train) is CocoDataset and type(evaluator) is CocoMetric
    assert evaluator.metrics == metric
    assert summary_line in lines


def test_a_coco_data_set_keeps_its_settings_and_evaluator(
    build, write, with_boxes
):
    student = write(
        COCO,
        'train_dataloader = dict(dataset=dict(filter_cfg=dict(min_size=8)))',
        'val_evaluator = dict(classwise=True)',
        'val_dataloader = dict(dataset=dict(metainfo=dict(palette=[(1, 2, 3)])'
        '))',
    )
    train, evaluator, lines = build(student, with_boxes)
    assert train.filter_cfg == dict(filter_empty_gt=True, min_size=8)
    assert evaluator.classwise and 'replaces' not in lines


@pytest.mark.parametrize(
    'wrappers, kinds',
    [
        ((REPEAT,), [RepeatDataset, CocoDataset]),
        ((REPEAT, BALANCE), [RepeatDataset, ClassBalancedDataset]),
    ],
)
def test_wrappers_of_a_coco_data_set_are_kept(
    wrappers, kinds, write, with_boxes
):
    student = write(COCO, wrapped(*wrappers))
    config = Config.fromfile(student)
    data = find_coco_folder(str(with_boxes))
    overrides, lines = data_overrides(config, data)
    text = ["_base_ = 'student.py'", *assignments(overrides)]
    student.with_name('child.py').write_text('\n'.join(text))
    config = Config.fromfile(student.with_name('child.py'))
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = DATASETS.build(config.train_dataloader.dataset)
    assert dataset.metainfo['classes'] == CLASSES and len(dataset) >= 4
    for kind in kinds:
        assert type(dataset) is kind
        dataset = getattr(dataset, 'dataset', None)
    assert not any('replaces' in line for line in lines)


@pytest.mark.slow
def test_mosaic_wrappers_are_kept_around_the_replaced_data_set(
    build, write, with_boxes
):
    yolox = 'yolox/yolox_tiny_8xb8-300e_coco.py'
    lvis = write(
        yolox,
        "_base_.train_dataloader.dataset.dataset.type = 'LVISV1Dataset'",
        wrapped(REPEAT),
    )
    for student, summary_line in (
        (yolox, ''),
        (lvis, 'CocoDataset replaces LVISV1Dataset'),
    ):
        train, _, lines = build(student, with_boxes)
        if student == lvis:
            assert type(train) is RepeatDataset
            train = train.dataset
        assert type(train) is MultiImageMixDataset
        assert type(train.dataset) is CocoDataset
        assert type(train.pipeline[0]).__name__ == 'Mosaic'
        assert (
            summary_line in lines if summary_line else 'replaces' not in lines
        )


def test_user_defined_subclasses_of_coco_dataset_are_kept(
    build, write, with_boxes
):
    class Renamed(CocoDataset):
        METAINFO = dict(classes=('other',))

    DATASETS.register_module(module=Renamed, force=True)
    student = write(
        COCO, "train_dataloader = dict(dataset=dict(type='mmengine.Renamed'))"
    )
    train, _, lines = build(student, with_boxes)
    assert type(train) is Renamed and 'replaces' not in lines


@pytest.mark.parametrize('as_dict', [False, True])
def test_several_metrics_become_one_with_the_settings_of_the_first_coco_metric(
    as_dict, build, write, with_boxes
):
    metrics = (
        "[dict(type='VOCMetric'), dict(type='CocoMetric', "
        "ann_file='gone.json', classwise=True, format_only=True)]"
    )
    if as_dict:
        metrics = f"dict(_delete_=True, type='Evaluator', metrics={metrics})"
    student = write(COCO, f'val_evaluator = {metrics}')
    _, evaluator, lines = build(student, with_boxes)
    assert evaluator.classwise and not evaluator.format_only
    assert 'VOCMetric (val_evaluator)' in lines


@pytest.mark.parametrize(
    'student, sentence',
    [
        (
            'mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
            'the student needs masks, which .*instances_train.json lacks, '
            '.train_dataloader.dataset',
        ),
        (
            'lvis/mask-rcnn_r50_fpn_sample1e-3_ms-1x_lvis-v1.py',
            'needs masks, .*lacks, .train_dataloader.dataset.dataset',
        ),
        (
            'panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py',
            'the student needs segmentation maps .train_dataloader.dataset',
        ),
        (
            'htc/htc_r50_fpn_1x_coco.py',
            'the student needs segmentation maps .train_dataloader.dataset',
        ),
        (
            'fast_rcnn/fast-rcnn_r50_fpn_1x_coco.py',
            'the student needs proposals .train_dataloader.dataset',
        ),
    ],
)
def test_missing_annotation_files_are_named(
    student, sentence, build, with_boxes
):
    with pytest.raises(ConfigError, match=sentence) as error:
        build(student, with_boxes)
    assert str(error.value).startswith('--data-root: ')


@pytest.mark.slow
def test_box_supervised_masks_are_evaluated_as_boxes(
    build, with_boxes, with_masks
):
    student = 'boxinst/boxinst_r50_fpn_ms-90k_coco.py'
    _, evaluator, _ = build(student, with_boxes)
    assert evaluator.metrics == ['bbox']
    _, evaluator, _ = build(student, with_masks)
    assert evaluator.metrics == BOTH


def test_all_class_counts_of_a_network_are_overridden():
    student = CONFIGS / 'mask2former/mask2former_r50_8xb2-lsj-50e_coco.py'
    assert num_classes_overrides(Config.fromfile(student).model, 3) == {
        'panoptic_head.num_things_classes': 3,
        'panoptic_head.loss_cls.class_weight': [1.0, 1.0, 1.0, 0.1],
        'panoptic_fusion_head.num_things_classes': 3,
    }


@pytest.mark.parametrize('dataset', ['Coco', 'DeepFashion'])
def test_predictions_of_any_number_of_classes_can_be_drawn(
    dataset, build, write, tmp_path
):
    data = f"train_dataloader = dict(dataset=dict(type='{dataset}Dataset'))"
    classes = tuple(f'class {i}' for i in range(90))
    folder = coco_folder(tmp_path / 'data', classes=classes)
    train, _, _ = build(write(COCO, data), folder, classes)
    visualizer = DetLocalVisualizer()
    visualizer.dataset_meta = train.metainfo
    instances = InstanceData(
        bboxes=torch.tensor([[4.0, 4, 30, 30]]),
        labels=torch.tensor([89]),
        scores=torch.ones(1),
    )
    sample = DetDataSample(pred_instances=instances)
    visualizer.add_datasample('', np.zeros((64, 64, 3), np.uint8), sample)
    assert visualizer.get_image().any()


@pytest.mark.parametrize(
    'metric, save_best, expected',
    [
        ('VOCMetric', 'pascal_voc/mAP', 'coco/bbox_mAP'),
        ('VOCMetric', 'auto', 'auto'),
        ('VOCMetric', ['coco/bbox_mAP_50'], ['coco/bbox_mAP_50']),
        ('CocoMetric', 'coco/AR@100', 'coco/AR@100'),
    ],
)
def test_save_best_of_a_replaced_metric_becomes_the_map(
    metric, save_best, expected, write, with_boxes
):
    student = write(
        COCO,
        f"val_evaluator = dict(type='{metric}')",
        'default_hooks = dict(checkpoint=dict('
        f'save_best={save_best!r}, rule="less"))',
    )
    config = Config.fromfile(student)
    folder = find_coco_folder(with_boxes)
    overrides, lines = data_overrides(config, folder)
    config.merge_from_dict(overrides)
    hook = config.default_hooks.checkpoint
    assert hook.save_best == expected
    replaced = 'coco/bbox_mAP replaces pascal_voc/mAP' in '\n'.join(lines)
    assert replaced == (save_best == 'pascal_voc/mAP')
    assert hook.rule == ('greater' if replaced else 'less')


@pytest.mark.parametrize('name', ['accuracy/top1_k8', 'accuracy/top10'])
def test_save_best_of_another_accuracy_becomes_top1(name):
    hooks = dict(checkpoint=dict(save_best=name))
    config = Config(dict(default_hooks=hooks))
    overrides, lines = save_best_overrides(config, dict(topk=(1, 5)))
    key = 'default_hooks.checkpoint.save_best'
    assert overrides[key] == 'accuracy/top1' and name in lines[0]


@pytest.mark.parametrize('num_classes, topk', [(3, (1,)), (7, (1, 5))])
def test_a_classifier_gets_the_folder_with_its_wrapper_and_pipeline(
    num_classes, topk, tmp_path
):
    pytest.importorskip('mmpretrain')
    flip, pack = dict(type='RandomFlip', prob=0.5), dict(type='PackInputs')
    load = dict(type='LoadImageFromFile')
    cifar = dict(type='CIFAR10', pipeline=[flip, pack])
    config = Config(
        dict(
            model=dict(
                type='ImageClassifier',
                head=dict(num_classes=10, loss=dict(class_weight=[2.0] * 10)),
            ),
            data_preprocessor=dict(num_classes=10),
            train_dataloader=dict(
                dataset=dict(type='RepeatDataset', times=2, dataset=cifar)
            ),
            val_dataloader=dict(
                dataset=dict(type='ImageNet', pipeline=[load, pack])
            ),
            val_evaluator=dict(type='Accuracy', topk=(1, 5)),
            default_hooks=dict(checkpoint=dict(save_best='accuracy/top5')),
            default_scope='mmpretrain',
        )
    )
    classes = 'abcdefg'[:num_classes]
    for split in ('train', 'test'):
        for name in classes:
            (tmp_path / split / name).mkdir(parents=True)
    data = folder_data(config, 'mmpretrain', str(tmp_path), tmp_path)
    assert '          CustomDataset replaces CIFAR10' in data.summary
    data.merge_into(config)
    outer = config.train_dataloader.dataset
    assert (outer.type, outer.times) == ('RepeatDataset', 2)
    datasets = outer.dataset, config.val_dataloader.dataset
    # CIFAR's data sets return pixels.
    pipelines = [load, flip, pack], [load, pack]
    for dataset, pipeline, split in zip(
        datasets, pipelines, ('train', 'test')
    ):
        assert dataset.type == 'mmpretrain.CustomDataset'
        assert dataset.pipeline == pipeline and dataset.data_prefix == split
    assert config.model.head.num_classes == num_classes
    assert config.model.head.loss.class_weight == [2.0] * num_classes
    # CIFAR's data sets return RGB images, OpenCV reads BGR.
    assert config.data_preprocessor == dict(
        num_classes=num_classes, to_rgb=True
    )
    assert config.val_evaluator.topk == topk
    best = config.default_hooks.checkpoint.save_best
    assert best == f'accuracy/top{topk[-1]}'
