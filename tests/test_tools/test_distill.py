"""tools/distill.py: composing and training a distillation of two configs."""

import json
import re
from types import SimpleNamespace

import pytest
import torch
from coco import CLASSES, coco_folder
from helpers import ROOT, run, scalars
from mmengine.config import Config
from new_style import REGISTRIES, write_new_style
from tiny import resnet, vit, write_network
from yolo_voc import to_yolo

pytest.importorskip('mmdet')
pytestmark = pytest.mark.slow

from mmfmkt.apis import compose_distillation  # noqa: E402
from mmfmkt.apis.composed_config import (  # noqa: E402
    with_digest,
    write_configs,
)
from mmfmkt.cli import main  # noqa: E402
from mmfmkt.models.distillers.networks import (  # noqa: E402
    build_network,
    load_model_config,
)
from mmfmkt.registry import MODELS  # noqa: E402
from mmfmkt.utils import ConfigError  # noqa: E402
from mmfmkt.utils.types import resolve_type  # noqa: E402

ALONE = """
import runpy, sys
from pathlib import Path
sys.modules['mmfmkt'] = None
import mmdet
sys.argv = [str(Path(mmdet.__file__).parent / '.mim/tools' / sys.argv[1]),
            *sys.argv[2:]]
runpy.run_path(sys.argv[0], run_name='__main__')
"""


@pytest.fixture
def pair(tmp_path):
    return (
        write_network(tmp_path / 'student.py', 16, 8),
        write_network(tmp_path / 'teacher.py', 24, 16, start_level=0),
    )


def test_distill_py_trains_and_exports(pair, shapes, tmp_path):
    student, teacher = pair
    work_dir = tmp_path / 'run'
    log = run(
        'tools/distill.py',
        student,
        '--teacher',
        teacher,
        '--data-root',
        shapes,
        '--variant',
        'theta',
        '--work-dir',
        work_dir,
    )
    # P3 to P7 in the student, P2 to P6 in the teacher.
    assert 'level 0 to 1, stride 8, 16 channels to 24 by a 1x1' in log
    assert 'level 3 to 4, stride 64' in log
    assert 'inherits' not in log
    assert 'N = 4\n' in log  # no K, since no flow is deployed
    assert 'deployed  the student without a flow: no additional cost' in log
    assert 'Evaluating bbox' in log
    logged = scalars(tmp_path / 'run')[0]
    assert 'neck.3.loss_direct' in logged
    assert 'neck.3.loss_student' not in logged
    assert (work_dir / 'student' / 'student.pth').is_file()
    (config,) = work_dir.glob('theta_teacher_student.py')
    cfg = Config.fromfile(config)
    assert cfg.model.student.bbox_head.num_classes == 6
    assert cfg.train_dataloader.dataset.metainfo.classes[0] == 'circle'


def test_a_dry_run_writes_a_config_that_can_be_inherited(
    pair, shapes, tmp_path
):
    student, teacher = pair
    command = (
        'tools/distill.py',
        student,
        '--teacher',
        teacher,
        '--data-root',
        shapes,
        '--dry-run',
        '--work-dir',
        tmp_path,
    )
    log = run(*command)
    assert 'Epoch(train)' not in log and 'FLOPs of a 256x256 image' in log
    config = tmp_path / 'fmkt_teacher_student.py'
    child = tmp_path / 'child.py'
    child.write_text(f"_base_ = '{config}'\nmodel = dict(variant='theta')\n")
    assert Config.fromfile(child).model.variant == 'theta'
    # Once more is nothing new, and other options replace the config.
    text = config.read_text()
    assert run(*command) and config.read_text() == text
    missing = ('--teacher-checkpoint', tmp_path / 'missing.pth')
    assert 'missing.pth' in run(*command, *missing, fails=True)
    assert 'missing.pth' in config.read_text()
    assert run(*command) and config.read_text() == text
    # What somebody has edited, or a training has used, is kept.
    config.write_text(f'{text}edited = True\n')
    log = run(*command, fails=True)
    assert 'differs from the composed config' in log
    assert config.read_text().endswith('edited = True\n')
    config.write_text(text)
    (tmp_path / 'last_checkpoint').touch()
    log = run(*command, *missing, fails=True)
    assert 'differs from the composed config' in log
    assert config.read_text() == text


MASK_STUDENT = """
_base_ = 'mmdet::cityscapes/mask-rcnn_r50_fpn_1x_cityscapes.py'
load_from = None
roi = dict(out_channels=16)
model = dict(
    backbone=dict(depth=18, base_channels=8, stem_channels=8, init_cfg=None),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(
        bbox_roi_extractor=roi,
        mask_roi_extractor=roi,
        bbox_head=dict(in_channels=16, fc_out_channels=16),
        mask_head=dict(in_channels=16, conv_out_channels=16, num_convs=1)))
train_cfg = dict(max_epochs=1)
train_dataloader = val_dataloader = dict(
    num_workers=0, persistent_workers=False)
_base_.train_pipeline[2]['scale'] = [(64, 64), (80, 80)]
_base_.test_pipeline[1]['scale'] = (64, 64)
_base_.train_dataloader.dataset.dataset.pipeline = _base_.train_pipeline
_base_.val_dataloader.dataset.pipeline = _base_.test_pipeline
"""


def test_a_mask_student_of_another_data_set_trains_on_a_folder(tmp_path):
    student = tmp_path / 'student.py'
    student.write_text(MASK_STUDENT)
    data = coco_folder(tmp_path / 'data', images=2)
    log = run(
        'tools/distill.py',
        student,
        '--teacher',
        student,
        '--data-root',
        data,
        '--work-dir',
        tmp_path / 'run',
    )
    assert 'CocoDataset replaces CityscapesDataset' in log
    assert 'CocoMetric replaces CityScapesMetric (val_evaluator, test_' in log
    # The student's RepeatDataset is kept, with times=8.
    assert 'Epoch(train) [1][16/16]' in log and 'Evaluating segm' in log
    cfg = Config.fromfile(tmp_path / 'run/fmkt_student_student.py')
    assert cfg.model.student.roi_head.mask_head.num_classes == len(CLASSES)


def test_a_mask_student_refuses_annotations_without_masks(tmp_path):
    student = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'
    log = run(
        'tools/distill.py',
        student,
        '--teacher',
        student,
        '--data-root',
        coco_folder(tmp_path / 'data', masks=False),
        '--work-dir',
        tmp_path / 'run',
        fails=True,
    )
    sentence = log.strip().splitlines()[-1]
    assert sentence.startswith(
        'error: --data-root: the student needs masks, which '
        'annotations/instances_train.json lacks'
    )
    assert 'Traceback' not in log and not (tmp_path / 'run').exists()


def test_new_style_configs_are_distilled(pair, shapes, tmp_path):
    student, teacher = (
        write_new_style(path.with_stem(f'new_{path.stem}'), config)
        for path, config in ((x, Config.fromfile(x)) for x in pair)
    )
    assert 'type=RetinaNet' in student.read_text()
    log = run(
        'tools/distill.py',
        student,
        '--teacher',
        teacher,
        '--data-root',
        shapes,
        '--variant',
        'theta',
        '--work-dir',
        tmp_path / 'run',
    )
    assert '(RetinaNet, ResNet-18)' in log and 'Evaluating bbox' in log
    assert (tmp_path / 'run/student/student.pth').is_file()
    composed = tmp_path / 'run/theta_new_teacher_new_student.py'
    (tmp_path / 'child.py').write_text(f"_base_ = '{composed}'\n")
    cfg = Config.fromfile(tmp_path / 'child.py')
    assert cfg.model.student.bbox_head.num_classes == 6
    # The student's own config is resolved beside it, and changed in nothing.
    base = Config.fromfile(composed.with_stem(f'{composed.stem}_student'))
    assert base.model.bbox_head.num_classes == 80
    assert base.keys() == Config.fromfile(pair[0]).keys()


def test_the_base_of_an_edited_config_is_not_replaced(tmp_path):
    base, composed = tmp_path / 'base.py', tmp_path / 'composed.py'
    for content in 'a = 1', 'a = 2':
        text = with_digest('Composed', [content])
        write_configs({base: text, composed: text})
    composed.write_text(f'{text}edited = True\n')
    other = with_digest('Composed', ['a = 3'])
    with pytest.raises(ConfigError, match='composed.py'):
        write_configs({base: other, composed: other})
    assert base.read_text() == text


@pytest.mark.parametrize('prefix', ['', 'mmdet.'])
def test_the_library_is_that_of_the_model_without_a_default_scope(
    prefix, pair, shapes, tmp_path
):
    student, teacher = (
        without_scope(path, tmp_path / f'scopeless_{path.name}', prefix)
        for path in pair
    )
    log = run(
        'tools/distill.py',
        student,
        '--teacher',
        teacher,
        '--data-root',
        shapes,
        '--work-dir',
        tmp_path / 'run',
    )
    assert '(RetinaNet, ResNet-18)' in log and 'Evaluating bbox' in log
    composed = 'run/fmkt_scopeless_teacher_scopeless_student.py'
    scope = Config.fromfile(tmp_path / composed).get('default_scope')
    assert scope == (None if prefix else 'mmdet')


def without_scope(path, new_path, prefix):
    """Write a config without ``default_scope``; types are prefixed."""
    cfg = Config.fromfile(path)
    cfg.pop('default_scope')

    def name(part):
        if isinstance(part, dict):
            prefixed = f'{prefix}{part.get("type")}'
            if any(resolve_type(prefixed, x, 'mmdet') for x in REGISTRIES):
                part['type'] = prefixed
            part = part.values()
        elif not isinstance(part, (list, tuple)):
            return
        for child in part:
            name(child)

    for key in cfg:
        if key != 'model_wrapper_cfg':
            name(cfg[key])
    cfg.dump(new_path)
    return new_path


def test_students_that_are_neither_detector_nor_classifier_are_refused(
    tmp_path,
):
    student = tmp_path / 'student.py'
    student.write_text("model = dict(type='mmengine.BaseModel')\n")
    log = run('tools/distill.py', student, '--variant', 'online', fails=True)
    assert 'model.type must be a detector of MMDetection or a classif' in log


def test_equal_modules_behind_the_backbone_are_inherited(tmp_path):
    student = write_network(tmp_path / 'student.py', 16, 8)
    teacher = write_network(tmp_path / 'teacher.py', 16, 16)
    composed = compose_distillation(
        str(student), str(teacher), tmp_path / 'composed.py'
    )
    assert "inherits  the teacher's bbox_head" in composed.summary
    config = Config.fromfile(composed.config)
    assert config.model.teacher.inherit == ['bbox_head']


def test_base_configs_are_resolved_beside_a_symbolic_link(tmp_path):
    for folder in ('here', 'there'):
        (tmp_path / folder).mkdir()
    write_network(tmp_path / 'here/base.py', 16, 8)
    (tmp_path / 'there/student.py').write_text("_base_ = 'base.py'\n")
    student = tmp_path / 'here/student.py'
    student.symlink_to(tmp_path / 'there/student.py')
    composed = compose_distillation(
        str(student), None, tmp_path / 'composed.py', variant='online'
    )
    assert [x.name for x in tmp_path.glob('composed*')] == ['composed.py']
    assert composed.summary


def test_detectors_of_two_stages_are_described_with_their_heads(tmp_path):
    name = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'
    composed = compose_distillation(name, name, tmp_path / 'composed.py')
    assert "inherits  the teacher's neck, rpn_head, roi_head" in (
        composed.summary
    )
    assert 'FLOPs of a 256x256 image' in composed.summary[-1]


def test_levels_are_those_of_a_tap_in_the_options(pair, tmp_path):
    composed = compose_distillation(
        *map(str, pair),
        tmp_path / 'composed.py',
        cfg_options={'model.tap': 'backbone'},
    )
    assert (
        "taps      student's backbone, teacher's backbone" in composed.summary
    )
    model = Config.fromfile(composed.config).model
    model.tap = 'backbone'
    network = build_network(model, 'mmdet')
    assert [*network.flows] == ['backbone']


def test_theta_of_classifiers_has_a_direct_and_no_ensemble_term(tmp_path):
    pytest.importorskip('mmpretrain')
    name = 'mmpretrain::resnet/resnet18_8xb16_cifar10.py'
    composed = compose_distillation(
        name, name, tmp_path / 'composed.py', variant='theta'
    )
    flow = Config.fromfile(composed.config).model.flow
    assert (flow.direct_weight, flow.ensemble_weight) == (1.0, 0.0)


def test_a_composed_config_is_kept_and_resumed_by_train_py(
    pair, shapes, tmp_path
):
    """In the work folder that the config lies in, into which Runners dump."""
    student, teacher = pair
    torch.save(
        dict(
            state_dict=MODELS.build(
                Config.fromfile(teacher).model | dict(_scope_='mmdet')
            ).state_dict()
        ),
        tmp_path / 'teacher.pth',
    )
    command = [
        ROOT / 'tools/distill.py',
        student,
        '--teacher',
        teacher,
        '--teacher-checkpoint',
        'teacher.pth',
        '--data-root',
        shapes,
        '--variant',
        'direct',
        '--cfg-options',
        'train_dataloader.dataset.indices=4',
        'model.teacher.cfg_options.bbox_head.num_classes=80',
        'val_dataloader.dataset.indices=4',
    ]
    summary = run(*command, cwd=tmp_path)
    assert re.search(
        'flow      variant direct, PKDLoss of weight [0-9]+$', summary, re.M
    )
    folder = tmp_path / 'work_dirs' / 'direct_teacher_student'
    config = folder / 'direct_teacher_student.py'
    text = config.read_text()
    assert text.startswith('# Composed by mmfmkt distill')
    assert Config.fromfile(config).model.teacher.checkpoint == str(
        tmp_path / 'teacher.pth'
    )
    log = run(
        ROOT / 'tools/train.py',
        'work_dirs/direct_teacher_student/direct_teacher_student.py',
        '--resume',
        cwd=tmp_path,
    )
    assert 'resumed epoch: 1' in log
    assert config.read_text() == text
    assert (folder / 'direct_teacher_student_resolved.py').is_file()


def test_one_of_several_processes_writes_the_config(pair, shapes, tmp_path):
    student, teacher = pair
    log = run(
        '-m',
        'torch.distributed.run',
        '--standalone',
        '--nproc_per_node=2',
        'tools/distill.py',
        student,
        '--teacher',
        teacher,
        '--data-root',
        to_yolo(shapes, tmp_path / 'data'),
        '--variant',
        'theta',
        '--work-dir',
        tmp_path / 'run',
        '--launcher',
        'pytorch',
        '--amp',
        '--cfg-options',
        # bfloat16 on CPUs has no gradient that can be relied on for stride 2
        # on a map of one pixel: P6 is to be larger.
        'model.student.data_preprocessor.pad_size_divisor=128',
    )
    assert log.count('config    ') == 1 and 'Evaluating bbox' in log
    composed = tmp_path / 'run' / 'theta_teacher_student.py'
    assert composed.read_text().startswith('# Composed by mmfmkt distill')
    # What comes of it knows nothing of processes, CPUs or flows.
    text = (tmp_path / 'run/student/student.py').read_text()
    for word in ('mmfmkt', 'flows', 'model_wrapper_cfg'):
        assert word not in text
    assert "launcher='none'" in text.replace(' ', '')
    # MMDetection goes on with it where mmfmkt is not installed.
    script = tmp_path / 'alone.py'
    script.write_text(ALONE)
    student = tmp_path / 'run/student'
    log = run(
        script,
        'train.py',
        student / 'student.py',
        '--work-dir',
        tmp_path / 'on',
        '--cfg-options',
        f'load_from={student}/student.pth',
        'train_cfg.max_epochs=1',
    )
    assert 'do not match exactly' not in log and 'Evaluating bbox' in log
    assert (tmp_path / 'on/epoch_1.pth').is_file()


def test_class_maps_are_distilled_on_request(pair, shapes, tmp_path):
    student, teacher = pair
    log = run(
        'tools/distill.py',
        student,
        '--teacher',
        teacher,
        '--data-root',
        shapes,
        '--class-maps',
        '--work-dir',
        tmp_path,
    )
    assert "taps      student's bbox_head[0], teacher's bbox_head[0]" in log
    assert 'level 0 to 1, stride 8, 54 channels to 54\n' in log
    assert 'Evaluating bbox' in log
    assert 'bbox_head.0.3.loss_flow' in scalars(tmp_path)[0]
    config = Config.fromfile(tmp_path / 'fmkt_teacher_student.py')
    assert config.model.taps[1].flow.metric.type == 'CWDLoss'


def test_class_maps_of_the_shared_classes_of_a_coco_teacher_are_distilled(
    pair, tmp_path
):
    student, teacher = pair
    folder = tmp_path / 'data'
    coco_folder(folder, classes=('dog', 'cow', 'gnu'))
    model = Config.fromfile(teacher).model | dict(_scope_='mmdet')
    checkpoint = tmp_path / 'teacher.pth'
    torch.save(dict(state_dict=MODELS.build(model).state_dict()), checkpoint)
    command = (
        'tools/distill.py',
        student,
        '--teacher',
        teacher,
        '--teacher-checkpoint',
        checkpoint,
        '--data-root',
        folder,
        '--class-maps',
        '--work-dir',
    )
    log = run(*command, tmp_path / 'run')
    line = 'bbox_head[0]: 2 of 3 classes are taught: dog, cow'
    assert f'classes   {line}\n' in log and f'{line}.\n' in log
    assert 'random weights' not in log
    assert 'level 0 to 1, stride 8, 27 channels to 27\n' in log
    assert 'bbox_head.0.3.loss_flow' in scalars(tmp_path / 'run')[0]
    option = 'model.teacher.classes.gnu=okapi'
    log = run(*command, tmp_path / 'run', '--cfg-options', option, fails=True)
    assert "names 'okapi', which is not a class of the teacher" in log


def test_options_are_applied_before_the_summary(pair, tmp_path):
    student, teacher = pair
    coco_folder(tmp_path / 'data', classes=('gnu', 'yak'))
    model = Config.fromfile(teacher).model | dict(_scope_='mmdet')
    checkpoint = tmp_path / 'teacher.pth'
    torch.save(dict(state_dict=MODELS.build(model).state_dict()), checkpoint)
    log = run(
        'tools/distill.py',
        student,
        '--teacher',
        teacher,
        '--teacher-checkpoint',
        checkpoint,
        '--data-root',
        tmp_path / 'data',
        '--class-maps',
        '--dry-run',
        '--work-dir',
        tmp_path / 'run',
        '--cfg-options',
        # Without it, student and teacher have no class name in common.
        'model.teacher.classes.gnu=dog',
        'model.flow.loss_weight=auto',
        'model.flow.inference_steps=1',
    )
    assert "1 of 2 classes are taught: gnu (teacher's dog)" in log
    assert 'PKDLoss of weight auto, N = 4, K = 1\n' in log


def test_online_distillation_needs_no_teacher(pair, shapes, tmp_path):
    log = run(
        'tools/distill.py',
        pair[0],
        '--variant',
        'online',
        '--data-root',
        shapes,
        '--dry-run',
        '--work-dir',
        tmp_path,
    )
    assert 'tap       neck, 5 levels' in log
    assert 'PKDLoss of weight 1' in log and 'WARNING' not in log


@pytest.mark.parametrize('new_style', [False, True])
def test_classifiers_are_distilled_by_the_same_command(new_style, tmp_path):
    pytest.importorskip('mmpretrain')
    for name, width in (('student', 4), ('teacher', 8)):
        cfg = Config.fromfile(
            Config._get_cfg_path(
                'mmpretrain::resnet/resnet18_8xb16_cifar10.py', ''
            )[0]
        )
        cfg.model = resnet(width, num_classes=10)
        cfg.model.pop('data_preprocessor')
        if new_style:
            write_new_style(tmp_path / f'{name}.py', cfg)
        else:
            cfg.dump(tmp_path / f'{name}.py')
    log = run(
        'tools/distill.py',
        tmp_path / 'student.py',
        '--teacher',
        tmp_path / 'teacher.py',
        '--dry-run',
        '--work-dir',
        tmp_path / 'run',
    )
    assert 'KDLoss of weight 1, N = 8, K = ' in log
    assert re.search(r'cost      BottleneckEncoder\(width=16\), K = \d: ', log)
    cfg = Config.fromfile(tmp_path / 'run/fmkt_teacher_student.py')
    # As in MMPretrain, the top-level preprocessor is that of the model.
    cfg.data_preprocessor.mean = [1.0, 2.0, 3.0]
    network = build_network(load_model_config(cfg, 'model'), 'mmpretrain')
    assert network.data_preprocessor.mean.flatten().tolist() == [1, 2, 3]
    assert 'batch_augments' not in cfg.data_preprocessor


def test_a_teacher_scale_is_refused_for_logits(tmp_path):
    pytest.importorskip('mmpretrain')
    name = 'mmpretrain::resnet/resnet18_8xb32_in1k.py'
    composed = tmp_path / 'composed.py'
    with pytest.raises(ConfigError, match='--teacher-scale supports'):
        compose_distillation(name, name, composed, teacher_scale=2)
    assert not composed.exists()


@pytest.mark.parametrize(
    'head, options, reason',
    [
        (dict(num_classes=7), {}, 'The student has 10 classes and the tea'),
        (dict(type='MultiLabelLinearClsHead'), {}, 'single-label logits'),
        (None, {}, 'which the missing head of the teacher does not output'),
        ({}, {'model.tap': 'backbone.layer3'}, 'taps      student'),
        (
            {},
            {
                'model.tap': 'backbone.layer3',
                'model.teacher.tap': 'backbone.layer4',
            },
            "taps      student's backbone.layer3, teacher's backbone.layer4",
        ),
    ],
)
def test_classifiers_of_other_classes_are_distilled_by_feature_maps(
    head, options, reason, tmp_path
):
    pytest.importorskip('mmpretrain')
    name = 'mmpretrain::resnet/resnet18_8xb16_cifar10.py'
    cfg = Config.fromfile(Config._get_cfg_path(name, '')[0])
    for network, changes in (('student', {}), ('teacher', head)):
        cfg.model = resnet(num_classes=10)
        if changes is None:
            cfg.model.neck = cfg.model.head = None
        else:
            cfg.model.head.update(changes)
        cfg.dump(tmp_path / f'{network}.py')
    composed = compose_distillation(
        str(tmp_path / 'student.py'),
        str(tmp_path / 'teacher.py'),
        tmp_path / 'composed.py',
        cfg_options=options,
    )
    summary = '\n'.join(composed.summary)
    tap = options.get('model.tap', 'backbone')
    assert reason in summary and f"student's {tap}, teacher's" in summary
    assert 'PKDLoss of weight auto' in summary
    cfg = Config.fromfile(composed.config)
    cfg.merge_from_dict(options)
    network = build_network(load_model_config(cfg, 'model'), 'mmpretrain')
    assert [*network.flows] == [tap.replace('.', '-')]


def test_logits_of_class_folders_are_matched_by_name(tmp_path):
    pytest.importorskip('mmpretrain')
    for split in ('train', 'val'):
        for name in ('dog', 'cat', 'cow'):
            (tmp_path / 'data' / split / name).mkdir(parents=True)
    name = 'mmpretrain::resnet/resnet18_8xb16_cifar10.py'
    cfg = Config.fromfile(Config._get_cfg_path(name, '')[0])
    cfg.model = resnet(num_classes=10)
    dataset = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = dict(
        type='RepeatDataset', times=2, dataset=dataset
    )
    cfg.dump(tmp_path / 'student.py')
    classes = ['cat', 'bird', 'dog', 'fish', 'cow']
    cfg.train_dataloader.dataset = dict(
        dataset, metainfo=dict(classes=classes)
    )
    cfg.model.head.num_classes = 5
    cfg.dump(tmp_path / 'teacher.py')
    state = build_network(cfg.model, 'mmpretrain').state_dict()
    torch.save(state, tmp_path / 'teacher.pth')
    composed = compose_distillation(
        str(tmp_path / 'student.py'),
        str(tmp_path / 'teacher.py'),
        str(tmp_path / 'composed.py'),
        teacher_checkpoint=str(tmp_path / 'teacher.pth'),
        data_root=str(tmp_path / 'data'),
    )
    summary = '\n'.join(composed.summary)
    assert 'head: 3 of 3 classes are taught: cat, cow, dog' in summary
    assert 'KDLoss of weight 1' in summary


@pytest.mark.parametrize('mapped', [True, False])
def test_classes_that_the_options_map_are_compared(mapped, tmp_path):
    pytest.importorskip('mmpretrain')
    name = 'mmpretrain::resnet/resnet18_8xb16_cifar10.py'
    cfg = Config.fromfile(Config._get_cfg_path(name, '')[0])
    cfg.model = resnet(num_classes=10)
    cfg.dump(tmp_path / 'student.py')
    classes = [f'class{i}' for i in range(7)]
    cfg.train_dataloader.dataset.metainfo = dict(classes=classes)
    cfg.model.head.num_classes = 7
    cfg.dump(tmp_path / 'teacher.py')
    # The names in a config override those of the folders.
    for name in range(10):
        (tmp_path / 'data' / f'folder{name}').mkdir(parents=True)
    names = [*'abcdefgh', 'cat', 'dog']
    dataset = dict(
        cfg.train_dataloader.dataset,
        type='CustomDataset',
        data_root=str(tmp_path / 'data'),
        metainfo=dict(classes=names),
    )
    cfg = Config.fromfile(tmp_path / 'student.py')
    cfg.train_dataloader.dataset = dataset
    cfg.dump(tmp_path / 'student.py')
    mapping = dict(cat='class1', dog='class2')
    composed = compose_distillation(
        str(tmp_path / 'student.py'),
        str(tmp_path / 'teacher.py'),
        tmp_path / 'composed.py',
        cfg_options={'model.teacher.classes': mapping} if mapped else {},
    )
    summary = '\n'.join(composed.summary)
    assert (' KDLoss' in summary) == mapped
    assert ('have no name in common' in summary) != mapped


def test_a_class_token_is_not_compared_with_a_teacher_of_other_classes(
    tmp_path,
):
    pytest.importorskip('mmpretrain')
    name = 'mmpretrain::resnet/resnet18_8xb16_cifar10.py'
    cfg = Config.fromfile(Config._get_cfg_path(name, '')[0])
    cfg.model = resnet(num_classes=7)
    cfg.dump(tmp_path / 'teacher.py')
    cfg.model = vit(num_classes=10)
    cfg.dump(tmp_path / 'student.py')
    pair = str(tmp_path / 'student.py'), str(tmp_path / 'teacher.py')
    with pytest.raises(ConfigError, match="10 classes.*out_type='featmap'"):
        compose_distillation(*pair, tmp_path / 'composed.py')
    cfg.model.backbone.out_type = 'featmap'
    cfg.model.neck = dict(type='GlobalAveragePooling')
    cfg.model.head.type = 'LinearClsHead'
    cfg.dump(tmp_path / 'student.py')
    composed = compose_distillation(*pair, tmp_path / 'composed.py')
    assert "taps      student's backbone" in '\n'.join(composed.summary)


def test_a_trusted_checkpoint_is_described_and_exported(tmp_path):
    pytest.importorskip('mmpretrain')
    name = 'mmpretrain::resnet/resnet18_8xb16_cifar10.py'
    student, checkpoint = tmp_path / 'student.py', tmp_path / 'own.pth'
    cfg = Config.fromfile(Config._get_cfg_path(name, '')[0])
    cfg.model = resnet(num_classes=10)
    cfg.dump(student)

    def save(model):
        state = build_network(model, 'mmpretrain').state_dict()
        # The class of this object is not one of MMEngine's checkpoints.
        torch.save(dict(state_dict=state, own=SimpleNamespace()), checkpoint)

    save(cfg.model)
    command = (
        *('distill', str(student), '--teacher', str(student), '--dry-run'),
        *('--teacher-checkpoint', str(checkpoint)),
        *('--work-dir', str(tmp_path / 'run')),
    )
    trust = ('--cfg-options', 'robustness.safe_checkpoints=False')
    with pytest.raises(SystemExit):
        main(command)
    assert main([*command, *trust]) == 0
    (config,) = (tmp_path / 'run').glob('*.py')
    save(dict(Config.fromfile(config).model, teacher=None))
    command = ('export', str(config), str(checkpoint))
    with pytest.raises(SystemExit):
        main(command)
    assert main([*command, *trust]) == 0
    assert (tmp_path / 'student' / 'student.pth').exists()


def test_class_tokens_get_an_mlp_encoder(tmp_path):
    pytest.importorskip('mmpretrain')
    name = 'mmpretrain::vision_transformer/vit-base-p16_64xb64_in1k.py'
    cfg = Config.fromfile(Config._get_cfg_path(name, '')[0])
    cfg.model = vit(num_classes=10)
    cfg.model.pop('data_preprocessor')
    cfg.data_preprocessor.num_classes = 10
    cfg.dump(tmp_path / 'student.py')
    composed = compose_distillation(
        str(tmp_path / 'student.py'),
        str(tmp_path / 'student.py'),
        tmp_path / 'composed.py',
    )
    assert any('MLPEncoder, since' in x for x in composed.summary)
    model = Config.fromfile(composed.config).model
    assert model.flow.encoder == dict(type='MLPEncoder')


def test_other_classes_of_a_class_token_are_an_error(tmp_path):
    pytest.importorskip('mmpretrain')
    name = 'mmpretrain::vision_transformer/vit-base-p16_64xb64_in1k.py'
    cfg = Config.fromfile(Config._get_cfg_path(name, '')[0])
    for network, num_classes in (('student', 10), ('teacher', 7)):
        cfg.model = vit(num_classes=num_classes)
        cfg.model.pop('data_preprocessor')
        cfg.dump(tmp_path / f'{network}.py')
    with pytest.raises(ConfigError, match='has 10 classes and the teacher 7'):
        compose_distillation(
            str(tmp_path / 'student.py'),
            str(tmp_path / 'teacher.py'),
            tmp_path / 'composed.py',
        )


@pytest.mark.parametrize(
    'options, sentence',
    [
        (('--teacher', 'no/such.py'), "--teacher 'no/such.py' does not exist"),
        ((), "--teacher: the variant 'fmkt' needs a teacher"),
        (
            ('--variant', 'online', '--teacher', 'student.py'),
            "--teacher: the variant 'online' does not use a teacher",
        ),
        (
            ('--variant', 'online', '--teacher-checkpoint', 'teacher.pth'),
            '--teacher-checkpoint and --teacher-scale need --teacher',
        ),
        (
            ('--variant', 'online', '--teacher-scale', '2'),
            '--teacher-checkpoint and --teacher-scale need --teacher',
        ),
        (
            ('--teacher', 'student.py', '--teacher-scale', '0'),
            '--teacher-scale must be greater than 0, got 0.0',
        ),
        (
            ('--teacher', 'student.py', '--data-root', 'nowhere'),
            "--data-root: 'nowhere' is not a folder",
        ),
    ],
)
def test_bad_input_ends_in_one_sentence(options, sentence, pair, tmp_path):
    log = run(
        'tools/distill.py',
        pair[0],
        *(pair[0] if x == 'student.py' else x for x in options),
        '--work-dir',
        tmp_path / 'run',
        fails=True,
    )
    assert 'Traceback' not in log and not (tmp_path / 'run').exists()
    assert log.strip().splitlines()[-1].startswith(f'error: {sentence}')


def test_an_unknown_class_is_reported_in_one_line(pair, tmp_path):
    cfg = Config.fromfile(pair[0])
    cfg.model.backbone.type = 'ResNett'
    cfg.dump(tmp_path / 'student.py')
    log = run(
        'tools/distill.py',
        tmp_path / 'student.py',
        '--teacher',
        pair[1],
        '--work-dir',
        tmp_path / 'run',
        fails=True,
    )
    assert 'ResNett is not in the mmdet::model registry' in log
    assert 'Traceback' not in log


def test_missing_files_of_the_data_root_are_reported(pair, tmp_path):
    folder = tmp_path / 'data' / 'annotations'
    folder.mkdir(parents=True)
    (folder / 'instances_train.json').write_text(
        json.dumps(dict(categories=[dict(id=1, name='a')], images=[]))
    )
    log = run(
        'tools/distill.py',
        pair[0],
        '--teacher',
        pair[1],
        '--data-root',
        tmp_path / 'data',
        fails=True,
    )
    assert 'no image of' in log and 'instances_train.json' in log
