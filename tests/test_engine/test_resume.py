"""Resuming is exact, from any iteration."""

import itertools
import os
import random
import signal
import zipfile

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmengine.hooks import Hook
from mmengine.runner import Runner
from tiny import batch, distiller
from torch.utils.data import BatchSampler, DataLoader, Dataset

from mmfmkt.engine.resume.batch_stream import BatchStream
from mmfmkt.engine.resume.random_states import pack_states, unpack_states
from mmfmkt.utils import ConfigError
from mmfmkt.utils.random_stream import get_random_states, set_random_states

pytest.importorskip('mmdet')

from mmfmkt.engine.resume import latest_checkpoint  # noqa: E402


class Drawn(Dataset):
    """Samples that are an index and what three generators draw."""

    def __len__(self):
        return 11

    def __getitem__(self, index):
        return index, random.random(), np.random.rand(), torch.rand(()).item()


def seed_worker(worker_id):
    random.seed(worker_id)
    np.random.seed(worker_id)
    torch.manual_seed(worker_id)


def stream_of(num_workers, persistent):
    data = Drawn()
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
@pytest.mark.parametrize('end', [1, 4, 6, 8])
def test_resumed_batches_equal_those_of_an_uninterrupted_epoch(
    num_workers, persistent, end
):
    """Ended after some of two epochs of six batches, the rest is the same."""

    def epochs(stream, position=0):
        for epoch in range(position // 6, 2):
            stream.loader.batch_sampler.sampler.set_epoch(epoch)
            first = position - 6 * epoch
            yield from stream.read(max(first, 0))

    torch.manual_seed(0)
    seed_worker(99)
    whole = list(epochs(stream_of(num_workers, persistent)))
    assert len(whole) == 12 and whole[:6] != whole[6:]

    torch.manual_seed(0)
    seed_worker(99)
    stream = stream_of(num_workers, persistent)
    before = list(itertools.islice(epochs(stream), end))
    main, workers = (
        pack_states(get_random_states()),
        stream.worker_states(end % 6 == 0),
    )

    seed_worker(7)  # another process, in any state
    stream = stream_of(num_workers, persistent)
    stream.resume(main, workers)
    assert before + list(epochs(stream, end)) == whole


class EndAt(Hook):
    """Raises a signal, or dies, in an iteration."""

    priority = 'HIGHEST'

    def __init__(self, iteration, number=None):
        self.iteration, self.number = iteration, number

    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter == self.iteration:
            if self.number is None:
                raise InterruptedError
            os.kill(os.getpid(), self.number)


def runner_of(work_dir, *hooks, by_epoch=True, **kwargs):
    """Four images, one at a time, for three epochs."""
    torch.manual_seed(0)
    raw = batch(4)
    loop = (
        dict(type='mmfmkt.ResumableEpochLoop', max_epochs=3)
        if by_epoch
        else dict(type='mmfmkt.ResumableIterLoop', max_iters=12)
    )
    checkpoint = dict(
        type='mmfmkt.AtomicCheckpointHook',
        by_epoch=by_epoch,
        interval=1 if by_epoch else 4,
        max_keep_ckpts=1,
    )
    return Runner(
        model=distiller(flow=dict(num_steps=(1, 2), dirac_ratio=0.5)),
        work_dir=str(work_dir),
        train_dataloader=dict(
            batch_size=1,
            num_workers=1,
            sampler=dict(
                type='DefaultSampler' if by_epoch else 'InfiniteSampler',
                shuffle=True,
            ),
            dataset=[dict(zip(raw, values)) for values in zip(*raw.values())],
        ),
        train_cfg=loop,
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-3)),
        default_hooks=dict(checkpoint=checkpoint),
        custom_hooks=[*hooks, dict(type='mmfmkt.InterruptHook')],
        default_scope='mmdet',
        randomness=dict(seed=3),
        experiment_name=f'{work_dir}-{len(list(work_dir.iterdir()))}',
        **kwargs,
    )


def weights_of(runner):
    runner.train()
    return {k: x.clone() for k, x in runner.model.state_dict().items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    'iteration, number, by_epoch',
    [
        (6, None, True),
        (5, signal.SIGTERM, True),
        (7, signal.SIGINT, True),
        (5, signal.SIGTERM, False),
    ],
)
def test_resumed_runs_end_with_the_weights_of_an_uninterrupted_one(
    iteration, number, by_epoch, tmp_path
):
    calm, fire = tmp_path / 'calm', tmp_path / 'fire'
    calm.mkdir()
    fire.mkdir()
    expected = weights_of(runner_of(calm, by_epoch=by_epoch))
    handler = signal.getsignal(signal.SIGTERM)
    runner = runner_of(fire, EndAt(iteration, number), by_epoch=by_epoch)
    with pytest.raises(SystemExit if number else InterruptedError) as ended:
        runner.train()
    for hook in runner.hooks:
        if type(hook).__name__ == 'InterruptHook':
            hook.after_train(runner)  # as the end of a process would
    assert signal.getsignal(signal.SIGTERM) == handler
    path, loaded = latest_checkpoint(fire)
    if number:
        assert ended.value.code == 128 + number
        whole_epoch = by_epoch and iteration == 7
        assert loaded['meta']['iter'] == iteration + 1
        assert loaded['meta']['epoch'] == (
            0 if not by_epoch else 2 if whole_epoch else 1
        )
    found = weights_of(
        runner_of(fire, by_epoch=by_epoch, resume=True, load_from=path)
    )
    assert all(torch.equal(expected[k], found[k]) for k in expected)
    kept = {x.name for x in fire.glob('*.pth')}
    assert kept == {'epoch_3.pth' if by_epoch else 'iter_12.pth'}


@pytest.mark.slow
def test_resuming_with_another_teacher_is_an_error(tmp_path):
    with pytest.raises(SystemExit):
        runner_of(tmp_path, EndAt(9, signal.SIGTERM)).train()
    path, _ = latest_checkpoint(tmp_path)
    runner = runner_of(tmp_path, resume=True, load_from=path)
    next(runner.model.teacher.parameters()).data.add_(1e-3)
    with pytest.raises(ConfigError, match='differ from those of the teacher'):
        runner.train()


def saved(path, age):
    torch.save(
        dict(meta=dict(age=age), state_dict=dict(x=torch.ones(99))), path
    )
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


@pytest.mark.parametrize('damage', ['cut', 'flipped', 'empty', 'foreign'])
def test_a_damaged_checkpoint_is_skipped_when_resuming(damage, tmp_path):
    saved(tmp_path / 'epoch_1.pth', age=9)
    newest = saved(tmp_path / 'epoch_2.pth', age=5)
    saved(tmp_path / 'best_coco_epoch_2.pth', age=0)
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


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_random_states_of_a_gpu_are_skipped_without_a_gpu():
    states = get_random_states()
    drawn = torch.rand(3)
    cuda = torch.zeros(16, dtype=torch.uint8)
    set_random_states(unpack_states(pack_states({**states, 'cuda': cuda})))
    assert torch.equal(torch.rand(3), drawn)
