"""Short runs of a distiller that are interrupted and resumed."""

import os

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from tiny import batch, distiller


class InterruptAt(Hook):
    """Sends a signal, or raises an error, in a training iteration."""

    priority = 'HIGHEST'

    def __init__(self, iteration, signal_number=None):
        self.iteration, self.signal_number = iteration, signal_number

    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter == self.iteration:
            if self.signal_number is None:
                raise InterruptedError
            os.kill(os.getpid(), self.signal_number)


def build_runner(work_dir, *hooks, by_epoch=True, checkpoint=None, **kwargs):
    """Build a runner of three epochs with four images, one per batch."""
    torch.manual_seed(0)
    raw_batch = kwargs.pop('raw_batch', None) or batch(4)
    model = kwargs.pop('model', None) or distiller(
        flow=dict(num_steps=(1, 2), dirac_ratio=0.5)
    )
    loop = (
        dict(type='mmfmkt.ResumableEpochLoop', max_epochs=3)
        if by_epoch
        else dict(type='mmfmkt.ResumableIterLoop', max_iters=12)
    )
    checkpoint = checkpoint or dict(
        type='mmfmkt.AtomicCheckpointHook',
        by_epoch=by_epoch,
        interval=1 if by_epoch else 4,
        max_keep_ckpts=1,
    )
    return Runner(
        model=model,
        work_dir=str(work_dir),
        train_dataloader=dict(
            batch_size=kwargs.pop('batch_size', 1),
            num_workers=kwargs.pop('num_workers', 1),
            sampler=dict(
                type='DefaultSampler' if by_epoch else 'InfiniteSampler',
                shuffle=True,
            ),
            dataset=[
                dict(zip(raw_batch, values))
                for values in zip(*raw_batch.values())
            ],
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
