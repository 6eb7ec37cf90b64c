"""Log of the size and hit rate of the teacher cache."""

import shutil
from typing import Any, Optional

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmfmkt.models.distillers.teacher_cache import GIGABYTE, TeacherCache
from mmfmkt.registry import HOOKS

from .progress import unwrap_model


@HOOKS.register_module()
class TeacherCacheHook(Hook):
    """Logs the expected size and the hit rate of ``model.teacher.cache``.

    It has no effect without a cache.
    """

    priority = 'LOWEST'

    def before_train(self, runner: Runner) -> None:
        """Request a log of the size in the first iteration."""
        self._size_logged = False

    def after_train_iter(self, runner: Runner, *args: Any, **kw: Any) -> None:
        """Log the expected size of the cache after the first batch."""
        cache = cache_of(runner)
        if self._size_logged or cache is None or not cache.entry_bytes:
            return
        self._size_logged = True
        images = len(runner.train_dataloader.dataset)
        view_size = cache.entry_bytes / GIGABYTE
        free = shutil.disk_usage(cache.path.parent).free / GIGABYTE
        written = cache.bytes_on_disk / GIGABYTE
        runner.logger.info(
            f'Teacher cache {cache.path}: {view_size * 1e3:.3g} MB per view, '
            f'{view_size * images:.3g} GB for one augmented view of each '
            f'of {images} images. Written: {written:.3g} GB, max_gb: '
            f'{cache.max_gb:g} GB, free on disk: {free:.3g} GB.'
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
