"""Short log line for distillation."""

from typing import Tuple

from mmengine.runner import LogProcessor, Runner

from mmfmkt.registry import LOG_PROCESSORS

from ..hooks.progress import unwrap_model

# Parts of the names of values that are left out of the log line.
OMITTED = ('loss', 'metric_of_mean', 'teacher_time')
# At the tap `head`, the student's task losses are logged under the name of the
# tap, as `head.loss_task` and `head.task_<name>`.
TASK_LOSSES = ('head.loss_task', 'head.task_')


@LOG_PROCESSORS.register_module()
class DistillationLogProcessor(LogProcessor):
    """LogProcessor that logs sums of losses instead of each loss.

    Example of a log line:
    ``Epoch(train)  [3][20/26]  lr: 1e-3  eta: 0:05:12  time: 0.41 (teacher
    23%)  data_time: 0.01  grad_norm: 2.1  loss: 1.23 (student 0.80, transfer
    0.43)``. Visualizers receive each loss. Models that are not distillers get
    MMEngine's log line.

    Takes the arguments of MMEngine's LogProcessor.
    """

    def get_log_after_iter(
        self, runner: Runner, batch_idx: int, mode: str
    ) -> Tuple[dict, str]:
        """Return the logged values and the log line of an iteration.

        Args:
            runner (Runner): The runner.
            batch_idx (int): Batch index.
            mode (str): ``'train'``, ``'val'`` or ``'test'``.
        """
        tag, line = super().get_log_after_iter(runner, batch_idx, mode)
        model = unwrap_model(runner.model)
        # Only distillers have `flows`, the transfers by tap and level.
        if mode != 'train' or not hasattr(model, 'flows'):
            return tag, line
        values = {name.removeprefix('train/'): x for name, x in tag.items()}
        taps = tuple(f'{x.log_name}.' for x in model.flows.values())
        transfer = sum(
            value
            for name, value in values.items()
            if name.startswith(taps)
            and 'loss' in name
            and not name.startswith(TASK_LOSSES)
        )
        custom = [x.get('log_name', x['data_src']) for x in self.custom_cfg]
        parts = []
        for part in line.split('  '):
            name = part.split(':')[0]
            if name == 'loss':
                student = values['loss'] - transfer
                digits = self.num_digits
                part += f' (student {student:.{digits}f}, '
                part += f'transfer {transfer:.{digits}f})'
            elif name == 'time' and values.get('teacher_time'):
                share = values['teacher_time'] / values['time']
                part += f' (teacher {share:.0%})'
            elif name not in custom and any(x in name for x in OMITTED):
                continue
            parts.append(part)
        return tag, '  '.join(parts)
