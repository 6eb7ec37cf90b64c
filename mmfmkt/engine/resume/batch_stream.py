"""The batches of a loader, from any of them on, drawn as if never stopped."""

import os
import signal
import threading
from typing import Any, Callable, Dict, Iterator, NamedTuple, Optional

from torch.utils.data import DataLoader, Sampler, get_worker_info

from mmfmkt.utils.random_stream import read_states, write_states

from .random_states import pack_states, unpack_states


class Stamped(NamedTuple):
    """A batch, and the random state that its worker was left in.

    Attributes:
        batch (Any): What the loader's own ``collate_fn`` made, None where
            there was nothing to load.
        state (bytes): Packed; empty where the main process loads.
    """

    batch: Any
    state: bytes


class Stamping:
    """A ``collate_fn`` that says in what state it leaves the worker.

    Args:
        collate (Callable): The loader's own.
    """

    def __init__(self, collate: Callable[[list], Any]) -> None:
        self.collate = collate

    def __call__(self, samples: list) -> Stamped:
        batch = self.collate(samples) if samples else None
        state = (
            b'' if get_worker_info() is None else pack_states(read_states())
        )
        return Stamped(batch, state)


class WorkerStart:
    """A ``worker_init_fn`` that may start a worker in the middle of its work.

    Workers leave signals that end a training to the main process, which ends
    them in turn when it has done its iteration.

    Args:
        own (Callable, optional): The loader's own.

    Attributes:
        states (dict[int, bytes]): Packed random states of workers.
    """

    def __init__(self, own: Optional[Callable[[int], None]]) -> None:
        self.own = own
        self.states: Dict[int, bytes] = {}

    def __call__(self, worker_id: int) -> None:
        obey_parent_alone()
        if self.own is not None:
            self.own(worker_id)
        if worker_id in self.states:
            write_states(unpack_states(self.states[worker_id]))


def obey_parent_alone() -> None:
    """Ignore signals in a worker, but for the parent's that it is to end.

    Clusters send theirs to all processes of a job.
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


class Skipping(Sampler):
    """A batch sampler, less what was seen before; else just as it was.

    What it leaves out is not loaded. So that each worker still gets its own
    batches, they begin with one that is empty for each worker whose turn is
    over.

    Args:
        own (Sampler): The loader's own batch sampler.
        num_workers (int): The loader's.

    Attributes:
        skip (int): How many batches the next pass leaves out.
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
    """The batches of a loader, which can go on in the middle of an epoch.

    Others that iterate over the loader get its own batches: ``collate_fn`` is
    wrapped while a pass of this stream begins, ``worker_init_fn`` and
    ``batch_sampler`` all the time. (Workers that persist keep the wrapped
    one.)

    Args:
        loader (DataLoader): The loader, which nobody has iterated yet.

    Attributes:
        main (bytes): Packed random states in which the main process is to
            go on; empty: in its own.
    """

    def __init__(self, loader: DataLoader) -> None:
        self.loader = loader
        self.main = b''
        self._workers: Dict[int, bytes] = {}
        self._start = WorkerStart(loader.worker_init_fn)
        loader.worker_init_fn = self._start
        if loader.batch_sampler is not None:
            # A loader lets nobody set its batch sampler.
            vars(loader)['batch_sampler'] = Skipping(
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
        loader.collate_fn = Stamping(collate)
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
            if isinstance(batch, Stamped):
                batch, state = batch
                if state:
                    self._workers[index % count] = state
            yield batch

    def _restore(self) -> None:
        if self.main:
            write_states(unpack_states(self.main))
            self.main = b''
