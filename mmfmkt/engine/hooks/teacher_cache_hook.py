"""What the cache of a teacher's outputs will take, and what it saves."""

import shutil
from typing import Any, Iterator, Optional

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmfmkt.datasets.transforms import RecordedViews
from mmfmkt.models.distillers.teacher_cache import GIGABYTE, TeacherCache
from mmfmkt.registry import HOOKS
from mmfmkt.utils import ConfigError

from .progress import unwrapped


@HOOKS.register_module()
class TeacherCacheHook(Hook):
    """Estimates the size of ``model.teacher.cache``, and counts its hits.

    It does nothing where no cache is configured.
    """

    priority = 'LOWEST'

    def before_train(self, runner: Runner) -> None:
        """Estimate again in each training."""
        self._estimated = False

    def after_train_iter(self, runner: Runner, *args: Any, **kw: Any) -> None:
        """Log how large the file will get, behind the first batch.

        Raises:
            ConfigError: If the disk is too small for it.
        """
        cache = cache_of(runner)
        if self._estimated or cache is None or not cache.entry_bytes:
            return
        self._estimated = True
        images = len(runner.train_dataloader.dataset)
        views = views_of(runner.train_dataloader.dataset)
        size = cache.entry_bytes / GIGABYTE
        said = f'{size * 1e3:.3g} MB a view, {images} images'
        wanted = size * images * (views or 1)
        if views is None:
            said += (
                f': {wanted:.3g} GB for each view that flips and crops make '
                'of an image; mmfmkt.RecordedViews limits their number'
            )
        else:
            said += f' in {views} views: {wanted:.3g} GB'
        free = shutil.disk_usage(cache.path.parent).free / GIGABYTE
        here = cache.bytes_on_disk / GIGABYTE
        runner.logger.info(
            f'The cache of the teacher, {cache.path}: {said}; {here:.3g} GB '
            f'are there, at most {cache.max_gb:g} are kept, and the disk has '
            f'room for {free:.3g}.'
        )
        if min(wanted, cache.max_gb) - here > free:
            raise ConfigError(
                f'model.teacher.cache: the disk of {str(cache.path)!r} has '
                f'room for {free:.3g} GB, and the outputs take {wanted:.3g}: '
                'name a file on another, give max_gb, or leave the cache out.'
            )

    def after_train_epoch(self, runner: Runner) -> None:
        """Say how much of the epoch was found."""
        cache = cache_of(runner)
        if cache is not None and cache.lookups:
            runner.logger.info(
                f'The cache of the teacher had {cache.hits} of the '
                f'{cache.lookups} views of this epoch.'
            )
            cache.hits = cache.lookups = 0


def cache_of(runner: Runner) -> Optional[TeacherCache]:
    """The cache of what a runner trains, if it has one."""
    holder = getattr(unwrapped(runner.model), 'teacher_holder', None)
    return holder and holder.cache


def views_of(dataset: Any) -> Optional[int]:
    """In how many views a data set shows an image; None: nobody says."""
    return next((x.views for x in recorded(dataset)), None)


def recorded(dataset: Any) -> Iterator[RecordedViews]:
    """The RecordedViews in a data set, and in those that it wraps."""
    for transform in getattr(
        getattr(dataset, 'pipeline', None), 'transforms', ()
    ):
        if isinstance(transform, RecordedViews):
            yield transform
    for inner in getattr(dataset, 'datasets', None) or (
        getattr(dataset, 'dataset', None),
    ):
        if inner is not None:
            yield from recorded(inner)
