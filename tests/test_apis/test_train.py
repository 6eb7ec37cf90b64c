"""Training of a config by MMEngine's runners and hooks."""

import os
import signal
from copy import deepcopy

import pytest
import torch
from helpers import ROOT, run
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, HOOKS
from tiny import classification, faster_rcnn, image_batch, resnet
from torch.utils.data import Dataset

pytest.importorskip('mmpretrain')

from mmfmkt.apis.runner import set_cpu_wrapper  # noqa: E402
from mmfmkt.apis.train import check_fits, train  # noqa: E402
from mmfmkt.models.distillers.networks import build_network  # noqa: E402
from mmfmkt.utils import ConfigError  # noqa: E402
from mmfmkt.utils.configs import read_config  # noqa: E402

STUDENT = ('bus', 'person', 'car')
FLEXIBLE = dict(
    runner_type='FlexibleRunner',
    strategy=dict(type='SingleDeviceStrategy'),
    env_cfg=dict(),
)
models = []


@DATASETS.register_module()
class RandomImages(Dataset):
    """Eight random images of the classes ``metainfo['classes']``."""

    def __init__(self, metainfo):
        self.metainfo = metainfo
        self.images = image_batch(8, len(metainfo['classes']))

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return {key: values[index] for key, values in self.images.items()}


@HOOKS.register_module()
class KeepModel(Hook):
    """Appends the trained model to ``models``."""

    def after_train(self, runner):
        models.append(runner.model)


@HOOKS.register_module()
class CountIterations(Hook):
    """Counts iterations in ``total``; sends SIGTERM in the one of ``at``."""

    priority = 'HIGHEST'
    total = 0

    def __init__(self, at=None):
        self.at = at

    def after_train_iter(self, runner, *args, **kwargs):
        CountIterations.total += 1
        if runner.iter == self.at:
            os.kill(os.getpid(), signal.SIGTERM)


def config(work_dir, teacher, *hooks, **kwargs):
    """Return the config of one epoch with two batches."""
    model = classification(
        'fmkt', resnet(4, len(STUDENT)), resnet(8, len(teacher))
    )
    model['teacher']['classes'] = list(teacher)
    loader = dict(
        batch_size=4,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(type='RandomImages', metainfo=dict(classes=STUDENT)),
    )
    return Config(
        dict(
            default_scope='mmpretrain',
            model=model,
            train_dataloader=loader,
            train_cfg=dict(by_epoch=True, max_epochs=1),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
            custom_hooks=[*hooks, dict(type='KeepModel')],
            default_hooks=dict(export_student=None),
            work_dir=str(work_dir),
            launcher='none',
            experiment_name=str(work_dir),
            **kwargs,
        )
    )


@pytest.mark.parametrize('hook', ['EMAHook', 'mmfmkt.FlowEMAHook'])
def test_models_with_a_teacher_of_other_classes_can_be_averaged(
    hook, tmp_path
):
    teacher = ('car', 'bicycle', 'bus', 'plane')
    train(config(tmp_path, teacher, dict(type=hook)))
    summary = 'head: 2 of 3 classes are taught: bus, car'
    assert models[-1].class_summary == [summary]


@pytest.mark.parametrize('is_distillation', [True, False])
def test_default_hooks_may_be_none(is_distillation, tmp_path):
    cfg = config(tmp_path, STUDENT)
    cfg.default_hooks = None
    if not is_distillation:
        cfg.model = cfg.model.student
    train(cfg)
    exported = tmp_path / 'student' / 'student.pth'
    assert exported.exists() == is_distillation


def test_a_semi_supervised_detector_starts_from_a_detector():
    pytest.importorskip('mmdet')
    detector = faster_rcnn()
    semi = read_config(
        'mmdet::soft_teacher/'
        'soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco.py'
    )
    semi.model.detector = detector
    model = build_network(semi.model, 'mmdet')
    state = build_network(detector, 'mmdet').state_dict()
    check_fits(model, dict(state_dict=state))
    name = 'backbone.conv1.weight'
    model.load_state_dict(dict(state), strict=False)
    for part in (model.student, model.teacher):
        assert torch.equal(part.state_dict()[name], state[name])
    check_fits(model, dict(state_dict=model.state_dict()))
    # Distributed test-time augmentation adds two prefixes.
    wrapped = torch.nn.ModuleDict(dict(module=model))
    wrapped = torch.nn.ModuleDict(dict(module=wrapped))
    check_fits(wrapped, dict(state_dict=model.state_dict()))
    with pytest.raises(ConfigError, match='none of the 1 tensors'):
        check_fits(model, dict(state_dict={name: torch.zeros(1)}))


def test_a_flexible_runner_matches_classes_and_loads_a_checkpoint(tmp_path):
    train(config(tmp_path / 'runner', ('car', 'bus', 'person')))
    train(
        config(
            tmp_path / 'flexible',
            ('car', 'bus', 'person'),
            load_from=str(tmp_path / 'runner' / 'epoch_1.pth'),
            **FLEXIBLE,
        )
    )
    for model in models[-2:]:
        indices = model.flows['head'].teacher_classes
        assert torch.equal(indices.cpu(), torch.tensor([1, 2, 0]))


def test_a_flexible_runner_resumes_after_the_iteration_of_a_signal(tmp_path):
    handlers = {
        x: signal.getsignal(x) for x in (signal.SIGTERM, signal.SIGINT)
    }
    cfg = config(
        tmp_path,
        STUDENT,
        dict(type='CountIterations', at=2),
        **FLEXIBLE,
    )
    cfg.train_cfg.max_epochs = 3
    cfg.train_dataloader.batch_size = 1
    resumed = deepcopy(cfg)
    resumed.custom_hooks[0].at = None
    resumed.experiment_name += '-resumed'
    CountIterations.total = 0
    with pytest.raises(SystemExit):
        train(cfg)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    train(resumed, resume='auto')
    assert CountIterations.total == 3 * 8


TWO_PROCESSES = """
import os, sys, time
from pathlib import Path
sys.path[:0] = [{tests!r}, {tests!r} + '/test_apis']
import test_train
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class SlowCheckpoint(Hook):
    def before_save_checkpoint(self, runner, checkpoint):
        assert runner.model.gradient_as_bucket_view
        time.sleep(2)

folder = Path({folder!r})
wrapper = dict(gradient_as_bucket_view=True)
strategy = dict(type='DDPStrategy', model_wrapper=wrapper)
cfg = test_train.config(
    folder, test_train.STUDENT, dict(type='SlowCheckpoint'),
    runner_type='FlexibleRunner', strategy=strategy, env_cfg=dict())
cfg.launcher = 'pytorch'
cfg.train_cfg.max_epochs = 3
cfg.train_dataloader.batch_size = 1
if os.environ['RANK'] == '0':
    cfg.custom_hooks.append(dict(type='CountIterations', at=1))
try:
    test_train.train(cfg)
except SystemExit:
    saved = (folder / 'last_checkpoint').exists()
    sys.stdout.write(f'saved: {{saved}}\\n')
"""


@pytest.mark.slow
def test_no_process_exits_before_the_checkpoint_of_a_signal_is_saved(tmp_path):
    script = tmp_path / 'ranks.py'
    tests = str(ROOT / 'tests')
    script.write_text(TWO_PROCESSES.format(tests=tests, folder=str(tmp_path)))
    options = ('--standalone', '--nproc_per_node=2')
    log = run('-m', 'torch.distributed.run', *options, script)
    assert log.count('saved: True') == 2


def test_the_model_wrapper_on_cpus_is_where_the_runner_reads_it():
    strategy = dict(type='DDPStrategy')
    plain = Config(dict(strategy=dict(strategy)))
    set_cpu_wrapper(plain)
    assert plain.model_wrapper_cfg.device_ids is None
    assert plain.strategy == strategy
    flexible = Config(dict(runner_type='FlexibleRunner'))
    set_cpu_wrapper(flexible)
    assert flexible.strategy.type == 'DDPStrategy'
    assert flexible.strategy.model_wrapper.device_ids is None
