"""Size and hits of the cache of teacher outputs."""

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
    """Logs the estimated size of ``model.teacher.cache``, and its hits.

    Without a cache it does nothing.
    """

    priority = 'LOWEST'

    def before_train(self, runner: Runner) -> None:
        """Estimate again in each training."""
        self._estimated = False

    def after_train_iter(self, runner: Runner, *args: Any, **kw: Any) -> None:
        """Log how large the file will get, after the first batch.

        Raises:
            ConfigError: If the disk is too small for it.
        """
        cache = cache_of(runner)
        if self._estimated or cache is None or not cache.entry_bytes:
            return
        self._estimated = True
        dataset = runner.train_dataloader.dataset
        views = views_of(dataset)
        size = cache.entry_bytes / GIGABYTE
        total = size * len(dataset) * (views or 1)
        count = (
            f' in {views} views'
            if views
            else (
                ', for each view that flips and crops draw of an image '
                '(mmfmkt.RecordedViews limits their number)'
            )
        )
        free = shutil.disk_usage(cache.path.parent).free / GIGABYTE
        written = cache.bytes_on_disk / GIGABYTE
        runner.logger.info(
            f'The cache of the teacher, {cache.path}: {size * 1e3:.3g} MB a '
            f'view, {total:.3g} GB of {len(dataset)} images{count}; '
            f'{written:.3g} GB are written, at most {cache.max_gb:g} are '
            f'kept, and the disk has room for {free:.3g}.'
        )
        if min(total, cache.max_gb) - written > free:
            raise ConfigError(
                f'model.teacher.cache: the disk of {str(cache.path)!r} has '
                f'room for {free:.3g} GB, and the outputs take {total:.3g}: '
                'name a file on another, give max_gb, or leave the cache out.'
            )

    def after_train_epoch(self, runner: Runner) -> None:
        """Log the cache hits of the epoch."""
        cache = cache_of(runner)
        if cache is not None and cache.lookups:
            runner.logger.info(
                f'The cache of the teacher had {cache.hits} of the '
                f'{cache.lookups} views of this epoch.'
            )
            cache.hits = cache.lookups = 0


def cache_of(runner: Runner) -> Optional[TeacherCache]:
    """Return the teacher's cache of the trained model, if it has one."""
    holder = getattr(unwrap_model(runner.model), 'teacher_holder', None)
    return holder and holder.cache


def views_of(dataset: Any) -> Optional[int]:
    """Return the number of recorded views per image, None if unlimited."""
    pipeline = getattr(dataset, 'pipeline', None)
    for transform in getattr(pipeline, 'transforms', ()):
        if isinstance(transform, RecordedViews):
            return transform.views
    inner = [getattr(dataset, 'dataset', None)]
    for wrapped in getattr(dataset, 'datasets', inner):
        if wrapped is not None and (views := views_of(wrapped)):
            return views
    return None
