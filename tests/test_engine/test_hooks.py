"""Hooks in short and in resumed training runs."""

import pytest
import torch
from helpers import run_ranks, scalars
from mmengine.config import Config
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmengine.utils import digit_version
from tiny import batch, distiller
from torch.utils.data import DataLoader

pytest.importorskip('mmdet')

from mmfmkt.apis.robustness import check_mmfmkt_hooks  # noqa: E402
from mmfmkt.apis.runner import prepare_cpu_processes  # noqa: E402
from mmfmkt.engine import (  # noqa: E402
    ExportStudentHook,
    NanGuardHook,
    TransferWeightHook,
)
from mmfmkt.engine.hooks.progress import (  # noqa: E402
    iterations_per_epoch,
    unwrap_model,
)
from mmfmkt.utils import ConfigError  # noqa: E402


class Recorder(Hook):
    """Records iteration, transfer weight, limit of N and drawn N."""

    priority = 'LOWEST'

    def __init__(self):
        self.records = []

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ):
        flow = runner.model.flows['neck']
        weight = runner.model.transfer_weight
        self.records.append(
            (
                runner.iter,
                weight,
                flow.step_count.limit,
                flow.step_count.draw(),
            )
        )


def train(
    work_dir,
    *hooks,
    epochs=4,
    model=None,
    raw_batch=None,
    wrapper=None,
    **kwargs,
):
    """Train on four images, two per batch; return records and runner."""
    torch.manual_seed(0)
    raw_batch = raw_batch or batch(4)
    recorder = Recorder()
    runner = Runner(
        model=model or distiller(flow=dict(num_steps=(1, 2, 4))),
        work_dir=str(work_dir),
        train_dataloader=dict(
            batch_size=2,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=[
                dict(zip(raw_batch, values))
                for values in zip(*raw_batch.values())
            ],
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
    return recorder.records, runner


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
    records, _ = train(
        tmp_path, dict(type='mmfmkt.TransferWeightHook', **settings)
    )
    assert [weight for _, weight, *_ in records] == expected


def test_step_counts_grow_during_the_warm_up(tmp_path):
    records, _ = train(
        tmp_path, dict(type='mmfmkt.StepCountWarmupHook', warmup=3)
    )
    assert [limit for *_, limit, _ in records] == [1, 1, 2, 3, 3, 4, 4, 4]
    assert all(
        drawn in (1, 2, 4) and drawn <= limit for *_, limit, drawn in records
    )


def test_step_count_warm_up_applies_to_a_fixed_step_count(tmp_path):
    records, _ = train(
        tmp_path,
        dict(type='mmfmkt.StepCountWarmupHook', warmup=6, by_epoch=False),
        model=distiller(flow=dict(num_steps=3)),
    )
    assert [drawn for *_, drawn in records] == [1, 1, 2, 2, 3, 3, 3, 3]


@pytest.mark.slow
def test_hooks_of_a_resumed_run_act_as_in_an_uninterrupted_one(
    tmp_path,
):
    hooks = (
        dict(type='mmfmkt.TransferWeightHook', begin=1, warmup=2),
        dict(type='mmfmkt.StepCountWarmupHook', warmup=3),
    )
    uninterrupted, resumed = tmp_path / 'uninterrupted', tmp_path / 'resumed'
    uninterrupted.mkdir(), resumed.mkdir()
    expected, _ = train(uninterrupted, *hooks)
    first, _ = train(resumed, *hooks, epochs=2)
    second, _ = train(resumed, *hooks, resume=True)
    assert first + second == expected


@pytest.mark.parametrize('sampler', ('DefaultSampler', 'InfiniteSampler'))
@pytest.mark.parametrize('batch_sampler', (None, 'AspectRatioBatchSampler'))
def test_epoch_length_is_the_number_of_iterations_of_all_ranks_together(
    sampler, batch_sampler, monkeypatch
):
    """The length of an infinite sampler is that of the dataset."""
    from mmdet.datasets.samplers import AspectRatioBatchSampler
    from mmengine.dataset import DefaultSampler, InfiniteSampler

    for module in ('mmengine.dataset.sampler', 'mmfmkt.engine.hooks.progress'):
        for name, value in (('get_world_size', 4), ('get_dist_info', (1, 4))):
            monkeypatch.setattr(
                f'{module}.{name}', lambda value=value: value, raising=False
            )
    monkeypatch.setattr('mmengine.dataset.sampler.sync_random_seed', lambda: 0)
    samplers = dict(
        DefaultSampler=DefaultSampler, InfiniteSampler=InfiniteSampler
    )
    data = list(range(64))
    index_sampler = samplers[sampler](data)
    loader = (
        DataLoader(data, 2, sampler=index_sampler)
        if not batch_sampler
        else DataLoader(
            data, batch_sampler=AspectRatioBatchSampler(index_sampler, 2)
        )
    )
    assert iterations_per_epoch(loader) == 8


@pytest.mark.slow
def test_flow_ema_averages_saves_and_resumes_only_the_flow(tmp_path):
    hook = dict(type='mmfmkt.FlowEMAHook', momentum=0.5)
    _, runner = train(tmp_path, hook, epochs=2)
    saved = torch.load(tmp_path / 'epoch_2.pth', weights_only=False)
    model = runner.model.state_dict()
    name = 'flows.neck.0.field.encoder.layers.4.weight'
    average = saved['state_dict'][name]
    assert not torch.equal(average, model[name])
    ema_name = 'module.' + name.removeprefix('flows.')
    assert torch.equal(saved['ema_state_dict'][ema_name], model[name])
    student = [x for x in model if not x.startswith('flows.')]
    assert all(torch.equal(saved['state_dict'][x], model[x]) for x in student)
    assert not any('backbone' in x for x in saved['ema_state_dict'])

    _, resumed = train(tmp_path, hook, epochs=3, resume=True, load_from=None)
    (ema,) = (x for x in resumed.hooks if type(x).__name__ == 'FlowEMAHook')
    assert ema.ema_model.steps == 6
    assert resumed.iter == 6


def test_checkpoints_with_flow_ema_load_without_a_teacher(tmp_path):
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
    without_teacher = MODELS.build(dict(model, teacher=None))
    without_teacher.load_state_dict(saved['state_dict'])


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
def test_invalid_settings_raise_an_error_of_one_line(hook):
    with pytest.raises(ConfigError, match='Hook|custom_hooks.0.') as error:
        check_mmfmkt_hooks(Config(dict(model=dict(), custom_hooks=[hook])))
        HOOKS.build(hook)
    assert '\n' not in str(error.value)


def test_flow_ema_accepts_arguments_of_the_averaged_model(tmp_path):
    hook = dict(type='mmfmkt.FlowEMAHook', update_buffers=True, interval=2)
    check_mmfmkt_hooks(Config(dict(model=dict(), custom_hooks=[hook])))
    _, runner = train(tmp_path, hook, epochs=1)
    (ema,) = (x for x in runner.hooks if type(x).__name__ == 'FlowEMAHook')
    assert ema.ema_model.update_buffers and ema.ema_model.interval == 2


def test_hooks_find_the_distiller_in_test_time_augmentation():
    from mmdet.models import DetTTAModel

    from mmfmkt.registry import MODELS

    model = MODELS.build(distiller(flow=dict(num_steps=1)))
    assert unwrap_model(DetTTAModel(module=model)) is model


def test_hooks_for_distillers_raise_an_error_for_other_models(tmp_path):
    from tiny import retinanet

    with pytest.raises(ConfigError, match='got RetinaNet'):
        train(
            tmp_path,
            TransferWeightHook(),
            model=dict(retinanet(), _scope_='mmdet'),
        )


class CorruptValues(Hook):
    """Corrupts values in the iterations from ``first`` to ``last``.

    Args:
        target (str): ``'weight'`` sets the transfer weight to NaN, ``'nan'``
            and ``'zero'`` set the weights of the teacher's neck, ``'loss'``
            adds a loss of infinity without a gradient, ``'image'`` sets an
            image to NaN.
        first (int): First iteration.
        last (int): Last iteration.
    """

    def __init__(self, target, first, last=99):
        self.target, self.first, self.last = target, first, last

    def before_run(self, runner):
        def add_loss(model, args, losses):
            if self.first <= runner.iter <= self.last:
                losses['loss_infinite'] = torch.tensor(float('inf'))

        if self.target == 'loss':
            runner.model.register_forward_hook(add_loss)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        active = self.first <= runner.iter <= self.last
        model = runner.model
        self.weights = [x.detach().clone() for x in model.parameters()]
        if self.target == 'weight':
            model.transfer_weight = float('nan') if active else 1.0
        elif self.target == 'image' and active:
            image = data_batch['inputs'][0].float()
            data_batch['inputs'][0] = image.fill_(float('nan'))
        elif self.target in ('nan', 'zero') and active:
            for parameter in model.teacher.neck.parameters():
                parameter.fill_(float('nan' if self.target == 'nan' else 0))


CPU_AMP = dict(type='mmfmkt.CPUAmpOptimWrapper')


@pytest.mark.parametrize(
    'target, wrapper', [('weight', None), ('nan', CPU_AMP)]
)
def test_nan_stops_a_run_before_the_optimizer_step(target, wrapper, tmp_path):
    corrupt = CorruptValues(target, first=5)
    with pytest.raises(ConfigError) as error:
        train(
            tmp_path,
            corrupt,
            dict(type='mmfmkt.NanGuardHook'),
            wrapper=wrapper,
        )
    message = str(error.value)
    assert message.startswith(
        'NaN or Inf in iteration 6: neck.0.loss_flow, neck.1.loss_flow, neck.2'
    )
    assert f'last checkpoint: {tmp_path}/epoch_2.pth' in message


class ScaledOptimWrapper(OptimWrapper):
    """AmpOptimWrapper's steps on a CPU, with a scale that overflows."""

    def __init__(self, init_scale=2.0**127, **kwargs):
        super().__init__(**kwargs)
        self.loss_scaler = torch.amp.GradScaler('cpu', init_scale=init_scale)

    def backward(self, loss, **kwargs):
        self.loss_scaler.scale(4 * loss).backward()

    def step(self, **kwargs):
        self.loss_scaler.step(self.optimizer)
        self.loss_scaler.update()


@pytest.mark.skipif(
    not hasattr(torch.amp, 'GradScaler'), reason='needs PyTorch 2.3'
)
@pytest.mark.parametrize('fused', [False, True])
def test_gradients_that_the_gradient_scaler_skips_are_no_nan(fused, tmp_path):
    wrapper = dict(
        type=ScaledOptimWrapper,
        optimizer=dict(type='AdamW', lr=1e-2, fused=fused),
    )
    _, runner = train(
        tmp_path, dict(type='mmfmkt.NanGuardHook'), epochs=1, wrapper=wrapper
    )
    assert runner.optim_wrapper.loss_scaler.get_scale() < 2.0**127


@pytest.mark.skipif(
    not hasattr(torch.amp, 'GradScaler'), reason='needs PyTorch 2.3'
)
def test_a_loss_that_overflows_with_a_gradient_scaler_is_skipped(tmp_path):
    wrapper = dict(
        type=ScaledOptimWrapper,
        init_scale=1.0,
        optimizer=dict(type='AdamW', lr=1e-2),
    )
    guard = NanGuardHook(max_skips=2)
    train(
        tmp_path,
        CorruptValues('weight', first=1, last=2),
        guard,
        epochs=2,
        wrapper=wrapper,
    )
    assert guard.skipped == 2
    corrupt = CorruptValues('weight', first=1)
    with pytest.raises(ConfigError, match='NaN or Inf in iteration 4'):
        train(tmp_path, corrupt, NanGuardHook(max_skips=2), wrapper=wrapper)


@pytest.mark.skipif(
    not hasattr(torch.amp, 'GradScaler'), reason='needs PyTorch 2.3'
)
def test_logged_gradient_norms_do_not_include_the_loss_scale(tmp_path):
    norms = []
    for fused in (False, True):
        work_dir = tmp_path / f'{fused}'
        work_dir.mkdir()
        wrapper = dict(
            type=ScaledOptimWrapper,
            init_scale=16.0,
            optimizer=dict(type='AdamW', lr=1e-2, fused=fused),
        )
        hook = dict(type='mmfmkt.FlowMonitorHook', interval=1)
        train(
            work_dir,
            hook,
            epochs=1,
            wrapper=wrapper,
            randomness=dict(seed=0),
        )
        key = 'flow/grad_norm_student'
        norms.append([x[key] for x in scalars(work_dir) if key in x][0])
    assert norms[1] == pytest.approx(norms[0], rel=1e-4)


class HalfWeight(BaseModel):
    """Loss whose float16 gradient has a norm above the range of float16."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(4).half())

    def forward(self, inputs, mode='tensor'):
        return dict(loss=(self.weight.float() * 6e4).sum())


def test_a_finite_gradient_in_float16_whose_norm_overflows_is_no_nan(tmp_path):
    runner = Runner(
        model=HalfWeight(),
        work_dir=str(tmp_path),
        train_dataloader=dict(
            batch_size=1,
            sampler=dict(type='DefaultSampler'),
            dataset=[dict(inputs=torch.ones(1))],
        ),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=1e-5)),
        custom_hooks=[dict(type='mmfmkt.NanGuardHook')],
        experiment_name=str(tmp_path),
    )
    runner.train()
    assert runner.model.weight.isfinite().all() and runner.model.weight.all()


@pytest.mark.slow
@pytest.mark.skipif(
    digit_version(torch.__version__) < digit_version('2.2'),
    reason='torch.compile of PyTorch 2.1 disables the hooks of optimizers',
)
@pytest.mark.parametrize('target', ['weight', 'loss'])
def test_a_skipped_batch_changes_no_weights(target, tmp_path):
    class CompareWeights(Hook):
        def after_train_iter(self, runner, *args, **kwargs):
            equal = map(
                torch.equal, corrupt.weights, runner.model.parameters()
            )
            unchanged.append(all(equal))

    unchanged = []
    corrupt = CorruptValues(target, first=3, last=4)
    hook = dict(type='mmfmkt.NanGuardHook', action='skip')
    _, runner = train(tmp_path, corrupt, hook, CompareWeights())
    assert unchanged == [i in (3, 4) for i in range(8)]
    (guard,) = (x for x in runner.hooks if isinstance(x, NanGuardHook))
    assert guard.skipped == 2
    assert runner.message_hub.get_scalar('train/skipped').current() == 2
    state = runner.optim_wrapper.optimizer.state
    assert {int(x['step']) for x in state.values()} == {6}
    with pytest.raises(ConfigError, match='NaN or Inf'):
        train(
            tmp_path,
            CorruptValues(target, first=2),
            dict(type='mmfmkt.NanGuardHook', action='skip', max_skips=3),
        )


def test_only_consecutive_skips_are_limited(tmp_path):
    corrupt = [CorruptValues('loss', first=i, last=i + 1) for i in (0, 4)]
    hook = dict(type='mmfmkt.NanGuardHook', action='skip', max_skips=2)
    _, runner = train(tmp_path, *corrupt, hook)
    assert runner.message_hub.get_scalar('train/skipped').current() == 4


def test_buffers_that_are_infinite_from_the_start_are_no_error(tmp_path):
    class Masked(Hook):
        def before_run(self, runner):
            mask = torch.full((2,), float('-inf'))
            runner.model.student.register_buffer('mask', mask)

    hook = dict(type='mmfmkt.NanGuardHook', action='skip')
    corrupt = CorruptValues('loss', first=2, last=2)
    _, runner = train(tmp_path, Masked(), corrupt, hook)
    assert runner.iter == 8


def test_a_batch_that_corrupts_running_statistics_is_not_skipped(tmp_path):
    hook = dict(type='mmfmkt.NanGuardHook', action='skip')
    with pytest.raises(ConfigError, match=r'into \S+running_mean'):
        train(tmp_path, CorruptValues('image', first=2), hook)


def test_all_processes_stop_if_one_has_corrupted_running_statistics(tmp_path):
    cfg = Config(dict(launcher='pytorch'))

    def error():
        prepare_cpu_processes(cfg)
        hooks = [dict(type='mmfmkt.NanGuardHook', action='skip')]
        if get_rank() == 1:
            hooks.append(CorruptValues('image', first=0))
        with pytest.raises(ConfigError, match='running_mean') as raised:
            train(tmp_path, *hooks, launcher='pytorch', cfg=cfg)
        return str(raised.value)

    first, second = run_ranks(error)
    assert first == second and 'NaN or Inf in iteration 1: ' in first


class GradientNorms(Hook):
    """Records the gradient norms of flow and student in each iteration."""

    def __init__(self):
        self.norms = []

    def before_train(self, runner):
        parts = runner.model.flows, runner.model.student

        def record(*args):
            grads = [
                torch.cat(
                    [
                        p.grad.flatten()
                        for p in part.parameters()
                        if p.grad is not None
                    ]
                )
                for part in parts
            ]
            self.norms.append([x.norm().item() for x in grads])

        runner.optim_wrapper.optimizer.register_step_pre_hook(record)


@pytest.mark.skipif(
    digit_version(torch.__version__) < digit_version('2.2'),
    reason='torch.compile of PyTorch 2.1 disables the hooks of optimizers',
)
def test_gradient_norms_of_flow_and_student_are_logged(tmp_path):
    hook, monitor = GradientNorms(), dict(type='mmfmkt.FlowMonitorHook')
    train(tmp_path, hook, dict(monitor, interval=4))
    logged = [
        [x['flow/grad_norm_flow'], x['flow/grad_norm_student']]
        for x in scalars(tmp_path)
        if 'flow/grad_norm_flow' in x
    ]
    expected = hook.norms[3::4]
    assert logged == [pytest.approx(x, rel=1e-4) for x in expected]


class FolderCheckpoint(Hook):
    """Makes a folder the last checkpoint, as FSDP and DeepSpeed do."""

    def after_train(self, runner):
        runner.message_hub.update_info('last_ckpt', runner.work_dir)


def test_a_training_whose_checkpoint_is_a_folder_exports_no_student(tmp_path):
    train(tmp_path, FolderCheckpoint(), ExportStudentHook(), epochs=1)
    assert not (tmp_path / 'student').exists()
    (path,) = tmp_path.glob('*/*.log')
    assert f'must be a file, got {tmp_path}' in path.read_text()


@pytest.mark.parametrize(
    'case, wrapper',
    [('constant maps', CPU_AMP), ('no boxes', None), ('one image', CPU_AMP)],
)
def test_unusual_batches_have_finite_losses(case, wrapper, tmp_path):
    raw_batch = batch(1 if case == 'one image' else 4)
    hooks = [dict(type='mmfmkt.NanGuardHook')]
    if case == 'no boxes':
        for sample in raw_batch['data_samples']:
            sample.gt_instances = sample.gt_instances[:0]
    elif case == 'constant maps':
        hooks.append(CorruptValues('zero', first=0))
    _, runner = train(
        tmp_path, *hooks, raw_batch=raw_batch, epochs=1, wrapper=wrapper
    )
    assert all(x.isfinite().all() for x in runner.model.parameters())


class ScalarHook(Hook):
    def after_train_iter(self, runner, *args, **kwargs):
        runner.message_hub.update_scalar('train/my_scalar', 0.5)


def test_log_lines_omit_losses_that_are_not_asked_for_and_nothing_else(
    tmp_path,
):
    smallest = dict(
        data_src='loss_cls',
        log_name='loss_cls_min',
        method_name='min',
        window_size='global',
    )
    _, runner = train(
        tmp_path,
        ScalarHook(),
        epochs=1,
        # MMEngine logs the learning rate together with `base_lr`.
        wrapper=dict(paramwise_cfg=dict(bias_lr_mult=2.0)),
        log_processor=dict(
            type='mmfmkt.DistillationLogProcessor', custom_cfg=[smallest]
        ),
    )
    (path,) = tmp_path.glob('*/*.log')
    (line,) = [x for x in path.read_text().splitlines() if '(train)' in x]
    names = [x.split(':')[0] for x in line.split('  ')[-9:]]
    assert 'my_scalar' in names and 'loss_cls_min' in names
    assert 'transfer' in line and ' lr: ' in line
    for name in ('loss_bbox', 'loss_cls', 'neck.0.loss_flow'):
        assert name not in names
