"""Exact resume from any iteration."""

import itertools
import multiprocessing
import os
import random
import signal
import threading
import time
import zipfile

import numpy as np
import pytest
import torch
from helpers import run_ranks
from mmengine.config import Config
from mmengine.dataset import DefaultSampler
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from resumable_run import InterruptAt, build_runner
from tiny import batch, classification, distiller, image_batch
from torch.utils.data import BatchSampler, DataLoader, Dataset

from mmfmkt.engine.resume.batch_stream import BatchStream
from mmfmkt.engine.resume.random_states import pack_states, unpack_states
from mmfmkt.utils import ConfigError
from mmfmkt.utils.random_stream import get_random_states, set_random_states

pytest.importorskip('mmdet')

from mmfmkt.apis.runner import prepare_cpu_processes  # noqa: E402
from mmfmkt.apis.train import verify_load_from  # noqa: E402
from mmfmkt.engine.resume import (  # noqa: E402
    latest_checkpoint,
    resume_from_latest,
)


class RandomSamples(Dataset):
    """Samples of an index and a random number of each of three generators."""

    def __len__(self):
        return 11

    def __getitem__(self, index):
        return index, random.random(), np.random.rand(), torch.rand(()).item()


def seed_worker(worker_id):
    random.seed(worker_id)
    np.random.seed(worker_id)
    torch.manual_seed(worker_id)


def stream_of(num_workers, persistent):
    data = RandomSamples()
    sampler = BatchSampler(DefaultSampler(data, seed=0), 2, drop_last=False)
    loader = DataLoader(
        data,
        batch_sampler=sampler,
        num_workers=num_workers,
        persistent_workers=persistent,
        worker_init_fn=seed_worker,
        collate_fn=list,
    )
    return BatchStream(loader)


@pytest.mark.parametrize(
    'num_workers, persistent', [(0, False), (2, False), (2, True)]
)
@pytest.mark.parametrize('num_read', [1, 4, 6, 8])
def test_resumed_batches_equal_those_of_an_uninterrupted_epoch(
    num_workers, persistent, num_read
):
    """Two epochs of six batches, interrupted after ``num_read`` batches.

    The main process draws a random number for each batch, as two-stage
    detectors do.
    """

    def epochs(stream, position=0):
        for epoch in range(position // 6, 2):
            stream.loader.batch_sampler.sampler.set_epoch(epoch)
            first = position - 6 * epoch
            for samples in stream.read(max(first, 0)):
                yield samples, torch.rand(()).item()

    torch.manual_seed(0)
    seed_worker(99)
    expected = list(epochs(stream_of(num_workers, persistent)))
    assert len(expected) == 12 and expected[:6] != expected[6:]

    torch.manual_seed(0)
    seed_worker(99)
    stream = stream_of(num_workers, persistent)
    before = list(itertools.islice(epochs(stream), num_read))
    main, workers = pack_states(get_random_states()), stream.worker_states

    seed_worker(7)  # the resumed process has other random states
    stream = stream_of(num_workers, persistent)
    stream.resume(main, workers)
    assert before + list(epochs(stream, num_read)) == expected


def test_workers_that_a_hook_restarts_continue_in_both_runs():
    torch.manual_seed(0)
    stream = stream_of(2, True)
    list(stream.read())
    main, workers = pack_states(get_random_states()), stream.worker_states
    workers = dict(workers)
    stream.loader._iterator = None  # as MMEngine's PipelineSwitchHook
    expected = list(stream.read())
    stream = stream_of(2, True)
    stream.resume(main, workers)
    assert list(stream.read()) == expected


def test_hooks_that_iterate_over_the_loader_get_ordinary_batches():
    stream = stream_of(2, True)
    assert all(len(x) == 2 for x in list(stream.read())[:5])
    for x in itertools.islice(stream.loader, 5):
        assert type(x) is list and len(x) == 2
    assert len(list(stream.read())) == 6


def train_weights(runner):
    """Train, and return a copy of the weights."""
    runner.train()
    return {k: x.clone() for k, x in runner.model.state_dict().items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    'iteration, signal_number, by_epoch',
    [
        (6, None, True),
        (5, signal.SIGTERM, True),
        (7, signal.SIGINT, True),
        (5, signal.SIGTERM, False),
    ],
)
def test_resumed_runs_end_with_the_weights_of_an_uninterrupted_one(
    iteration, signal_number, by_epoch, tmp_path
):
    uninterrupted, resumed = tmp_path / 'uninterrupted', tmp_path / 'resumed'
    uninterrupted.mkdir()
    resumed.mkdir()
    expected = train_weights(build_runner(uninterrupted, by_epoch=by_epoch))
    handler = signal.getsignal(signal.SIGTERM)
    hook = InterruptAt(iteration, signal_number)
    runner = build_runner(resumed, hook, by_epoch=by_epoch)
    with pytest.raises(
        SystemExit if signal_number else InterruptedError
    ) as error:
        runner.train()
    for hook in runner.hooks:
        if type(hook).__name__ == 'InterruptHook':
            hook.after_train(runner)  # restores the signal handlers
    assert signal.getsignal(signal.SIGTERM) == handler
    path, loaded = latest_checkpoint(resumed)
    if signal_number:
        assert error.value.code == 128 + signal_number
        at_epoch_end = by_epoch and iteration == 7
        assert loaded['meta']['iter'] == iteration + 1
        assert loaded['meta']['epoch'] == (
            0 if not by_epoch else 2 if at_epoch_end else 1
        )
    weights = train_weights(
        build_runner(resumed, by_epoch=by_epoch, resume=True, load_from=path)
    )
    assert all(torch.equal(expected[k], weights[k]) for k in expected)
    kept = {x.name for x in resumed.glob('*.pth')}
    assert kept == {'epoch_3.pth' if by_epoch else 'iter_12.pth'}


def test_resumed_runs_draw_the_same_permutations_of_pairs(tmp_path):
    def runner(**kwargs):
        return build_runner(
            tmp_path,
            model=distiller(flow=dict(num_steps=1, dirac_ratio=0.0)),
            raw_batch=batch(8),
            batch_size=4,
            num_workers=0,
            checkpoint=dict(type='mmfmkt.AtomicCheckpointHook', interval=1),
            **kwargs,
        )

    expected = train_weights(runner())
    path = str(tmp_path / 'epoch_1.pth')
    weights = train_weights(runner(resume=True, load_from=path))
    assert all(torch.equal(expected[k], weights[k]) for k in expected)


class WarmupFactors(Hook):
    """Records the warm-up factor of DKDLoss in each iteration."""

    def __init__(self):
        self.factors = []

    def after_train_iter(self, runner, *args, **kwargs):
        (transfer,) = runner.model.head_transfer.values()
        self.factors.append(transfer.metric.warmup_factor)


@pytest.mark.parametrize('by_epoch', (True, False))
def test_a_warm_up_by_epochs_ends_in_both_loops(by_epoch, tmp_path):
    pytest.importorskip('mmpretrain')
    hook = WarmupFactors()
    metric = dict(type='DKDLoss', warmup_epochs=2)
    runner = build_runner(
        tmp_path,
        hook,
        by_epoch=by_epoch,
        model=classification(flow=dict(metric=metric)),
        raw_batch=image_batch(4),
        num_workers=0,
    )
    runner.train()
    assert hook.factors == [0.5] * 4 + [1.0] * 8


@pytest.mark.slow
def test_a_run_resumes_after_the_last_iteration_of_an_epoch(tmp_path):
    uninterrupted, resumed = tmp_path / 'uninterrupted', tmp_path / 'resumed'
    uninterrupted.mkdir()
    resumed.mkdir()
    checkpoint = dict(
        type='mmfmkt.AtomicCheckpointHook', by_epoch=False, interval=4
    )
    expected = train_weights(build_runner(uninterrupted))
    train_weights(build_runner(resumed, checkpoint=checkpoint))
    for first in (8, 12):
        runner = build_runner(
            resumed, resume=True, load_from=str(resumed / f'iter_{first}.pth')
        )
        weights = train_weights(runner)
        assert (runner.epoch, runner.iter) == (3, 12)
        assert all(torch.equal(expected[k], weights[k]) for k in expected)


class Linear(BaseModel):
    """Linear regression to 0."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(1, 1)

    def forward(self, inputs, mode='tensor'):
        outputs = self.linear(torch.stack(inputs))
        if mode == 'loss':
            return dict(loss=outputs.square().mean())
        return list(outputs)


class Scores(BaseMetric):
    """Metric whose value is the next one of a list."""

    def __init__(self, values):
        super().__init__()
        self.values = iter(values)

    def process(self, data_batch, data_samples):
        self.results.append(data_samples)

    def compute_metrics(self, results):
        return dict(score=next(self.values))


class InterruptValidation(Hook):
    """Sends SIGTERM in the validation after an iteration."""

    priority = 'HIGHEST'

    def __init__(self, iteration):
        self.iteration = iteration

    def after_val_iter(self, runner, *args, **kwargs):
        if runner.iter == self.iteration:
            os.kill(os.getpid(), signal.SIGTERM)


class SignalAll(InterruptValidation):
    """Sends a signal to all processes, as terminals and clusters do, while
    the main process waits for the next batch."""

    def __init__(self, iteration, signal_number):
        super().__init__(iteration)
        self.signal_number = signal_number

    def after_val_iter(self, runner, *args, **kwargs):
        if runner.iter == self.iteration:
            threading.Timer(0.1, self.interrupt).start()
            self.iteration = None

    def interrupt(self):
        for process in multiprocessing.active_children():
            kill = f'kill -{int(self.signal_number)} {process.pid}'
            os.system(kill)  # SIGTERM of the main process ends a worker
        os.kill(os.getpid(), self.signal_number)


def linear_runner(work_dir, *hooks, scores=(0, 0, 0, 0), **kwargs):
    """Build a runner of four epochs with two batches and a validation."""
    torch.manual_seed(0)
    loader = dict(
        batch_size=2,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=[dict(inputs=torch.ones(1))] * 4,
    )
    settings = dict(
        model=Linear(),
        train_dataloader=loader,
        val_dataloader=loader,
        val_cfg=dict(),
        val_evaluator=Evaluator(Scores(scores)),
        train_cfg=dict(type='mmfmkt.ResumableEpochLoop', max_epochs=4),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(
            checkpoint=dict(type='mmfmkt.AtomicCheckpointHook', interval=-1)
        ),
    )
    return Runner(
        work_dir=str(work_dir),
        custom_hooks=[*hooks, dict(type='mmfmkt.InterruptHook')],
        experiment_name=f'{work_dir}-{len(list(work_dir.iterdir()))}',
        **{**settings, **kwargs},
    )


def resume_linear(work_dir, interruption, *hooks, **kwargs):
    """Interrupt a run and resume it.

    Returns:
        tuple: Weights of the resumed and of an uninterrupted run.
    """
    first, second = work_dir / 'uninterrupted', work_dir / 'resumed'
    first.mkdir()
    second.mkdir()
    expected = train_weights(linear_runner(first, *hooks, **kwargs))
    runner = linear_runner(second, interruption, *hooks, **kwargs)
    with pytest.raises(SystemExit):
        runner.train()
    (interrupt,) = (
        x for x in runner.hooks if type(x).__name__ == 'InterruptHook'
    )
    interrupt.after_train(runner)  # restores the signal handlers
    path, _ = latest_checkpoint(second)
    runner = linear_runner(
        second, *hooks, resume=True, load_from=path, **kwargs
    )
    return train_weights(runner), expected


class NoisyLinear(Linear):
    """Linear regression with a random loss weight, whose validation draws
    random numbers, too."""

    def forward(self, inputs, mode='tensor'):
        outputs = super().forward(inputs, mode)
        noise = torch.rand(())
        if mode == 'loss':
            return dict(loss=noise * outputs['loss'])
        return outputs


def test_validations_do_not_change_the_random_numbers_of_the_training(
    tmp_path,
):
    for name in ('with', 'without'):
        (tmp_path / name).mkdir()
    model = NoisyLinear()
    start = {k: x.clone() for k, x in model.state_dict().items()}

    def weights(folder, **kwargs):
        model.load_state_dict(start)
        runner = linear_runner(
            folder, model=model, randomness=dict(seed=0), **kwargs
        )
        return train_weights(runner)

    without = dict(val_dataloader=None, val_cfg=None, val_evaluator=None)
    assert weights(tmp_path / 'with') == weights(
        tmp_path / 'without', **without
    )


def test_a_checkpoint_that_a_validation_saves_again_resumes_exactly(tmp_path):
    """MMEngine saves it with the best metric, before `after_val`."""

    def runner(**kwargs):
        hook = dict(
            type='mmfmkt.AtomicCheckpointHook',
            interval=1,
            save_best='score',
            rule='greater',
        )
        return linear_runner(
            tmp_path,
            model=NoisyLinear(),
            scores=[0, 1, 0, 0],
            default_hooks=dict(checkpoint=hook),
            randomness=dict(seed=0),
            **kwargs,
        )

    expected = train_weights(runner())
    path = str(tmp_path / 'epoch_2.pth')
    assert train_weights(runner(resume=True, load_from=path)) == expected


def test_each_process_resumes_with_its_own_random_states(tmp_path):
    cfg = Config(dict(launcher='pytorch'))

    def resumed_and_uninterrupted():
        prepare_cpu_processes(cfg)
        rank = int(os.environ['RANK'])
        results = []
        for resume in (False, True):
            runner = linear_runner(
                tmp_path,
                model=NoisyLinear(),
                launcher='pytorch',
                cfg=cfg,
                randomness=dict(seed=0, diff_rank_seed=True),
                default_hooks=dict(
                    checkpoint=dict(
                        type='mmfmkt.AtomicCheckpointHook', interval=2
                    )
                ),
                resume=resume,
                load_from=str(tmp_path / 'epoch_2.pth') if resume else None,
            )
            runner.train()
            results.append(torch.rand(()).item() + rank)
        return results

    values = run_ranks(resumed_and_uninterrupted)
    for first, second in values:
        assert first == second
    assert values[0][0] != values[1][0] - 1


@pytest.mark.parametrize('old, new', [(2, 1), (4, 3)])
def test_a_run_that_resumes_with_shorter_epochs_skips_no_batch(
    old, new, tmp_path
):
    def loader(num_batches):
        return dict(
            batch_size=1,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=[dict(inputs=torch.ones(1))] * num_batches,
        )

    linear_runner(
        tmp_path,
        train_dataloader=loader(old),
        default_hooks=dict(
            checkpoint=dict(type='mmfmkt.AtomicCheckpointHook', interval=1)
        ),
    ).train()
    runner = linear_runner(
        tmp_path,
        train_dataloader=loader(new),
        resume=True,
        load_from=str(tmp_path / 'epoch_1.pth'),
    )
    runner.train()
    assert runner.iter == old + 3 * new


@pytest.mark.parametrize('signal_number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_workers_of_the_validation_saves_a_checkpoint(
    signal_number, tmp_path
):
    class Slow(Dataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            time.sleep(0.3)
            return dict(inputs=torch.ones(1))

    loader = dict(
        batch_size=1,
        num_workers=1,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=Slow(),
    )
    resumed, expected = resume_linear(
        tmp_path,
        SignalAll(4, signal_number),
        val_dataloader=loader,
        train_cfg=dict(type='mmfmkt.ResumableEpochLoop', max_epochs=2),
    )
    assert all(torch.equal(resumed[k], x) for k, x in expected.items())


def test_a_run_of_iterations_loads_no_batch_more_than_it_trains(tmp_path):
    loaded = []

    class Images(Dataset):
        def __len__(self):
            return 100

        def __getitem__(self, index):
            loaded.append(index)
            return dict(inputs=torch.ones(1))

    loader = dict(
        batch_size=4, sampler=dict(type='InfiniteSampler'), dataset=Images()
    )
    loop = dict(type='mmfmkt.ResumableIterLoop', max_iters=5)
    linear_runner(
        tmp_path,
        train_dataloader=loader,
        train_cfg=loop,
        scores=[0],
        default_hooks=None,
    ).train()
    assert len(loaded) == 20


def test_a_run_resumes_from_a_signal_in_validation_with_averaged_weights(
    tmp_path,
):
    weights, expected = resume_linear(
        tmp_path,
        InterruptValidation(4),
        dict(type='EMAHook', momentum=0.5),
    )
    assert weights == expected


def test_a_run_exits_after_a_validation_with_two_sets_of_weights(tmp_path):
    """MMPretrain's EMAHook validates the original weights, too."""
    pytest.importorskip('mmpretrain.engine')
    weights, expected = resume_linear(
        tmp_path,
        InterruptValidation(4),
        dict(type='mmpretrain.EMAHook', momentum=0.5, evaluate_on_origin=True),
        scores=itertools.repeat(0),
    )
    assert weights == expected


class MeanTeacher(Linear):
    """Student with a trained teacher, as in semi-supervised detectors."""

    def __init__(self):
        super().__init__()
        self.teacher = Linear()

    def forward(self, inputs, mode='tensor'):
        if mode == 'loss':
            with torch.no_grad():
                self.teacher.linear.weight.lerp_(self.linear.weight, 0.5)
        return super().forward(inputs, mode)


def test_a_run_with_a_trained_teacher_resumes(tmp_path):
    def runner(**kwargs):
        checkpoint = dict(type='mmfmkt.AtomicCheckpointHook', interval=1)
        hooks = dict(checkpoint=checkpoint)
        return linear_runner(
            tmp_path, model=MeanTeacher(), default_hooks=hooks, **kwargs
        )

    expected = train_weights(runner())
    path = str(tmp_path / 'epoch_2.pth')
    assert train_weights(runner(resume=True, load_from=path)) == expected


@pytest.mark.parametrize('by_epoch', [True, False])
@pytest.mark.parametrize(
    'interruption', [InterruptValidation(4), InterruptAt(3, signal.SIGTERM)]
)
def test_a_resumed_run_makes_up_for_an_interrupted_validation(
    interruption, by_epoch, tmp_path
):
    train_cfg = dict(type='mmfmkt.ResumableEpochLoop', max_epochs=4)
    if not by_epoch:
        train_cfg = dict(
            type='mmfmkt.ResumableIterLoop', max_iters=8, val_interval=2
        )
    scheduler = dict(
        type='ReduceOnPlateauLR', monitor='score', rule='greater', patience=0
    )
    weights, expected = resume_linear(
        tmp_path, interruption, train_cfg=train_cfg, param_scheduler=scheduler
    )
    assert weights == expected


@pytest.mark.parametrize(
    'seconds, error', [(2, SystemExit), (0, InterruptedError)]
)
def test_a_signal_that_a_launcher_repeats_does_not_end_a_run_at_once(
    seconds, error, tmp_path, monkeypatch
):
    def end(number, frame):
        raise InterruptedError

    module = 'mmfmkt.engine.resume.interrupt_hook'
    monkeypatch.setattr(f'{module}.REPEAT_SECONDS', seconds)
    previous = signal.signal(signal.SIGTERM, end)
    interruptions = [InterruptAt(2, signal.SIGTERM) for _ in range(2)]
    runner = linear_runner(tmp_path, *interruptions)
    try:
        with pytest.raises(error):
            runner.train()
    finally:
        runner.call_hook('after_train')
        signal.signal(signal.SIGTERM, previous)
    assert (tmp_path / 'interrupted.pth').exists() == (seconds > 0)


def test_a_signal_waits_for_the_end_of_gradient_accumulation(tmp_path):
    optimizer = dict(type='SGD', lr=0.1)
    weights, expected = resume_linear(
        tmp_path,
        InterruptAt(3, signal.SIGTERM),
        optim_wrapper=dict(optimizer=optimizer, accumulative_counts=3),
    )
    assert weights == expected


@pytest.mark.parametrize('interval', [-1, 1])
def test_one_best_checkpoint_is_kept(interval, tmp_path):
    linear_runner(
        tmp_path,
        scores=(0.1, 0.3, 0.4, 0.2),
        default_hooks=dict(
            checkpoint=dict(
                type='mmfmkt.AtomicCheckpointHook',
                interval=interval,
                save_last=interval > 0,
                max_keep_ckpts=1,
                save_best='score',
                rule='greater',
            )
        ),
    ).train()
    last = {'epoch_4.pth'} if interval > 0 else set()
    kept = {x.name for x in tmp_path.glob('*.pth')}
    assert kept == {'best_score_epoch_3.pth'} | last


@pytest.mark.slow
def test_resuming_with_another_teacher_is_an_error(tmp_path):
    with pytest.raises(SystemExit):
        build_runner(tmp_path, InterruptAt(9, signal.SIGTERM)).train()
    path, _ = latest_checkpoint(tmp_path)
    runner = build_runner(tmp_path, resume=True, load_from=path)
    next(runner.model.teacher.parameters()).data.add_(1e-3)
    with pytest.raises(ConfigError, match='differ from those of the teacher'):
        runner.train()


def save_checkpoint(path, age):
    """Save a checkpoint that is ``age`` seconds old."""
    torch.save(
        dict(meta=dict(age=age), state_dict=dict(x=torch.ones(99))), path
    )
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


@pytest.mark.parametrize('damage', ['cut', 'flipped', 'empty', 'foreign'])
def test_a_damaged_checkpoint_is_skipped_when_resuming(damage, tmp_path):
    save_checkpoint(tmp_path / 'epoch_1.pth', age=9)
    newest = save_checkpoint(tmp_path / 'epoch_2.pth', age=5)
    save_checkpoint(tmp_path / 'best_coco_epoch_2.pth', age=0)
    (tmp_path / 'last_checkpoint').write_text(str(newest))
    assert latest_checkpoint(tmp_path)[1]['meta']['age'] == 5
    data = bytearray(newest.read_bytes())
    if damage == 'flipped':
        with zipfile.ZipFile(newest) as file:
            info = file.infolist()[0]
        data[info.header_offset + 30 + len(info.filename) + 70] ^= 0xFF
    newest.write_bytes(
        {
            'cut': bytes(data[: len(data) // 2]),
            'flipped': bytes(data),
            'empty': b'',
            'foreign': b'not a checkpoint',
        }[damage]
    )
    with pytest.warns(UserWarning, match='previous checkpoint'):
        assert latest_checkpoint(tmp_path)[1]['meta']['age'] == 9
    (tmp_path / 'epoch_1.pth').unlink()
    with (
        pytest.warns(UserWarning, match='is damaged'),
        pytest.raises(ConfigError, match='Start a new run'),
    ):
        latest_checkpoint(tmp_path)
    newest.unlink()
    (tmp_path / 'last_checkpoint').unlink()
    assert latest_checkpoint(tmp_path) == (None, None)


def test_a_copied_run_resumes_from_its_latest_checkpoint(tmp_path):
    for epoch in (1, 2, 3):
        save_checkpoint(tmp_path / f'epoch_{epoch}.pth', age=epoch)
    pointer = tmp_path / 'last_checkpoint'
    pointer.write_text('/another/folder/epoch_3.pth')
    assert latest_checkpoint(tmp_path)[0] == str(tmp_path / 'epoch_3.pth')


def test_checkpoints_that_are_folders_are_left_to_mmengine(tmp_path):
    folder = tmp_path / 'epoch_3.pth'
    folder.mkdir()
    (tmp_path / 'last_checkpoint').write_text(str(folder))
    assert latest_checkpoint(tmp_path) == (str(folder), {})
    strategy = dict(type='DeepSpeedStrategy')
    cfg = Config(dict(load_from=str(folder), strategy=strategy))
    resume_from_latest(cfg)
    assert verify_load_from(cfg) is None and 'randomness' not in cfg


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_random_states_of_a_gpu_are_skipped_without_a_gpu():
    states = get_random_states()
    drawn = torch.rand(3)
    cuda = torch.zeros(16, dtype=torch.uint8).numpy()
    set_random_states(unpack_states(pack_states({**states, 'cuda': cuda})))
    assert torch.equal(torch.rand(3), drawn)
