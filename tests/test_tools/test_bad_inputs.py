"""Bad inputs end in one line that says what is wrong; nothing is trained.

One case of each kind. What is ours is checked as the model is built; what is
a library's is the library's own error, with the config key where it is known.
"""

import json
import pickle
import re
import shutil

import pytest
import torch
from helpers import ROOT, run
from mmengine.config import Config
from tiny import write_config

pytest.importorskip('mmdet')
pytestmark = pytest.mark.slow

FLOW = 'model.flow.'
TEACHER = 'model.teacher.'
STUDENT = 'model.student.'
DATA = 'train_dataloader.dataset.'

# Key, value, and what the line says.
SETTINGS = (
    (f'{FLOW}loss_weight', -1, 'model.flow.loss_weight'),
    (f'{FLOW}num_steps', 0, 'model.flow.num_steps'),
    (f'{FLOW}inference_steps', '4', 'model.flow.inference_steps'),
    (f'{FLOW}dirac_ratio', 1.1, 'model.flow.dirac_ratio'),
    (f'{FLOW}compare', 'target', 'model.flow.compare'),
    (f'{FLOW}encoder', dict(type='ConvEncodr'), 'did you mean .ConvEncoder'),
    (f'{FLOW}encoder', dict(type='ConvEncoder', width=3), "no key 'width'"),
    (f'{FLOW}encoder', 'ConvEncoder', 'model.flow.encoder'),
    (f'{FLOW}schedule', dict(type='VPODE', a='x'), 'model.flow.schedule.a'),
    (f'{FLOW}metric', dict(type='KDLoss'), 'model.flow.metric'),
    (f'{FLOW}metric', dict(type='CWDLoss', temperature=0), 'temperature'),
    (f'{FLOW}with_cp', 'yes', 'model.flow.with_cp'),
    (f'{FLOW}stepps', 3, "no key 'stepps'"),
    ('model.variant', 'fmk', 'model.variant'),
    ('model.tap', 'nek', "did you mean 'neck'"),
    ('model.levels', [9], 'model.levels'),
    ('model.taps', [dict(tap='nek')], "did you mean 'neck'"),
    ('model.student', 'no/such.py', 'model.student'),
    ('model.teacher', None, 'teacher'),
    ('model.colour', 'red', 'colour'),
    ('model.teacher', 'teacher.py', 'model.teacher'),
    (f'{TEACHER}config', 'no.py', 'model.teacher.config'),
    (f'{TEACHER}checkpoint', 'no.pth', 'no.pth'),
    (f'{TEACHER}inherit', ['bbox_hed'], 'model.teacher.inherit'),
    (f'{TEACHER}dtype', 'half', 'model.teacher.dtype'),
    (f'{TEACHER}weights', 'x.pth', "no key 'weights'"),
    (
        'custom_hooks',
        [dict(type='mmfmkt.TransferWeightHook', begin=-1)],
        'custom_hooks.0.begin',
    ),
    ('robustness', dict(exact_resumes=True), 'robustness has no key'),
    # What the libraries say while the run is built.
    ('model.type', 'DetectionDistiler', 'model.type'),
    (f'{STUDENT}backbone.depth', 19, 'invalid depth 19 for resnet'),
    (f'{STUDENT}backbone.type', 'ResNett', 'student.backbone.type.*ResNett'),
    (f'{STUDENT}bbox_head.colour', 'red', "model.student.*'colour'"),
    (f'{STUDENT}bbox_head.loss_cls', None, 'student.bbox_head'),
    ('train_dataloader.batch_size', 0, 'batch_size'),
    ('train_dataloader.batch_siz', 2, 'batch_siz'),
    ('train_dataloader.sampler', dict(type='DefaultSamplr'), 'DefaultSamplr'),
    (f'{DATA}type', 'CocoDatast', 'dataset.type.*CocoDatast'),
    (
        f'{DATA}data_root',
        'no/such',
        'train_dataloader.dataset: FileNotFoundError.*no/such',
    ),
    (f'{DATA}pipeline', [dict(type='LoadImage')], 'pipeline.0.type'),
    (f'{DATA}filter_cfg', dict(min_size=10**6), 'dataset is empty'),
    ('val_evaluator', dict(type='CocoMetri'), 'val_evaluator.type'),
    ('optim_wrapper.type', 'OptimWrap', 'optim_wrapper.type'),
    ('optim_wrapper.optimizer', dict(type='AdamV'), 'optim_wrapper'),
    (
        'optim_wrapper.optimizer',
        dict(type='AdamW', lr=1e-3, weight=1),
        "optim_wrapper.*'weight'",
    ),
    ('param_scheduler', dict(type='MultiStepLR'), 'milestones'),
    ('train_cfg', dict(type='EpochLoop'), 'train_cfg.type'),
    ('train_cfg', dict(by_epoch=True), 'max_epochs'),
    ('default_hooks.checkpoint', dict(type='CheckpointHok'), 'checkpoint'),
    ('custom_hooks', 3, 'not iterable'),
    ('custom_imports', dict(imports=['no_such_module']), 'no_such_module'),
    ('visualizer', dict(type='Visual'), 'visualizer.type'),
    # And in the first iteration.
    (f'{STUDENT}neck.in_channels', [1, 2, 3, 4], 'channels'),
    ('optim_wrapper.clip_grad', dict(max_nrm=1), 'max_nrm'),
    (f'{DATA}data_prefix', dict(img='no/'), 'no/'),
)
HELPERS = """
def change(key, value):
    *front, last = key.split('.')
    part = globals()
    for name in front:
        part = part[name]
    part[last] = value


change({key!r}, {value!r})
"""


class Evil:
    """A checkpoint that would run code."""

    def __reduce__(self):
        return exec, ('open("executed", "w")',)


@pytest.fixture(scope='module')
def good(shapes, tmp_path_factory):
    """A config that nothing is wrong with."""
    return write_config(
        tmp_path_factory.mktemp('good') / 'config.py', shapes, 'fmkt'
    )


def last_line(log):
    """The one line that a tool ends with."""
    lines = [x for x in log.splitlines() if x.strip()]
    assert lines[-1].startswith(('error: ', 'usage: ')) or re.match(
        r'\S+\.py: error: ', lines[-1]
    ), log[-3000:]
    assert sum('error: ' in x for x in lines) == 1, log[-3000:]
    return lines[-1]


def refused(*command, traceback=False, cwd=None):
    """Run a tool that must fail before its second iteration."""
    log = run(*command, fails=True, **(dict(cwd=cwd) if cwd else {}))
    assert not re.search(r'(Epoch|Iter)\(train\)', log)
    assert ('Traceback (most recent' in log) == traceback, log[-3000:]
    return last_line(log)


@pytest.mark.parametrize(
    'key, value, words', SETTINGS, ids=lambda x: str(x)[:40]
)
def test_a_wrong_setting_is_reported_before_training(
    key, value, words, good, tmp_path
):
    config = tmp_path / 'config.py'
    text = HELPERS.format(key=key, value=value)
    config.write_text(good.read_text() + text)
    line = refused('tools/train.py', config, '--work-dir', tmp_path / 'run')
    assert re.search(words, line)


ANNOTATIONS = {
    'half': (lambda x: json.dumps(x)[:500], 'JSONDecodeError'),
    'without images': (lambda x: dict(x, images=[]), 'dataset is empty'),
    'without categories': (
        lambda x: {**x, 'categories': []},
        'dataset is empty',
    ),
    'with boxes of strings': (
        lambda x: dict(
            x, annotations=[dict(a, bbox='1 1 2') for a in x['annotations']]
        ),
        'train_dataloader.dataset: ValueError',
    ),
    'without area': (
        lambda x: dict(
            x,
            annotations=[
                {k: v for k, v in a.items() if k != 'area'}
                for a in x['annotations']
            ],
        ),
        "train_dataloader.dataset: KeyError: 'area'",
    ),
}


@pytest.mark.parametrize('kind', ANNOTATIONS)
def test_annotations_that_do_not_load_are_reported(
    kind, good, shapes, tmp_path
):
    data = shutil.copytree(shapes, tmp_path / 'data')
    file = data / 'annotations/instances_train.json'
    change, words = ANNOTATIONS[kind]
    content = change(json.loads(file.read_text()))
    file.write_text(
        content if isinstance(content, str) else json.dumps(content)
    )
    cfg = Config.fromfile(good)
    cfg.train_dataloader.dataset.data_root = str(data)
    cfg.dump(tmp_path / 'config.py')
    line = refused(
        'tools/train.py', tmp_path / 'config.py', '--work-dir', tmp_path / 'r'
    )
    assert re.search(words, line)


def test_a_missing_image_is_reported(good, shapes, tmp_path):
    data = shutil.copytree(shapes, tmp_path / 'data')
    for image in (data / 'train').iterdir():
        image.unlink()
    cfg = Config.fromfile(good)
    cfg.train_dataloader.dataset.data_root = str(data)
    cfg.dump(tmp_path / 'config.py')
    line = refused(
        'tools/train.py', tmp_path / 'config.py', '--work-dir', tmp_path / 'r'
    )
    assert re.search(r'FileNotFoundError.*\.(jpg|png)', line)


CHECKPOINTS = {
    'text': (lambda path: path.write_text('no checkpoint'), 'cannot be read'),
    'numbers': (lambda path: torch.save([1, 2], path), 'has no state dict'),
    'another network': (
        lambda path: torch.save({'layer.weight': torch.zeros(2)}, path),
        'missing|none of the|no tensor|fit',
    ),
    'code': (
        lambda path: path.write_bytes(pickle.dumps(Evil())),
        'could run code',
    ),
    'nothing': (lambda path: None, 'own.pth'),
}
DOORS = {
    'teacher': ('tools/train.py', '{config}'),
    'load_from': (
        *('tools/train.py', '{config}'),
        *('--cfg-options', 'load_from=own.pth'),
    ),
    'resume': ('tools/train.py', '{config}', '--resume', 'own.pth'),
    'test': ('tools/test.py', '{config}', 'own.pth'),
    'export': ('tools/export_student.py', '{config}', 'own.pth'),
}


@pytest.mark.parametrize('door', DOORS)
@pytest.mark.parametrize('kind', CHECKPOINTS)
def test_a_wrong_checkpoint_is_reported(kind, door, good, tmp_path):
    write, words = CHECKPOINTS[kind]
    write(tmp_path / 'own.pth')
    cfg = Config.fromfile(good)
    cfg.work_dir = str(tmp_path / 'run')
    if door == 'teacher':
        cfg.model.teacher.checkpoint = 'own.pth'
    cfg.dump(tmp_path / 'config.py')
    tool, *rest = (
        x.format(config=tmp_path / 'config.py') for x in DOORS[door]
    )
    line = refused(ROOT / tool, *rest, cwd=tmp_path)
    assert re.search(words, line)
    assert not (tmp_path / 'executed').exists()


@pytest.mark.parametrize(
    'text, words',
    (
        (None, 'does not exist'),
        ('', 'model'),
        ("model = 'mmdet::retinanet'", 'model'),
        ('model = dict(', 'SyntaxError'),
        ("_base_ = './no.py'", 'no.py'),
    ),
)
def test_files_that_are_no_config_are_refused(text, words, tmp_path):
    if text is not None:
        (tmp_path / 'own.py').write_text(text)
    line = refused('tools/train.py', tmp_path / 'own.py')
    assert re.search(words, line)


def test_an_error_after_the_first_iteration_shows_its_traceback(
    good, tmp_path
):
    (tmp_path / 'late.py').write_text(
        'from mmengine.hooks import Hook\n'
        'class LateHook(Hook):\n'
        '    def after_train_iter(self, runner, *args, **kwargs):\n'
        '        if runner.iter == 1:\n'
        "            raise RuntimeError('too late')\n"
    )
    cfg = Config.fromfile(good)
    cfg.dump(tmp_path / 'config.py')
    text = (tmp_path / 'config.py').read_text()
    (tmp_path / 'config.py').write_text(
        f'{text}\nimport sys\nsys.path.insert(0, {str(tmp_path)!r})\n'
        'from late import LateHook\ncustom_hooks = [dict(type=LateHook)]\n'
        'del sys\n'
    )
    log = run(
        'tools/train.py',
        tmp_path / 'config.py',
        *('--work-dir', tmp_path / 'run'),
        fails=True,
    )
    assert 'Traceback (most recent call last)' in log
    assert last_line(log).startswith('error: RuntimeError: too late')
