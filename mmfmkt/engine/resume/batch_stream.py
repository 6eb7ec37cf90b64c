"""Batches of a loader, resumed from any one with the same random numbers."""

import os
import signal
import threading
from typing import Any, Callable, Dict, Iterator, NamedTuple, Optional

from torch.utils.data import DataLoader, Sampler, get_worker_info

from mmfmkt.utils.random_stream import get_random_states, set_random_states

from .random_states import pack_states, unpack_states


class BatchWithState(NamedTuple):
    """A batch and the random state of its worker behind it.

    Attributes:
        batch (Any): From the loader's own ``collate_fn``; None for an empty
            batch.
        state (bytes): Packed; empty where the main process loads.
    """

    batch: Any
    state: bytes


class StatefulCollate:
    """A ``collate_fn`` that also returns the worker's random state.

    Args:
        collate (Callable): The loader's own.
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
    """A ``worker_init_fn`` that restores a worker's random state.

    Workers ignore the signals that end a training: the main process ends
    them after its iteration.

    Args:
        own (Callable, optional): The loader's own.

    Attributes:
        states (dict[int, bytes]): Packed random states of workers.
    """

    def __init__(self, own: Optional[Callable[[int], None]]) -> None:
        self.own = own
        self.states: Dict[int, bytes] = {}

    def __call__(self, worker_id: int) -> None:
        ignore_worker_signals()
        if self.own is not None:
            self.own(worker_id)
        if worker_id in self.states:
            set_random_states(unpack_states(self.states[worker_id]))


def ignore_worker_signals() -> None:
    """Ignore SIGINT, and SIGTERM from others than the parent, in a worker.

    Clusters send signals to all processes of a job.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not hasattr(signal, 'sigwaitinfo'):
        return

    def wait() -> None:
        while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
            pass
        os._exit(0)

    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    threading.Thread(target=wait, daemon=True).start()


class ResumeBatchSampler(Sampler):
    """A batch sampler that can skip the first batches, which are not loaded.

    A pass that skips begins with empty batches, one for each worker that is
    past its turn, so that each worker gets the batches it would have had.

    Args:
        own (Sampler): The loader's own batch sampler.
        num_workers (int): The loader's.

    Attributes:
        skip (int): Number of batches that the next pass skips.
    """

    def __init__(self, own: Sampler, num_workers: int) -> None:
        self.own, self.num_workers, self.skip = own, num_workers, 0

    def __len__(self) -> int:
        return len(self.own)

    def __iter__(self) -> Iterator[list]:
        skip, self.skip = self.skip, 0
        for _ in range(skip % self.num_workers if self.num_workers else 0):
            yield []
        for index, batch in enumerate(self.own):
            if index >= skip:
                yield batch

    def __getattr__(self, name: str) -> Any:
        if name == 'own':  # while it is being unpickled
            raise AttributeError(name)
        return getattr(self.own, name)


class BatchStream:
    """Batches of a loader, which can be resumed within an epoch.

    Other iterations over the loader get its own batches: ``collate_fn`` is
    wrapped while a pass of this stream begins, ``worker_init_fn`` and
    ``batch_sampler`` all the time. (Persistent workers keep the wrapped one.)

    Args:
        loader (DataLoader): The loader, not yet iterated.

    Attributes:
        main (bytes): Packed random states that the main process restores;
            empty: it keeps its own.
    """

    def __init__(self, loader: DataLoader) -> None:
        self.loader = loader
        self.main = b''
        self._workers: Dict[int, bytes] = {}
        self._start = WorkerInit(loader.worker_init_fn)
        loader.worker_init_fn = self._start
        if loader.batch_sampler is not None:
            # A loader lets nobody set its batch sampler.
            vars(loader)['batch_sampler'] = ResumeBatchSampler(
                loader.batch_sampler, loader.num_workers
            )

    def workers(self, at_end: bool) -> Dict[int, bytes]:
        """Random states of the workers behind the last batch that was read.

        Args:
            at_end (bool): Whether an epoch ends here, and with it workers
                that do not persist.
        """
        if at_end and not self.loader.persistent_workers:
            return {}
        return dict(self._workers)

    def resume(self, main: bytes, workers: Dict[int, bytes]) -> None:
        """Have the next pass go on in these states.

        Args:
            main (bytes): Of the main process; see :attr:`main`.
            workers (dict[int, bytes]): Of the workers.
        """
        self.main, self._start.states = main, dict(workers)
        self._workers = dict(workers)

    def read(self, first: int = 0) -> Iterator[Any]:
        """Read an epoch.

        Args:
            first (int): The batch to begin with.
        """
        loader, count = self.loader, max(self.loader.num_workers, 1)
        if first:
            loader.batch_sampler.skip = first
        else:
            self._restore()
        collate = loader.collate_fn
        loader.collate_fn = StatefulCollate(collate)
        try:
            # Draws a number of the main process, as it has in this pass.
            batches = iter(loader)
        finally:
            loader.collate_fn = collate
        self._start.states = {}
        self._restore()
        if not (loader.persistent_workers or first):
            self._workers = {}
        for index, batch in enumerate(batches, first - first % count):
            if index < first:
                continue
            # Persistent workers that another iteration started add no state.
            if isinstance(batch, BatchWithState):
                batch, state = batch
                if state:
                    self._workers[index % count] = state
            yield batch

    def _restore(self) -> None:
        if self.main:
            set_random_states(unpack_states(self.main))
            self.main = b''
