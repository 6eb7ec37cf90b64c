"""--data-root: training on a folder in COCO, YOLO or Pascal VOC format."""

import json
from pathlib import Path

import pytest
import torch
from helpers import BCCD, ROOT, run
from mmengine.config import Config
from new_style import write_new_style
from tiny import write_network
from yolo_voc import to_voc, to_yolo

pytest.importorskip('mmdet')
pytestmark = pytest.mark.slow


@pytest.fixture
def student(tmp_path):
    return write_network(tmp_path / 'student.py', 16, 8)


@pytest.fixture(params=['shapes', 'bccd'])
def coco(request, shapes):
    if request.param == 'shapes':
        return shapes
    if not BCCD.is_dir():
        pytest.skip('BCCD is not available')
    return BCCD


@pytest.mark.parametrize('convert', [to_yolo, to_voc])
def test_a_student_is_distilled_on_a_folder_of_any_format(
    convert, coco, student, tmp_path
):
    root = convert(coco, tmp_path / 'data', limit=8)
    log = run(
        'tools/distill.py',
        student,
        '--teacher',
        student,
        '--data-root',
        root,
        '--work-dir',
        tmp_path / 'run',
    )
    name = 'YOLO' if convert is to_yolo else 'Pascal VOC'
    assert f'{root}, {name} format, ' in log and 'Evaluating bbox' in log
    assert (tmp_path / 'run/student/student.pth').is_file()
    log = run(
        'tools/test.py',
        tmp_path / 'run/student/student.py',
        tmp_path / 'run/student/student.pth',
        '--work-dir',
        tmp_path / 'test',
    )
    assert 'coco/bbox_mAP' in log


@pytest.mark.parametrize('new_style', [False, True])
def test_a_detector_is_trained_on_a_folder(
    new_style, student, shapes, tmp_path
):
    if new_style:
        path = student.with_stem('new_student')
        student = write_new_style(path, Config.fromfile(student))
    root = to_yolo(shapes, tmp_path / 'data')
    log = run(
        ROOT / 'tools/train.py', student, '--data-root', root, cwd=tmp_path
    )
    folder = tmp_path / 'work_dirs' / f'{student.stem}_data'
    assert 'Evaluating bbox' in log and (folder / 'epoch_1.pth').is_file()
    cfg = Config.fromfile(folder / f'{student.stem}_data.py')
    assert cfg.model.bbox_head.num_classes == 6
    assert cfg.train_dataloader.dataset.metainfo.classes[0] == 'circle'
    content = json.loads((folder / 'annotations_train.json').read_text())
    assert len(content['images']) == 16
    assert not (root / 'annotations_train.json').exists()


def test_methods_are_compared_on_a_folder_of_another_format(
    student, shapes, tmp_path
):
    log = run(
        'tools/compare.py',
        student,
        '--teacher',
        student,
        '--data-root',
        to_voc(shapes, tmp_path / 'data'),
        '--methods',
        'baseline',
        'fmkt',
        '--seeds',
        0,
        '--dry-run',
        '--work-dir',
        tmp_path / 'run',
    )
    assert '2 runs, 2 of them to be run' in log
    for config in (tmp_path / 'run/configs').glob('*.py'):
        data = Config.fromfile(config).train_dataloader.dataset
        assert json.loads(Path(data.ann_file).read_text())['images']


def test_every_head_gets_the_classes_of_the_folder(shapes, tmp_path):
    from mmfmkt.apis.distill import compose_training

    composed = compose_training(
        'mmdet::cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py',
        str(shapes),
        tmp_path / 'composed.py',
    )
    heads = Config.fromfile(composed.config).model.roi_head.bbox_head
    assert [x.num_classes for x in heads] == [6, 6, 6]
    assert 'Cascade' in composed.summary[0]


@pytest.mark.parametrize(
    'config, sentence',
    [
        ('retinanet/fmkt_retinanet_r101_r50.py', 'use mmfmkt distill'),
        ('mmpretrain/cifar10/resnet20.py', 'a folder for each class in train'),
    ],
)
def test_distillations_and_folders_of_another_task_are_rejected(
    config, sentence, shapes, tmp_path
):
    log = run(
        'tools/train.py',
        f'configs/{config}',
        '--data-root',
        shapes,
        '--work-dir',
        tmp_path / 'run',
        fails=True,
    )
    assert sentence in log.strip().splitlines()[-1]
    assert 'Traceback' not in log and not (tmp_path / 'run').exists()


def test_the_best_checkpoint_is_exported_unless_the_last_is_requested(
    student, shapes, tmp_path
):
    command = [
        'tools/distill.py',
        student,
        '--teacher',
        student,
        '--data-root',
        shapes,
        '--variant',
        'theta',
        '--work-dir',
        tmp_path,
        '--cfg-options',
        'train_cfg.max_epochs=2',
        # Without large objects, the metric is -1 in both epochs.
        'default_hooks.checkpoint.save_best=coco/bbox_mAP_l',
        'default_hooks.checkpoint.rule=greater',
    ]
    best = next_best(run(*command), tmp_path)
    assert best.name == 'best_coco_bbox_mAP_l_epoch_1.pth'
    check_exported(best, tmp_path)
    # A resumed run keeps the best checkpoint of the interrupted run.
    command.insert(2, '--resume')
    assert next_best(run(*command), tmp_path) == best
    log = run(*command[:3], '--last', *command[3:])
    assert 'The student of the last checkpoint' in log
    check_exported(tmp_path / 'epoch_2.pth', tmp_path)
    best.unlink()
    log = run(*command)
    assert 'there is no best checkpoint' in log
    assert 'The student of the last checkpoint' in log


def next_best(log, work_dir):
    """Return the best checkpoint, which the log says is exported."""
    (best,) = work_dir.glob('best_*.pth')
    assert f'The student of the best checkpoint ({best})' in log
    return best


def check_exported(checkpoint, work_dir):
    """Check that the exported weights are those of a checkpoint."""
    saved, exported = (
        torch.load(x, weights_only=False)['state_dict']
        for x in (checkpoint, work_dir / 'student/student.pth')
    )
    for name, x in exported.items():
        assert torch.equal(x, saved[name]), name
