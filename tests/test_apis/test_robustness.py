"""The switches of ``robustness``: what each adds, and runs without them."""

import json

import pytest
import torch
from helpers import run
from mmengine.config import Config
from mmengine.hooks import CheckpointHook, EMAHook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from tiny import retinanet, write_config

from mmfmkt.apis.robustness import (
    SWITCHES,
    complete_robustness,
    with_robustness,
)
from mmfmkt.engine import NanGuardHook
from mmfmkt.utils import ConfigError

pytest.importorskip('mmdet')

WITNESS = """
import json, signal, torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


def name(x):
    return f'{type(x).__module__}.{type(x).__qualname__}'


@HOOKS.register_module()
class WitnessHook(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        loader = runner.train_dataloader
        found = dict(
            loop=name(runner.train_loop),
            hooks=[name(x) for x in runner.hooks],
            log=name(runner.log_processor),
            sampler=name(loader.batch_sampler),
            collate=repr(loader.collate_fn).split(' at ')[0],
            init=repr(loader.worker_init_fn).split(' at ')[0],
            load=[type(torch.load).__name__, torch.load.__module__],
            signals=[repr(signal.getsignal(x)).split(' at ')[0]
                     for x in (signal.SIGTERM, signal.SIGINT)])
        with open(runner.work_dir + '/witness.json', 'w') as file:
            json.dump(found, file)
"""
PLAIN = """
import sys
from mmengine.config import Config
from mmengine.runner import Runner
cfg = Config.fromfile(sys.argv[1])
cfg.work_dir = sys.argv[2]
Runner.from_cfg(cfg).train()
assert 'mmfmkt' not in sys.modules
"""
OFF = [f'robustness.{name}=False' for name in SWITCHES]


def config_of(**more):
    return Config(
        dict(
            default_scope='mmdet',
            model=dict(student=dict()),
            train_cfg=dict(by_epoch=True, max_epochs=1),
            **more,
        )
    )


def switched(cfg, **on):
    cfg.robustness = {**dict.fromkeys(SWITCHES, False), **on}
    return with_robustness(cfg)


def test_configs_do_not_change_if_all_switches_are_off():
    cfg = config_of(custom_hooks=[dict(type='EMAHook')])
    found = switched(cfg)
    assert found.to_dict() == cfg.to_dict()


@pytest.mark.parametrize('name', SWITCHES)
def test_each_switch_adds_only_its_own_hooks_and_settings(name):
    found = switched(config_of(), **{name: True})
    loop = found.train_cfg.get('type', '')
    hooks = {x['type'] for x in found.custom_hooks}
    checkpoint = (found.get('default_hooks') or {}).get('checkpoint', {})
    assert loop == ('mmfmkt.ResumableEpochLoop' * (name == 'exact_resume'))
    assert (
        hooks
        == {
            'exact_resume': {'mmfmkt.InterruptHook'},
            'nan_guard': {'mmfmkt.NanGuardHook'},
            'monitor': {'mmfmkt.FlowMonitorHook'},
            'safe_checkpoints': set(),
        }[name]
    )
    assert ('log_processor' in found) == (name == 'monitor')
    assert checkpoint.get('exact_resume', False) == (name == 'exact_resume')
    assert checkpoint.get('atomic', False) == (name == 'safe_checkpoints')


@pytest.mark.parametrize(
    'loop, replaced',
    (
        (dict(type='EpochBasedTrainLoop'), 'mmfmkt.ResumableEpochLoop'),
        (dict(type='mmengine.IterBasedTrainLoop'), 'mmfmkt.ResumableIterLoop'),
        (dict(type=EpochBasedTrainLoop), 'mmfmkt.ResumableEpochLoop'),
        (dict(type=IterBasedTrainLoop), 'mmfmkt.ResumableIterLoop'),
        (dict(by_epoch=False), 'mmfmkt.ResumableIterLoop'),
        (dict(type='mmdet.TeacherStudentValLoop'), None),
    ),
)
def test_loops_are_recognized_by_class_in_every_notation(loop, replaced):
    cfg = config_of()
    cfg.train_cfg = loop
    found = switched(cfg, exact_resume=True).train_cfg.type
    assert found == (replaced or loop['type'])


@pytest.mark.parametrize(
    'kind', ('CheckpointHook', 'mmengine.CheckpointHook', CheckpointHook)
)
def test_the_checkpoint_hook_keeps_its_settings(kind):
    hook = dict(type=kind, interval=3)
    cfg = config_of(default_hooks=dict(checkpoint=hook))
    found = switched(cfg, safe_checkpoints=True).default_hooks.checkpoint
    assert found == dict(
        type='mmfmkt.AtomicCheckpointHook',
        interval=3,
        exact_resume=False,
        atomic=True,
    )


def test_hooks_of_the_config_are_not_added_twice():
    own = [dict(type=NanGuardHook, action='skip'), dict(type=EMAHook)]
    found = switched(config_of(custom_hooks=own), nan_guard=True)
    assert found.custom_hooks == own


def test_an_unknown_switch_is_named():
    with pytest.raises(ConfigError, match="no key 'exact'"):
        complete_robustness(config_of(robustness=dict(exact=True)))


@pytest.mark.slow
def test_without_switches_a_run_equals_a_run_of_mmengine(shapes, tmp_path):
    """Objects and weights of the tool are those of plain MMEngine."""
    (tmp_path / 'witness.py').write_text(WITNESS)
    cfg = Config.fromfile(write_config(tmp_path / 'd.py', shapes, 'theta'))
    cfg.custom_imports = dict(imports=['witness'], allow_failed_imports=False)
    cfg.custom_hooks = [dict(type='WitnessHook')]
    cfg.model.student = retinanet()
    distilled = cfg.copy()
    distilled.custom_hooks = [
        *cfg.custom_hooks,
        dict(type='mmfmkt.TransferWeightHook', begin=99),
    ]
    distilled.dump(tmp_path / 'distil.py')
    cfg.model = cfg.model.student
    cfg.dump(tmp_path / 'student.py')
    path = dict(PYTHONPATH=f'{tmp_path}:.')
    (tmp_path / 'plain.py').write_text(PLAIN)
    run(tmp_path / 'plain.py', tmp_path / 'student.py', tmp_path / 'p', **path)
    found, states = {}, {}
    for name, config in (('s', 'student.py'), ('d', 'distil.py')):
        run(
            *('tools/train.py', tmp_path / config),
            *('--work-dir', tmp_path / name, '--cfg-options', *OFF),
            **path,
        )
    for name in 'psd':
        folder = tmp_path / name
        found[name] = json.loads((folder / 'witness.json').read_text())
        states[name] = torch.load(folder / 'epoch_2.pth', weights_only=False)[
            'state_dict'
        ]
    assert found['s'] == found['p']
    assert found['p']['load'][0] == 'function'
    hooks = [x for x in found['d']['hooks'] if not x.startswith('mmfmkt.')]
    assert dict(found['d'], hooks=hooks) == found['p']
    for name, tensor in states['p'].items():
        assert torch.equal(states['s'][name], tensor), name
        assert torch.equal(states['d'][name], tensor), name
    dumped = Config.fromfile(
        tmp_path / 's' / 'student.py', import_custom_modules=False
    )
    assert dumped.robustness == dict.fromkeys(SWITCHES, False)
