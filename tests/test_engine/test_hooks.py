"""Hooks in short runs, also when these are resumed."""

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from tiny import batch, distiller
from torch.utils.data import DataLoader

pytest.importorskip('mmdet')

from mmfmkt.apis.robustness import check_mmfmkt_hooks  # noqa: E402
from mmfmkt.engine import (  # noqa: E402
    ExportStudentHook,
    NanGuardHook,
    StepCountWarmupHook,
    TransferWeightHook,
)
from mmfmkt.engine.hooks.progress import iterations_per_epoch  # noqa: E402
from mmfmkt.utils import ConfigError  # noqa: E402


class Recorder(Hook):
    """Writes down what each iteration trains with."""

    priority = 'LOWEST'

    def __init__(self):
        self.seen = []

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ):
        flow = runner.model.flows['neck']
        weight = runner.model.transfer_weight
        self.seen.append(
            (
                runner.iter,
                weight,
                flow.step_count.limit,
                flow.step_count.draw(),
            )
        )


def train(
    work_dir, *hooks, epochs=4, model=None, raw=None, wrapper=None, **kwargs
):
    """Train on four images, two at a time; return what was recorded."""
    torch.manual_seed(0)
    raw = raw or batch(4)
    recorder = Recorder()
    runner = Runner(
        model=model or distiller(flow=dict(num_steps=(1, 2, 4))),
        work_dir=str(work_dir),
        train_dataloader=dict(
            batch_size=2,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=[dict(zip(raw, values)) for values in zip(*raw.values())],
        ),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(
            dict(optimizer=dict(type='AdamW', lr=1e-2)), **(wrapper or {})
        ),
        custom_hooks=[*hooks, recorder],
        default_scope='mmdet',
        experiment_name=f'{work_dir.name}-{len(list(work_dir.iterdir()))}',
        **kwargs,
    )
    runner.train()
    return recorder.seen, runner


@pytest.mark.parametrize(
    'settings, expected',
    [
        (dict(), [1, 1, 1, 1, 1, 1, 1, 1]),
        (dict(begin=1, end=3), [0, 0, 1, 1, 1, 1, 0, 0]),
        (dict(begin=2, end=5, by_epoch=False), [0, 0, 1, 1, 1, 0, 0, 0]),
        (dict(warmup=2), [0, 0.25, 0.5, 0.75, 1, 1, 1, 1]),
        (dict(end=4, decay=2), [1, 1, 1, 1, 1, 0.75, 0.5, 0.25]),
        (
            dict(begin=1, end=7, warmup=2, decay=2, by_epoch=False),
            [0, 0, 0.5, 1, 1, 1, 0.5, 0],
        ),
    ],
)
def test_the_transfer_weight_follows_its_settings(
    settings, expected, tmp_path
):
    seen, _ = train(
        tmp_path, dict(type='mmfmkt.TransferWeightHook', **settings)
    )
    assert [weight for _, weight, *_ in seen] == expected


def test_step_counts_grow_during_the_warm_up(tmp_path):
    seen, _ = train(
        tmp_path, dict(type='mmfmkt.StepCountWarmupHook', warmup=3)
    )
    assert [limit for *_, limit, _ in seen] == [1, 1, 2, 3, 3, 4, 4, 4]
    assert all(
        drawn in (1, 2, 4) and drawn <= limit for *_, limit, drawn in seen
    )


def test_step_count_warm_up_applies_to_a_fixed_step_count(tmp_path):
    seen, _ = train(
        tmp_path,
        dict(type='mmfmkt.StepCountWarmupHook', warmup=6, by_epoch=False),
        model=distiller(flow=dict(num_steps=3)),
    )
    assert [drawn for *_, drawn in seen] == [1, 1, 2, 2, 3, 3, 3, 3]


@pytest.mark.slow
def test_hooks_of_a_resumed_run_act_as_in_an_uninterrupted_one(tmp_path):
    hooks = (
        dict(type='mmfmkt.TransferWeightHook', begin=1, warmup=2),
        dict(type='mmfmkt.StepCountWarmupHook', warmup=3),
    )
    whole, one = tmp_path / 'whole', tmp_path / 'parts'
    whole.mkdir(), one.mkdir()
    seen, _ = train(whole, *hooks)
    first, _ = train(one, *hooks, epochs=2)
    second, _ = train(one, *hooks, resume=True)
    assert first + second == seen


@pytest.mark.parametrize('sampler', ('DefaultSampler', 'InfiniteSampler'))
@pytest.mark.parametrize('batch_sampler', (None, 'AspectRatioBatchSampler'))
def test_epoch_length_is_the_number_of_iterations_of_all_ranks_together(
    sampler, batch_sampler, monkeypatch
):
    """A sampler that never ends says how much there is for all ranks."""
    from mmdet.datasets.samplers import AspectRatioBatchSampler
    from mmengine.dataset import DefaultSampler, InfiniteSampler

    for module in ('mmengine.dataset.sampler', 'mmfmkt.engine.hooks.progress'):
        for name, value in (('get_world_size', 4), ('get_dist_info', (1, 4))):
            monkeypatch.setattr(
                f'{module}.{name}', lambda value=value: value, raising=False
            )
    monkeypatch.setattr('mmengine.dataset.sampler.sync_random_seed', lambda: 0)
    kind = dict(DefaultSampler=DefaultSampler, InfiniteSampler=InfiniteSampler)
    data = list(range(64))
    own = kind[sampler](data)
    loader = (
        DataLoader(data, 2, sampler=own)
        if not batch_sampler
        else (DataLoader(data, batch_sampler=AspectRatioBatchSampler(own, 2)))
    )
    assert iterations_per_epoch(loader) == 8


@pytest.mark.slow
def test_the_flow_alone_is_averaged_saved_and_resumed(tmp_path):
    hook = dict(type='mmfmkt.FlowEMAHook', momentum=0.5)
    _, runner = train(tmp_path, hook, epochs=2)
    saved = torch.load(tmp_path / 'epoch_2.pth', weights_only=False)
    model = runner.model.state_dict()
    name = 'flows.neck.0.field.encoder.layers.4.weight'
    average = saved['state_dict'][name]
    assert not torch.equal(average, model[name])
    inner = 'module.' + name.removeprefix('flows.')
    assert torch.equal(saved['ema_state_dict'][inner], model[name])
    student = [x for x in model if not x.startswith('flows.')]
    assert all(torch.equal(saved['state_dict'][x], model[x]) for x in student)
    assert not any('backbone' in x for x in saved['ema_state_dict'])

    _, resumed = train(tmp_path, hook, epochs=3, resume=True, load_from=None)
    (ema,) = (x for x in resumed.hooks if type(x).__name__ == 'FlowEMAHook')
    assert ema.ema_model.steps == 6
    assert resumed.iter == 6


def test_stopping_and_averaging_leave_an_export_that_loads(tmp_path):
    from mmfmkt.registry import MODELS

    model = distiller(flow=dict(num_steps=(1, 2, 4)))
    train(
        tmp_path,
        dict(type='mmfmkt.TransferWeightHook', end=1),
        dict(type='mmfmkt.FlowEMAHook'),
        epochs=2,
        model=model,
    )
    saved = torch.load(tmp_path / 'epoch_2.pth', weights_only=False)
    bare = MODELS.build(dict(model, teacher=None))
    bare.load_state_dict(saved['state_dict'])


@pytest.mark.parametrize(
    'hook',
    [
        dict(type='mmfmkt.TransferWeightHook', begin=-1),
        dict(type='mmfmkt.TransferWeightHook', decay=1),
        dict(type='mmfmkt.TransferWeightHook', begin=2, end=3, warmup=2),
        dict(type='mmfmkt.StepCountWarmupHook', warmup=0),
        dict(type='mmfmkt.NanGuardHook', action='go on'),
    ],
)
def test_impossible_settings_are_refused_in_one_sentence(hook):
    with pytest.raises(ConfigError, match='Hook|custom_hooks.0.') as error:
        check_mmfmkt_hooks(Config(dict(model=dict(), custom_hooks=[hook])))
        HOOKS.build(hook)
    assert '\n' not in str(error.value)


def test_hooks_for_distillers_raise_an_error_for_other_models(tmp_path):
    from tiny import retinanet

    with pytest.raises(ConfigError, match='got RetinaNet'):
        train(
            tmp_path,
            TransferWeightHook(),
            model=dict(retinanet(), _scope_='mmdet'),
        )


def test_hooks_are_registered_in_the_projects_scope():
    from mmfmkt.registry import HOOKS

    for hook in (ExportStudentHook, StepCountWarmupHook, TransferWeightHook):
        assert HOOKS.get(hook.__name__) is hook


class Spoil(Hook):
    """Makes a number none, from an iteration on or in it alone."""

    def __init__(self, where, first, last=99):
        self.where, self.first, self.last = where, first, last

    def before_train_iter(self, runner, *args, **kwargs):
        here = self.first <= runner.iter <= self.last
        model = runner.model
        self.weights = [x.detach().clone() for x in model.parameters()]
        if self.where == 'weight':
            model.transfer_weight = float('nan') if here else 1.0
        elif here:
            for parameter in model.teacher.neck.parameters():
                parameter.fill_(float('nan' if self.where == 'nan' else 0))


CPU_AMP = dict(type='mmfmkt.CPUAmpOptimWrapper')


@pytest.mark.parametrize(
    'where, wrapper', [('weight', None), ('nan', CPU_AMP)]
)
def test_nan_stops_a_run_before_the_optimizer_step(where, wrapper, tmp_path):
    spoil = Spoil(where, first=5)
    with pytest.raises(ConfigError) as error:
        train(
            tmp_path, spoil, dict(type='mmfmkt.NanGuardHook'), wrapper=wrapper
        )
    sentence = str(error.value)
    assert sentence.startswith(
        'NaN or Inf in iteration 6: neck.0.loss_flow, neck.1.loss_flow, neck.2'
    )
    assert f'last checkpoint: {tmp_path}/epoch_2.pth' in sentence


@pytest.mark.slow
def test_a_skipped_batch_changes_no_weights(tmp_path):
    class Watch(Hook):
        def after_train_iter(self, runner, *args, **kwargs):
            kept = all(
                map(torch.equal, spoil.weights, runner.model.parameters())
            )
            same.append(kept)

    same = []
    spoil = Spoil('weight', first=3, last=4)
    hook = dict(type='mmfmkt.NanGuardHook', action='skip')
    _, runner = train(tmp_path, spoil, hook, Watch())
    assert same == [i in (3, 4) for i in range(8)]
    (guard,) = (x for x in runner.hooks if isinstance(x, NanGuardHook))
    assert guard.skipped == 2
    assert runner.message_hub.get_scalar('train/skipped').current() == 2
    state = runner.optim_wrapper.optimizer.state
    assert {int(x['step']) for x in state.values()} == {6}
    with pytest.raises(ConfigError, match='NaN or Inf'):
        train(
            tmp_path,
            Spoil('weight', first=2),
            dict(type='mmfmkt.NanGuardHook', action='skip', max_skips=3),
        )


@pytest.mark.parametrize(
    'case, wrapper',
    [('constant maps', CPU_AMP), ('no boxes', None), ('one image', CPU_AMP)],
)
def test_unusual_batches_have_finite_losses(case, wrapper, tmp_path):
    raw = batch(1 if case == 'one image' else 4)
    hooks = [dict(type='mmfmkt.NanGuardHook')]
    if case == 'no boxes':
        for sample in raw['data_samples']:
            sample.gt_instances = sample.gt_instances[:0]
    elif case == 'constant maps':
        hooks.append(Spoil('zero', first=0))
    _, runner = train(tmp_path, *hooks, raw=raw, epochs=1, wrapper=wrapper)
    assert all(x.isfinite().all() for x in runner.model.parameters())
