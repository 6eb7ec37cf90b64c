"""A line of progress that a person can read."""

import datetime
import re
from typing import Tuple

from mmengine.runner import LogProcessor, Runner

from mmfmkt.registry import LOG_PROCESSORS

from ..hooks.progress import unwrapped

# Epoch(train)  [3][ 20/26], Iter(train) [ 20/900].
HEAD = re.compile(r'\w+\(\w+\)(\s*\[[^\]]*\])+')


@LOG_PROCESSORS.register_module()
class DistillationLogProcessor(LogProcessor):
    """MMEngine's, but the line of an iteration has sums instead of parts.

    ``Epoch(train) [3][20/26]  lr: 1e-3  eta: 0:05:12  loss: 1.23 (student
    0.80, transfer 0.43)  grad_norm: 2.1  time: 0.41 (teacher 23 %)``. All
    parts go to the visualizers as ever, and so does anything but a
    distillation's training.

    Arguments as MMEngine's LogProcessor.
    """

    def get_log_after_iter(
        self, runner: Runner, batch_idx: int, mode: str
    ) -> Tuple[dict, str]:
        """As MMEngine's.

        Args:
            runner (Runner): The runner.
            batch_idx (int): Index of the batch.
            mode (str): ``'train'``, ``'val'`` or ``'test'``.
        """
        tag, line = super().get_log_after_iter(runner, batch_idx, mode)
        model = unwrapped(runner.model)
        if mode != 'train' or not hasattr(model, 'flows'):
            return tag, line
        values = {name.removeprefix('train/'): x for name, x in tag.items()}
        parts = [HEAD.match(line)[0].strip()]
        for name, rate in values.items():
            if name == 'lr':
                parts.append(f'lr: {rate:.{self.num_digits}e}')
        if 'eta' in runner.message_hub.runtime_info:
            seconds = int(runner.message_hub.get_info('eta'))
            parts.append(f'eta: {datetime.timedelta(seconds=seconds)}')
        fronts = tuple(f'{flow.tap}.' for flow in model.flows.values())
        parts += [self._losses(values, fronts), *self._rest(values)]
        return tag, '  '.join(filter(None, parts))

    def _losses(self, values: dict, fronts: Tuple[str, ...]) -> str:
        """The loss, and whose it is."""
        if 'loss' not in values:
            return ''
        transfer = sum(
            value
            for name, value in values.items()
            if name.startswith(fronts)
            and 'loss' in name
            and 'task' not in name
        )
        total = values['loss']
        digits = self.num_digits
        return (
            f'loss: {total:.{digits}f} (student {total - transfer:.{digits}f},'
            f' transfer {transfer:.{digits}f})'
        )

    def _rest(self, values: dict) -> list:
        found = []
        if 'grad_norm' in values:
            found.append(
                f'grad_norm: {values["grad_norm"]:.{self.num_digits}f}'
            )
        if values.get('time'):
            share = values.get('teacher_time', 0.0) / values['time']
            found.append(f'time: {values["time"]:.3f} (teacher {share:.0%})')
        if values.get('data_time', 0.0) > 0.1 * values.get('time', 0.0):
            found.append(f'data_time: {values["data_time"]:.3f}')
        for name in ('memory', 'skipped'):
            if values.get(name):
                found.append(f'{name}: {values[name]}')
        return found
