"""A run that is told to end does so with a checkpoint."""

import os
import signal
import sys
import threading
from functools import partial
from typing import Any, Optional

import torch
import torch.distributed as dist
from mmengine.dist import is_distributed
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmfmkt.registry import HOOKS

from .atomic_checkpoint_hook import AtomicCheckpointHook

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@HOOKS.register_module()
class InterruptHook(Hook):
    """On SIGTERM or SIGINT ends a run after its iteration, with a checkpoint.

    Clusters pre-empt by SIGTERM, a person by Ctrl-C; a second signal ends
    the run at once. Of several processes it is enough that one gets the
    signal: they agree on the iteration by a message of their own, which is
    sent in one iteration and read in the next, so that nobody waits for it.
    The run ends with the exit code 128 and the signal's number. Processes
    that this one forks (pools of evaluators, say) keep the handlers that
    were there before.
    """

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.received = self._agreed = 0
        self._previous: dict = {}
        self._group: Optional[dist.ProcessGroup] = None
        self._message: Optional[tuple] = None

    def before_train(self, runner: Runner) -> None:
        """Listen for the signals, where the loop can go on from anywhere."""
        alone = threading.current_thread() is threading.main_thread()
        if not alone or not hasattr(runner.train_loop, 'stream'):
            return
        if is_distributed():
            self._group = dist.new_group(backend='gloo')
        for number in SIGNALS:
            before = signal.signal(number, self._receive)
            self._previous[number] = before or signal.SIG_DFL
        # A handler of Python would not end a process that waits for a lock.
        # Nothing is held but the handlers: Gloo's threads end with the group.
        os.register_at_fork(after_in_child=partial(restore, self._previous))

    def after_train_iter(
        self, runner: Runner, batch_idx: int, *args: Any, **kwargs: Any
    ) -> None:
        """End where an epoch does not; see `after_train_epoch`."""
        by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
        self._agree()
        if by_epoch and batch_idx + 1 == len(runner.train_dataloader):
            return
        self._end(runner, dict(epoch=runner.epoch, iter=runner.iter + 1))

    def after_train_epoch(self, runner: Runner) -> None:
        """End at the end of an epoch."""
        self._end(runner, dict(epoch=runner.epoch + 1, iter=runner.iter))

    def after_val_iter(
        self, runner: Runner, *args: Any, **kwargs: Any
    ) -> None:
        """End a validation of one process, of which nothing is kept."""
        if self._group is None:
            self._agree()
            self._end(runner, dict(epoch=runner.epoch, iter=runner.iter))

    def after_train(self, runner: Runner) -> None:
        """Leave the signals to those who had them."""
        restore(self._previous)

    def _receive(self, number: int, frame: Any) -> None:
        self.received = number
        signal.signal(number, self._previous[number])
        os.write(
            sys.stderr.fileno(),
            b'The run ends after this iteration, with a checkpoint; a second '
            b'signal ends it at once.\n',
        )

    def _agree(self) -> None:
        """Learn of the signal that any process had got an iteration ago."""
        if self._group is None:
            self._agreed = self.received
            return
        if self._message is not None:
            work, number = self._message
            work.wait()
            self._agreed = int(number)
        mine = torch.tensor(self.received)
        work = dist.all_reduce(
            mine, dist.ReduceOp.MAX, group=self._group, async_op=True
        )
        self._message = work, mine

    def _end(self, runner: Runner, meta: dict) -> None:
        if not self._agreed:
            return
        where = 'no checkpoint, since the config wants none'
        for hook in runner.hooks:
            if isinstance(hook, AtomicCheckpointHook):
                where = hook.save_interrupted(runner, meta)
        runner.logger.info(
            f'Ended by {signal.Signals(self._agreed).name} in iteration '
            f'{meta["iter"]}: {where}; --resume goes on from there.'
        )
        sys.exit(128 + self._agreed)


def restore(handlers: dict) -> None:
    """Set signal handlers, and forget them.

    Args:
        handlers (dict): Handlers by signal; it is emptied.
    """
    while handlers:
        signal.signal(*handlers.popitem())
