"""Log of the size and hit rate of the teacher cache."""

import shutil
from typing import Any, Optional

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmfmkt.datasets.transforms import RecordedViews
from mmfmkt.models.distillers.teacher_cache import GIGABYTE, TeacherCache
from mmfmkt.registry import HOOKS
from mmfmkt.utils import ConfigError

from .progress import unwrap_model


@HOOKS.register_module()
class TeacherCacheHook(Hook):
    """Logs the estimated size and the hit rate of ``model.teacher.cache``.

    It has no effect without a cache.
    """

    priority = 'LOWEST'

    def before_train(self, runner: Runner) -> None:
        """Let the next iteration log the size."""
        self._size_logged = False

    def after_train_iter(self, runner: Runner, *args: Any, **kw: Any) -> None:
        """Log the estimated size of the cache after the first batch.

        Raises:
            ConfigError: If the disk has too little free space.
        """
        cache = cache_of(runner)
        if self._size_logged or cache is None or not cache.entry_bytes:
            return
        self._size_logged = True
        dataset = runner.train_dataloader.dataset
        views = views_of(dataset)
        size = cache.entry_bytes / GIGABYTE
        total = size * len(dataset) * (views or 1)
        estimate = (
            f'{total:.3g} GB: {views} augmented views of each of '
            f'{len(dataset)} images'
            if views
            else f'at least {total:.3g} GB: one augmented view of each of '
            f'{len(dataset)} images. The number of views is not limited; '
            'mmfmkt.RecordedViews limits it'
        )
        free = shutil.disk_usage(cache.path.parent).free / GIGABYTE
        written = cache.bytes_on_disk / GIGABYTE
        runner.logger.info(
            f'Teacher cache {cache.path}: {size * 1e3:.3g} MB per view, '
            f'{estimate}. Written: {written:.3g} GB, max_gb: '
            f'{cache.max_gb:g} GB, free on disk: {free:.3g} GB.'
        )
        if min(total, cache.max_gb) - written > free:
            raise ConfigError(
                f'model.teacher.cache: {str(cache.path)!r} needs {total:.3g} '
                f'GB, but the disk has {free:.3g} GB free. Use another path, '
                'lower max_gb to fit, or remove model.teacher.cache from the '
                'config.'
            )

    def after_train_epoch(self, runner: Runner) -> None:
        """Log the cache hits of the epoch."""
        cache = cache_of(runner)
        if cache is not None and cache.lookups:
            runner.logger.info(
                f'Teacher cache: {cache.hits} hits in {cache.lookups} lookups '
                'of this epoch.'
            )
            cache.hits = cache.lookups = 0


def cache_of(runner: Runner) -> Optional[TeacherCache]:
    """Return the model's teacher cache, or None."""
    holder = getattr(unwrap_model(runner.model), 'teacher_holder', None)
    return holder and holder.cache


def views_of(dataset: Any) -> Optional[int]:
    """Return `RecordedViews.views` of a dataset, or None."""
    pipeline = getattr(dataset, 'pipeline', None)
    for transform in getattr(pipeline, 'transforms', ()):
        if isinstance(transform, RecordedViews):
            return transform.views
    inner = [getattr(dataset, 'dataset', None)]
    for wrapped in getattr(dataset, 'datasets', inner):
        if wrapped is not None and (views := views_of(wrapped)):
            return views
    return None
