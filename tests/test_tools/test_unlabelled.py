"""One line leads a backbone to a teacher on images without labels, and any
config starts from it."""

import pytest
import torch
from helpers import run
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from tiny import resnet, write_network

pytest.importorskip('mmdet')
pytest.importorskip('mmpretrain')
pytestmark = pytest.mark.slow

TEACHER = 'mmpretrain::resnet/resnet18_8xb32_in1k.py'


def test_a_detectors_backbone_is_trained_exported_and_inherited(
    shapes, tmp_path
):
    student = write_network(tmp_path / 'student.py', 16, 8)
    work_dir = tmp_path / 'run'
    log = run(
        'tools/distill.py',
        student,
        '--teacher',
        TEACHER,
        '--unlabelled',
        shapes / 'train',
        '--work-dir',
        work_dir,
    )
    assert 'level 2 to 0, stride 32' in log
    assert "prefix='backbone.'" in log
    # Only one level of the neck has a loss.
    composed = next(work_dir.glob('theta_*_student.py'))
    assert Config.fromfile(composed).find_unused_parameters
    exported = work_dir / 'student' / 'backbone.pth'
    state = torch.load(exported, weights_only=False)['state_dict']
    assert {name.split('.')[0] for name in state} == {'backbone', 'neck'}

    cfg = Config.fromfile(student)
    for part in ('backbone', 'neck'):
        cfg.model[part].init_cfg = dict(
            type='Pretrained', checkpoint=str(exported), prefix=f'{part}.'
        )
    with DefaultScope.overwrite_default_scope('mmdet'):
        detector = MODELS.build(cfg.model)
    detector.init_weights()
    own = detector.state_dict()
    assert all(torch.equal(own[name], x) for name, x in state.items())


def test_backbones_of_classifiers_are_trained_without_labels(shapes, tmp_path):
    student = Config.fromfile(Config._get_cfg_path(TEACHER, '')[0])
    student.model.update(resnet())
    student.train_cfg.max_epochs = 1
    student.train_dataloader.update(
        batch_size=4, num_workers=0, persistent_workers=False
    )
    student.model.train_cfg = dict(augments=dict(type='Mixup', alpha=0.8))
    student.dump(tmp_path / 'student.py')
    log = run(
        'tools/distill.py',
        tmp_path / 'student.py',
        '--teacher',
        TEACHER,
        '--variant',
        'direct',
        '--unlabelled',
        shapes / 'train',
        '--work-dir',
        tmp_path / 'run',
    )
    assert 'level 0 to 0' in log
    exported = tmp_path / 'run' / 'student' / 'backbone.pth'
    state = torch.load(exported, weights_only=False)['state_dict']
    assert all(name.startswith('backbone.') for name in state)


def test_variants_that_deploy_a_flow_are_refused(shapes, tmp_path):
    student = write_network(tmp_path / 'student.py', 16, 8)
    log = run(
        'tools/distill.py',
        student,
        '--teacher',
        TEACHER,
        '--variant',
        'fmkt',
        '--unlabelled',
        shapes / 'train',
        fails=True,
    )
    assert "'fmkt' deploys its flow; use --variant theta or direct" in log
