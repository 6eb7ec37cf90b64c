"""Classifiers through the tools: training, test and export."""

import json
import re
import shutil

import cv2
import numpy as np
import pytest
import torch
from helpers import ROOT, run
from mmengine.config import Config
from tiny import vit

from mmfmkt.models.distillers.networks import build_network

pytest.importorskip('mmpretrain')
pytestmark = pytest.mark.slow

CONFIGS = ROOT / 'configs/mmpretrain/cifar10_folder'
LOSSES = r'loss: ([\d.]+) \(student ([\d.-]+), transfer ([\d.]+)\)'
INFER = """
import sys
if sys.argv[1] == 'blocked':
    sys.modules['mmfmkt'] = None
import torch
from mmpretrain import ImageClassificationInferencer
config, checkpoint, out, *images = sys.argv[2:]
inferencer = ImageClassificationInferencer(config, checkpoint, device='cpu')
found = inferencer(images, batch_size=4)
torch.save(torch.tensor([x['pred_scores'] for x in found]), out)
"""


@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
    """Draw ten classes of colored noise, in folders."""
    root, rng = tmp_path_factory.mktemp('pictures'), np.random.default_rng(0)
    for split, count in (('train', 12), ('test', 4)):
        for label in range(10):
            folder = root / split / f'class{label}'
            folder.mkdir(parents=True)
            for i in range(count):
                picture = rng.integers(0, 120, (32, 32, 3))
                picture[..., label % 3] += 12 * label
                cv2.imwrite(str(folder / f'{i}.jpg'), picture)
    return root


def write_config(path, pictures, name, student=None, teacher=None):
    """Write a config that trains in seconds, based on a shipped config."""
    cfg = Config.fromfile(CONFIGS / name)
    if cfg.model.get('teacher'):
        cfg.model.teacher.checkpoint = None
    if teacher:
        cfg.model.teacher = dict(config=teacher, checkpoint=None)
    if student:
        cfg.model.student = student
        cfg.model.flow.encoder = dict(type='MLPEncoder')
    cfg.train_cfg.update(max_epochs=1, val_interval=1)
    cfg.param_scheduler.total_steps = 1
    cfg.randomness = dict(seed=0)
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        loader.update(batch_size=40, num_workers=0, persistent_workers=False)
        loader.dataset.data_root = str(pictures)
    cfg.dump(path)
    return path


def train(tmp_path, pictures, name, *options, **networks):
    config = write_config(tmp_path / 'config.py', pictures, name, **networks)
    log = run(
        'tools/train.py', config, '--work-dir', tmp_path / 'run', *options
    )
    return config, tmp_path / 'run', log


def scores(config, checkpoint, pictures, folder, access='free'):
    """Return the scores of MMPretrain's own inferencer."""
    folder.mkdir(exist_ok=True)
    (folder / 'infer.py').write_text(INFER)
    images = sorted((pictures / 'test').glob('*/0.jpg'))
    run(
        folder / 'infer.py',
        access,
        config,
        checkpoint,
        folder / 'out.pt',
        *images,
    )
    return torch.load(folder / 'out.pt')


def randomize_flow(checkpoint, path):
    """Write a checkpoint whose flow changes predictions."""
    saved = torch.load(checkpoint, weights_only=False)
    for name, x in saved['state_dict'].items():
        if 'encoder.layers' in name:
            torch.nn.init.normal_(x, std=0.1)
    torch.save(saved, path)
    return path


def test_validation_reports_the_accuracy_at_each_number_of_steps(
    pictures, tmp_path
):
    config, work_dir, log = train(
        tmp_path, pictures, 'fmkt_resnet20_resnet8.py'
    )
    for name in ('top1', 'top1_k1', 'top1_k8', 'top1_ensemble'):
        assert f'accuracy/{name}:' in log
    test = run(
        'tools/test.py',
        config,
        work_dir / 'epoch_1.pth',
        '--work-dir',
        tmp_path / 'test',
        '--out',
        tmp_path / 'out.pkl',
    )
    (shown,) = (tmp_path / 'test').glob('*/2*.json')
    metrics = json.loads(shown.read_text().splitlines()[-1])
    assert f'accuracy/top1: {metrics["accuracy/top1"]:.4f}' in log
    assert 'accuracy/top1_k4' in test and (tmp_path / 'out.pkl').is_file()


def test_time_augmentation_of_a_classifier_has_flips_by_default(
    pictures, tmp_path
):
    config, work_dir, _ = train(
        tmp_path, pictures, 'theta_resnet20_resnet8.py'
    )
    trained = (work_dir / 'config.py').read_text()
    log = run(
        'tools/test.py',
        config,
        work_dir / 'epoch_1.pth',
        '--work-dir',
        work_dir,
        '--tta',
    )
    assert 'accuracy/top1' in log
    # The config of the training is kept.
    assert (work_dir / 'config.py').read_text() == trained
    tested = Config.fromfile(work_dir / 'config_test.py')
    transforms = tested.test_dataloader.dataset.pipeline
    assert [x.prob for x in transforms[-1].transforms[0]] == [1.0, 0.0]


@pytest.mark.parametrize('variant', ('fmkt', 'theta'))
def test_an_exported_classifier_predicts_what_the_distiller_predicts(
    variant, pictures, tmp_path
):
    # The student has parts of MMPretrain only: its export needs no mmfmkt.
    config, work_dir, _ = train(
        tmp_path,
        pictures,
        f'{variant}_resnet20_resnet8.py',
        student=vit(num_classes=10),
    )
    checkpoint = randomize_flow(
        work_dir / 'epoch_1.pth', tmp_path / 'random.pth'
    )
    out = tmp_path / 'student'
    run('tools/export_student.py', config, checkpoint, '--out', out)
    access = 'blocked' if variant == 'theta' else 'free'
    exported = scores(
        out / 'student.py',
        out / 'student.pth',
        pictures,
        tmp_path / 'exported',
        access,
    )
    cfg = Config.fromfile(config)
    cfg.model.teacher = None
    cfg.custom_imports = dict(imports=['mmfmkt'])
    cfg.dump(tmp_path / 'own.py')
    own = scores(tmp_path / 'own.py', checkpoint, pictures, tmp_path / 'own')
    torch.testing.assert_close(exported, own, rtol=0, atol=1e-6)
    assert exported.std(0).max() > 1e-4
    text = (out / 'student.py').read_text()
    assert ('mmfmkt' in text) == (variant == 'fmkt')
    # A prediction samples the flow at the deployed K only.
    assert 'report_steps' not in text


def test_the_export_of_a_student_with_an_mmfmkt_backbone_imports_mmfmkt(
    pictures, tmp_path
):
    _, work_dir, _ = train(tmp_path, pictures, 'theta_resnet20_resnet8.py')
    student = work_dir / 'student'
    found = scores(
        student / 'student.py',
        student / 'student.pth',
        pictures,
        tmp_path / 'exported',
    )
    assert found.shape == (10, 10)


def test_a_vit_trains_with_batch_augmentation_and_bfloat16(pictures, tmp_path):
    student = vit(num_classes=10)
    student['train_cfg'] = dict(
        augments=[
            dict(type='Mixup', alpha=0.8),
            dict(type='CutMix', alpha=1.0),
        ]
    )
    _, work_dir, log = train(
        tmp_path,
        pictures,
        'fmkt_resnet20_resnet8.py',
        '--amp',
        student=student,
    )
    assert (
        'CPUAmpOptimWrapper' in log
        and 'nan' not in log.split('Epoch(val)')[-1]
    )
    assert (work_dir / 'student' / 'student.pth').is_file()


def test_ofm_kt_and_the_control_train_without_a_teacher(pictures, tmp_path):
    for name in ('online_resnet8.py', 'flow_resnet8.py'):
        folder = tmp_path / name
        folder.mkdir()
        _, work_dir, log = train(folder, pictures, name)
        assert 'accuracy/top1_k8:' in log
        assert (work_dir / 'student' / 'student.pth').is_file()


@pytest.mark.parametrize(
    'option, sentence',
    [
        (
            'train_dataloader.dataset.data_root=/nowhere',
            'train_dataloader.dataset: FileNotFoundError.*/nowhere',
        ),
        (
            'train_dataloader.dataset.pipeline.1.pad_val=[1,2,3]',
            'train_dataloader.dataset.pipeline.1.*TypeError: pad_val must be',
        ),
    ],
)
def test_errors_name_the_config_key(option, sentence, pictures, tmp_path):
    config = write_config(tmp_path / 'config.py', pictures, 'resnet8.py')
    log = run(
        'tools/train.py',
        config,
        '--work-dir',
        tmp_path / 'run',
        '--cfg-options',
        option,
        fails=True,
    )
    assert re.match(f'error: {sentence}', log.strip().splitlines()[-1])


def test_teacher_validation_accepts_metrics_that_are_not_scalars(
    pictures, tmp_path
):
    config = write_config(
        tmp_path / 'config.py', pictures, 'fmkt_resnet20_resnet8.py'
    )
    cfg = Config.fromfile(config)
    cfg.val_evaluator = [
        dict(type='mmpretrain.SingleLabelMetric', average=None),
        dict(type='mmpretrain.ConfusionMatrix'),
        dict(type='mmpretrain.Accuracy', topk=(1,)),
    ]
    cfg.custom_hooks = [
        *(cfg.get('custom_hooks') or []),
        dict(type='mmfmkt.TeacherCheckHook', min_metric=0.0),
    ]
    cfg.dump(config)
    log = run('tools/train.py', config, '--work-dir', tmp_path / 'run')
    metrics = log[log.index('Teacher metrics: ') :]
    assert metrics.startswith('Teacher metrics: accuracy/top1 ')
    cfg.custom_hooks[-1].min_metric = 101.0
    cfg.dump(config)
    command = ('tools/train.py', config, '--work-dir', tmp_path / 'other')
    log = run(*command, fails=True)
    assert 'accuracy/top1 must be at least 101.0, got ' in log
    assert 'Epoch(train)' not in log
    cfg.val_evaluator = cfg.val_evaluator[:1]
    cfg.dump(config)
    log = run(*command, fails=True)
    assert 'min_metric needs a scalar metric' in log


def test_a_teacher_of_other_classes_teaches_own_folders(pictures, tmp_path):
    for split, folder in (('train', 'train'), ('test', 'valid')):
        for name in ('class1', 'class5', 'class8'):
            target = tmp_path / 'own' / folder / name
            shutil.copytree(pictures / split / name, target)
    teacher = Config.fromfile(CONFIGS / 'resnet20.py')
    teacher.dump(tmp_path / 'teacher.py')
    network = build_network(teacher.model, 'mmpretrain')
    torch.save(network.state_dict(), tmp_path / 'teacher.pth')
    log = run(
        'tools/distill.py',
        CONFIGS / 'resnet8.py',
        '--data-root',
        tmp_path / 'own',
        '--teacher',
        tmp_path / 'teacher.py',
        '--teacher-checkpoint',
        tmp_path / 'teacher.pth',
        '--work-dir',
        tmp_path / 'run',
        '--auto-scale-lr',
        '--cfg-options',
        'train_cfg.max_epochs=1',
        'param_scheduler.total_steps=1',
        'train_dataloader.batch_size=18',
        'auto_scale_lr.base_batch_size=72',
        *(
            f'{x}_dataloader.{key}=0'
            for x in ('train', 'val', 'test')
            for key in ('num_workers', 'persistent_workers')
        ),
    )
    assert (
        'not the logits: The student has 3 classes and the teacher 10' in log
    )
    assert 'Scaling the original LR by 0.25' in log and 'accuracy/top1' in log
    total, task, transfer = map(float, re.search(LOSSES, log).groups())
    assert total == pytest.approx(task + transfer, abs=2e-4)
    assert 0 < task < total
    predicted = scores(
        tmp_path / 'run/student/student.py',
        tmp_path / 'run/student/student.pth',
        pictures,
        tmp_path / 'scores',
    )
    assert predicted.shape == (10, 3)
