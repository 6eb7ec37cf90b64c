"""MMEngine's training loops, resumed exactly where a run was interrupted."""

from typing import Any, Iterator, Union

from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch import nn
from torch.utils.data import DataLoader

from mmfmkt.registry import LOOPS

from .batch_stream import BatchStream

ENDLESS = ('InfiniteSampler', 'MultiSourceSampler', 'GroupMultiSourceSampler')


@LOOPS.register_module()
class ResumableEpochLoop(EpochBasedTrainLoop):
    """EpochBasedTrainLoop that also resumes within an epoch.

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


class Unstarted:
    """Stands for a loader while MMEngine 0.10 makes an iterator of it.

    Args:
        dataset (Any): Of the loader.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __iter__(self) -> Iterator[Any]:
        return iter(())


@LOOPS.register_module()
class ResumableIterLoop(IterBasedTrainLoop):
    """IterBasedTrainLoop that resumes without loading the batches before.

    Args:
        runner (Runner): The runner of the training process.
        dataloader (DataLoader | dict): The loader, or its config.
        args: As IterBasedTrainLoop.
        kwargs: As IterBasedTrainLoop.

    Attributes:
        stream (BatchStream): Reads the batches.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: Union[DataLoader, dict],
        *args: Any,
        **kwargs: Any,
    ) -> None:
        # This loop builds the loader as MMEngine does and starts no worker.
        loader = EpochBasedTrainLoop(runner, dataloader, 1).dataloader
        unstarted = Unstarted(loader.dataset)
        super().__init__(runner, unstarted, *args, **kwargs)
        self.dataloader = loader
        self.stream = BatchStream(loader)

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
