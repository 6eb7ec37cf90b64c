"""Dataloader iteration that resumes at any batch with the same randomness."""

import os
import signal
import threading
from itertools import islice
from typing import Any, Callable, Dict, Iterator, NamedTuple, Optional

import torch
from torch.utils.data import DataLoader, Sampler, get_worker_info

from mmfmkt.utils.random_stream import get_random_states, set_random_states

from .random_states import pack_states, unpack_states


class BatchWithState(NamedTuple):
    """Batch and the random state of its worker after the batch.

    Attributes:
        batch (Any): Output of the loader's ``collate_fn``; None for an empty
            batch of `SkippingBatchSampler`.
        state (bytes): Packed random state; empty without workers.
    """

    batch: Any
    state: bytes


class StatefulCollate:
    """``collate_fn`` that also returns the worker's random state.

    Args:
        collate (Callable): The loader's ``collate_fn``.
    """

    def __init__(self, collate: Callable[[list], Any]) -> None:
        self.collate = collate

    def __call__(self, samples: list) -> BatchWithState:
        batch = self.collate(samples) if samples else None
        state = (
            b''
            if get_worker_info() is None
            else pack_states(get_random_states())
        )
        return BatchWithState(batch, state)


class WorkerInit:
    """``worker_init_fn`` that restores a worker's random state.

    Workers ignore SIGINT, and SIGTERM unless the main process sends it. After
    a signal to all processes, they deliver batches until the main process
    ends them.

    Args:
        worker_init_fn (Callable, optional): The loader's
            ``worker_init_fn``.
        states (dict[int, bytes]): Packed random states by worker index;
            other workers keep the random state that PyTorch sets.
    """

    def __init__(
        self,
        worker_init_fn: Optional[Callable[[int], None]],
        states: Dict[int, bytes],
    ) -> None:
        self.worker_init_fn, self.states = worker_init_fn, states

    def __call__(self, worker_id: int) -> None:
        ignore_worker_signals()
        if self.worker_init_fn is not None:
            self.worker_init_fn(worker_id)
        if worker_id in self.states:
            set_random_states(unpack_states(self.states[worker_id]))


def ignore_worker_signals() -> None:
    """Ignore SIGINT, and SIGTERM unless it comes from the parent process.

    Clusters send signals to all processes of a job, but the main process
    still needs the batches of its workers.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not hasattr(signal, 'sigwaitinfo'):
        return

    def exit_on_parent_signal() -> None:
        while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
            pass
        os._exit(0)

    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    threading.Thread(target=exit_on_parent_signal, daemon=True).start()


class SkippingBatchSampler:
    """Batch sampler that skips the first batches without loading them.

    The loader assigns batches to workers in turn. After a skip, empty batches
    come first, so that each worker gets the batches that it would have had in
    an uninterrupted epoch.

    Args:
        batch_sampler (Sampler): The loader's batch sampler.
        skip (int): Number of batches that the first iteration skips.
        num_workers (int): Number of workers, at least 1.
    """

    def __init__(
        self, batch_sampler: Sampler, skip: int, num_workers: int
    ) -> None:
        self.batch_sampler, self.skip = batch_sampler, skip
        self.num_workers = num_workers

    def __iter__(self) -> Iterator[list]:
        # With persistent workers, the loader keeps this sampler for the next
        # epochs, which skip nothing.
        skip, self.skip = self.skip, 0
        for _ in range(skip % self.num_workers):
            yield []
        yield from islice(self.batch_sampler, skip, None)


class StatefulLoader(DataLoader):
    """DataLoader whose persistent workers return their random states.

    Hooks may iterate over the loader: ``iter`` removes the states.
    """

    def __iter__(self) -> Iterator[Any]:
        return map(without_state, self.with_states())

    def with_states(self) -> Iterator[Any]:
        """Return an iterator over all outputs of ``collate_fn``."""
        return super().__iter__()


def without_state(batch: Any) -> Any:
    """Return the batch of a `BatchWithState`, and others unchanged."""
    return batch.batch if isinstance(batch, BatchWithState) else batch


class BatchStream:
    """Iteration over a dataloader that can resume within an epoch.

    Batch sampler, ``collate_fn`` and ``worker_init_fn`` of the loader are
    wrapped only while the stream creates an iterator. Other iterations over
    the loader therefore get ordinary batches.

    Args:
        loader (DataLoader): A loader that has not been iterated.

    Attributes:
        main_state (bytes): Packed random states of the main process, which
            the next :meth:`read` restores; if empty, it restores none.
        worker_states (dict[int, bytes]): Packed random state of each worker
            after its last used batch, by worker index.
    """

    def __init__(self, loader: DataLoader) -> None:
        loader.__class__ = type(
            'StatefulLoader', (StatefulLoader, type(loader)), {}
        )
        self.loader = loader
        self.main_state = b''
        self.worker_states: Dict[int, bytes] = {}

    def resume(self, main: bytes, workers: Dict[int, bytes]) -> None:
        """Set the random states with which the next :meth:`read` starts.

        Args:
            main (bytes): States of the main process; see :attr:`main_state`.
            workers (dict[int, bytes]): States by worker index.
        """
        self.main_state, self.worker_states = main, dict(workers)

    def read(self, first: int = 0) -> Iterator[Any]:
        """Yield the batches of an epoch.

        Args:
            first (int): Index of the first batch.
        """
        num_workers = max(self.loader.num_workers, 1)
        if not first:
            self._restore()
            if not self.loader.persistent_workers:
                # PyTorch sets the random states of the new workers.
                self.worker_states = {}
        # `iter` draws the workers' base seed from the random state of the
        # main process. A state from within an epoch was saved after this
        # draw, so it is restored after `iter`; a state from the start of an
        # epoch was saved before, so it is restored above.
        batches = self._create_iterator(first, num_workers)
        self._restore()
        # The first `first % num_workers` batches are empty.
        for index, batch in enumerate(batches, first - first % num_workers):
            if index < first:
                continue
            # Persistent workers that were started outside `read` have the
            # loader's own `collate_fn` and return no state.
            if isinstance(batch, BatchWithState):
                batch, state = batch
                if state:
                    self.worker_states[index % num_workers] = state
            yield batch

    def _create_iterator(self, first: int, num_workers: int) -> Iterator[Any]:
        """Create an iterator of the loader with the wrapped objects."""
        replaced: Dict[str, Any] = dict(
            collate_fn=StatefulCollate(self.loader.collate_fn),
            worker_init_fn=WorkerInit(
                self.loader.worker_init_fn, dict(self.worker_states)
            ),
        )
        if self.loader.persistent_workers and self.worker_states:
            # In an uninterrupted epoch, these workers exist already, and
            # nothing is drawn for them from the main process's states.
            replaced['generator'] = torch.Generator()
        if self.loader.batch_sampler is not None:
            replaced['batch_sampler'] = SkippingBatchSampler(
                self.loader.batch_sampler, first, num_workers
            )
        # DataLoader.__setattr__ refuses to replace the batch sampler.
        attributes = vars(self.loader)
        original = {name: attributes[name] for name in replaced}
        attributes.update(replaced)
        try:
            return self.loader.with_states()
        finally:
            attributes.update(original)

    def _restore(self) -> None:
        """Restore and clear the random states of the main process."""
        if self.main_state:
            set_random_states(unpack_states(self.main_state))
            self.main_state = b''
