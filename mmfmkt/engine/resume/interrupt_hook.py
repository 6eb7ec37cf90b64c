"""Checkpoint and exit on SIGTERM or SIGINT."""

import os
import signal
import sys
import threading
import time
from functools import partial
from typing import Any, Optional

import torch
import torch.distributed as dist
from mmengine.dist import barrier, is_distributed
from mmengine.hooks import EMAHook, Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from mmfmkt.registry import HOOKS

from ..hooks.progress import get_optim_wrappers
from .atomic_checkpoint_hook import AtomicCheckpointHook
from .batch_stream import WorkerInit

SIGNALS = (signal.SIGTERM, signal.SIGINT)
# A launcher may forward a signal that its processes received themselves.
REPEAT_SECONDS = 2


@HOOKS.register_module()
class InterruptHook(Hook):
    """Saves a checkpoint and exits after the iteration of a signal.

    Clusters preempt jobs with SIGTERM; Ctrl-C sends SIGINT. A second signal,
    two seconds later or more, ends the run immediately. In distributed
    training, the processes exchange the received signals by an asynchronous
    all-reduce, which starts in one iteration and is read in the next, so no
    process waits for another. The exit code is 128 plus the signal number.
    Forked processes, such as dataloader workers, restore the previous signal
    handlers.
    """

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.received_signal = self._agreed_signal = 0
        self._previous_handlers: dict = {}
        self._group: Optional[dist.ProcessGroup] = None
        # All-reduce of the last iteration, and its tensor.
        self._pending: Optional[tuple] = None

    def before_train(self, runner: Runner) -> None:
        """Set the signal handlers if the loop can resume at any iteration."""
        is_main = threading.current_thread() is threading.main_thread()
        if not is_main or not hasattr(runner.train_loop, 'stream'):
            return
        if is_distributed():
            self._group = dist.new_group(backend='gloo')
        for number in SIGNALS:
            previous = signal.signal(number, self._receive)
            self._previous_handlers[number] = previous or signal.SIG_DFL
        # A forked process that waits for a lock runs no Python handler, so it
        # could not be ended. The callback refers to the handlers only: a
        # reference to the hook would keep the threads of its process group.
        if hasattr(os, 'register_at_fork'):  # not on Windows
            reset = partial(restore_handlers, self._previous_handlers)
            os.register_at_fork(after_in_child=reset)
        if runner.val_loop is not None:
            loader = runner.val_loop.dataloader
            if isinstance(loader, DataLoader):
                # The signal may reach the workers, too.
                loader.worker_init_fn = WorkerInit(loader.worker_init_fn, {})

    def after_train_iter(
        self, runner: Runner, batch_idx: int, *args: Any, **kwargs: Any
    ) -> None:
        """Exit after a signal; at epoch ends, or before validation, later."""
        self._synchronize()
        if not self._agreed_signal:
            return
        loop = runner.train_loop
        if (
            not loop.is_val_due(runner.iter + 1)
            if isinstance(loop, IterBasedTrainLoop)
            else batch_idx + 1 < len(loop.dataloader)
        ):
            self._save_and_exit(runner, runner.iter + 1)

    def before_train_epoch(self, runner: Runner) -> None:
        """Exit after a signal in the last iteration of an epoch."""
        self._save_and_exit(runner, runner.iter)

    before_val = before_train_epoch

    def after_val_iter(
        self, runner: Runner, *args: Any, **kwargs: Any
    ) -> None:
        """Exit after a signal in validation, if there is one process.

        MMPretrain's EMAHook may validate a second time, with the original
        weights. Which weights the model has is then unknown, so the run exits
        after the validation.
        """
        validates_twice = any(
            getattr(hook, 'evaluate_on_origin', False) for hook in runner.hooks
        )
        if self._group is None and not validates_twice:
            self._synchronize()
            self._save_and_exit(runner, runner.iter, in_validation=True)

    def after_train(self, runner: Runner) -> None:
        """Restore the previous signal handlers."""
        restore_handlers(self._previous_handlers)

    def _receive(self, number: int, frame: Any) -> None:
        """Record a signal, and let a second one end the process."""
        if not self.received_signal:
            self.received_signal, self._receive_time = number, time.monotonic()
            os.write(
                sys.stderr.fileno(),
                b'Saving a checkpoint after this iteration; a second signal, '
                b'2 seconds later or more, ends the run immediately.\n',
            )
        elif time.monotonic() - self._receive_time > REPEAT_SECONDS:
            restore_handlers(self._previous_handlers)
            signal.raise_signal(number)

    def _synchronize(self) -> None:
        """Set the agreed signal: the highest one that any process received."""
        if self._group is None:
            self._agreed_signal = self.received_signal
            return
        if self._pending is not None:
            work, number = self._pending
            work.wait()
            self._agreed_signal = int(number)
        number = torch.tensor(self.received_signal)
        work = dist.all_reduce(
            number, dist.ReduceOp.MAX, group=self._group, async_op=True
        )
        self._pending = work, number

    def _save_and_exit(
        self, runner: Runner, iteration: int, in_validation: bool = False
    ) -> None:
        """Save and exit after a signal, unless gradients are accumulated."""
        if not self._agreed_signal or not all(
            x.should_update()
            for x in get_optim_wrappers(runner)
            if isinstance(x, OptimWrapper)
        ):
            return
        meta = dict(epoch=runner.epoch, iter=iteration)
        path = 'none, since there is no AtomicCheckpointHook'
        for hook in runner.hooks:
            if isinstance(hook, EMAHook) and in_validation:
                # Validation runs with the averaged weights in the model.
                hook.after_val_epoch(runner)
            if isinstance(hook, AtomicCheckpointHook):
                path = hook.save_interrupted(runner, meta)
        runner.logger.info(
            f'Interrupted by {signal.Signals(self._agreed_signal).name} in '
            f'iteration {iteration}; checkpoint: {path}. Continue with '
            '--resume.'
        )
        # Rank 0 saves; a launcher ends all ranks when one has exited.
        barrier(self._group)
        sys.exit(128 + self._agreed_signal)


def restore_handlers(handlers: dict) -> None:
    """Set signal handlers.

    Args:
        handlers (dict): Handlers by signal; the dict is emptied.
    """
    while handlers:
        signal.signal(*handlers.popitem())
