"""MMEngine's training loops with exact resume."""

from typing import Any, Iterator, Union

from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch import nn
from torch.utils.data import DataLoader

from mmfmkt.registry import LOOPS

from ..hooks.progress import get_progress
from .batch_stream import BatchStream

# Endless samplers, which are iterated once for the whole training.
INFINITE_SAMPLERS = (
    'InfiniteSampler',
    'MultiSourceSampler',
    'GroupMultiSourceSampler',
)


@LOOPS.register_module()
class ResumableEpochLoop(EpochBasedTrainLoop):
    """EpochBasedTrainLoop that can resume within an epoch.

    Args:
        kwargs: Arguments of EpochBasedTrainLoop.

    Attributes:
        stream (BatchStream): Iteration over the dataloader.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stream = BatchStream(self.dataloader)

    def run_epoch(self) -> None:
        """Run the remaining iterations of the epoch."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        first = self._iter - self._epoch * len(self.dataloader)
        # The position is valid in an exact resume only: the interrupted run
        # may have had another number of batches in each epoch. An epoch
        # without remaining batches has to be ended.
        if not (self.stream.main_state and 0 < first <= len(self.dataloader)):
            first = 0
        for index, batch in enumerate(self.stream.read(first), first):
            self.run_iter(index, batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1


class EmptyLoader:
    """Dataloader without batches.

    IterBasedTrainLoop of MMEngine 0.10 creates an iterator of its dataloader
    when it is built. That would start the workers of a real dataloader.

    Args:
        dataset (Any): Dataset of the loader.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __iter__(self) -> Iterator[Any]:
        return iter(())


@LOOPS.register_module()
class ResumableIterLoop(IterBasedTrainLoop):
    """IterBasedTrainLoop that resumes without loading previous batches.

    Args:
        runner (Runner): The runner of the training process.
        dataloader (DataLoader | dict): The dataloader, or its config.
        kwargs: Other arguments of IterBasedTrainLoop.

    Attributes:
        stream (BatchStream): Iteration over the dataloader.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: Union[DataLoader, dict],
        **kwargs: Any,
    ) -> None:
        # EpochBasedTrainLoop builds the loader without an iterator.
        loader = EpochBasedTrainLoop(runner, dataloader, 1).dataloader
        super().__init__(runner, EmptyLoader(loader.dataset), **kwargs)
        self.dataloader = loader
        self.stream = BatchStream(loader)

    def run(self) -> nn.Module:
        """Run the training and return the model."""
        runner = self.runner
        runner.call_hook('before_train')
        runner.call_hook('before_train_epoch')
        batches = self._batches()
        while self._iter < self._max_iters and not self.stop_training:
            batch = next(batches)
            runner.model.train()
            # MMEngine counts one epoch in total.
            epoch = int(get_progress(runner, by_epoch=True))
            runner.message_hub.update_info('data_epoch', epoch, resumed=False)
            self.run_iter(batch)
            self._decide_current_val_interval()
            if self.is_val_due(self._iter):
                runner.val_loop.run()
        runner.call_hook('after_train_epoch')
        runner.call_hook('after_train')
        return runner.model

    def is_val_due(self, iteration: int) -> bool:
        """Return whether validation follows after a number of iterations."""
        return (
            self.runner.val_loop is not None
            and iteration >= self.val_begin
            and (
                iteration % self.val_interval == 0
                or iteration == self._max_iters
            )
        )

    def _batches(self) -> Iterator[Any]:
        """Yield batches from the current iteration on, endlessly."""
        sampler = self.dataloader.batch_sampler.sampler
        first, epoch = self._iter, 0
        if type(sampler).__name__ not in INFINITE_SAMPLERS:
            epoch, first = divmod(self._iter, len(self.dataloader))
        while True:
            if hasattr(sampler, 'set_epoch'):
                sampler.set_epoch(epoch)
            yield from self.stream.read(first)
            epoch, first = epoch + 1, 0
