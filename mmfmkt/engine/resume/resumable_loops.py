"""MMEngine's training loops, which go on where a run was ended, exactly."""

from typing import Any, Iterator

from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from torch import nn

from mmfmkt.registry import LOOPS

from .batch_stream import BatchStream

ENDLESS = ('InfiniteSampler', 'MultiSourceSampler', 'GroupMultiSourceSampler')


@LOOPS.register_module()
class ResumableEpochLoop(EpochBasedTrainLoop):
    """EpochBasedTrainLoop, which also resumes in the middle of an epoch.

    Args:
        args: As EpochBasedTrainLoop.
        kwargs: As EpochBasedTrainLoop.

    Attributes:
        stream (BatchStream): Reads the batches.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stream = BatchStream(self.dataloader)

    def run_epoch(self) -> None:
        """Iterate one epoch, or what is left of it."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        first = self._iter - self._epoch * len(self.dataloader)
        if not 0 < first < len(self.dataloader):
            first = 0  # at the beginning, or of batches of another size
        for index, batch in enumerate(self.stream.read(first), first):
            self.run_iter(index, batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1


@LOOPS.register_module()
class ResumableIterLoop(IterBasedTrainLoop):
    """IterBasedTrainLoop, which skips what it has seen without loading it.

    Args:
        args: As IterBasedTrainLoop.
        kwargs: As IterBasedTrainLoop.

    Attributes:
        stream (BatchStream): Reads the batches.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # MMEngine's own, which may have started workers already.
        self.dataloader_iterator = self.dataloader._iterator = None
        self.stream = BatchStream(self.dataloader)

    def run(self) -> nn.Module:
        """Launch training."""
        runner = self.runner
        runner.call_hook('before_train')
        runner.call_hook('before_train_epoch')
        for batch in self._batches():
            if self._iter >= self._max_iters or self.stop_training:
                break
            runner.model.train()
            self.run_iter(batch)
            self._decide_current_val_interval()
            if (
                runner.val_loop is not None
                and self._iter >= self.val_begin
                and (
                    self._iter % self.val_interval == 0
                    or self._iter == self._max_iters
                )
            ):
                runner.val_loop.run()
        runner.call_hook('after_train_epoch')
        runner.call_hook('after_train')
        return runner.model

    def _batches(self) -> Iterator[Any]:
        """Batches from this iteration on, pass after pass without an end."""
        sampler = self.dataloader.batch_sampler.sampler
        first, epoch = self._iter, 0
        if type(sampler).__name__ not in ENDLESS:
            epoch, first = divmod(self._iter, len(self.dataloader))
        while True:
            if hasattr(sampler, 'set_epoch'):
                sampler.set_epoch(epoch)
            yield from self.stream.read(first)
            epoch, first = epoch + 1, 0
