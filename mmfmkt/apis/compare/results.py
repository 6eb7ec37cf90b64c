"""Statistics of a comparison: means, standard errors, paired differences."""

import json
import statistics
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from mmfmkt.utils import ConfigError

from .plan import Comparison, Method

# 97.5 % quantiles of Student's t distribution for 2, 3, ... degrees of
# freedom; the last is taken for more.
T_QUANTILES = (4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
# Names of metrics in tables.
LABELS = {
    'coco/bbox_mAP': 'box mAP',
    'coco/segm_mAP': 'mask mAP',
    'accuracy/top1': 'top-1',
}
# With two seeds, an interval is too wide to show anything.
MIN_SEEDS = 3
NOTE = (
    'Mean ± standard error over seeds; differences are paired by seed. A '
    'difference is called shown if the 95 % t interval of the paired '
    f'differences excludes 0, with at least {MIN_SEEDS} seeds. Latency: '
    'ratio to the student, median of interleaved measurements.'
)


class Line(NamedTuple):
    """A method at one K.

    Attributes:
        name (str): Its name in tables.
        method (Method): The method.
        k (str): K, or ``'-'``.
        values (dict): The metric by seed.
        failed (list): Seeds of failed runs.
    """

    name: str
    method: Method
    k: str
    values: Dict[int, float]
    failed: List[int]


def load_results(comparison: Comparison) -> Dict[str, Any]:
    """Return the results of a comparison; empty ones where there is no file.

    Returns:
        dict: ``runs``, and ``cost`` by method.
    """
    known = {}
    if comparison.results.is_file():
        known = json.loads(comparison.results.read_text(encoding='utf-8'))
    return dict(runs=[], cost={}) | known


def metric_of(
    metrics: Dict[str, float], name: Optional[str]
) -> Tuple[str, float]:
    """Return name and value of a metric.

    Args:
        metrics (dict): All metrics of an evaluation.
        name (str, optional): The metric; None for the first.

    Raises:
        ConfigError: If the evaluation has no such metric.
    """
    name = name or next(iter(metrics), 'a number')
    if name not in metrics:
        raise ConfigError(
            f'The evaluator has no metric {name!r}; it gives '
            f'{", ".join(metrics) or "none"}.'
        )
    return name, metrics[name]


def lines_of(comparison: Comparison, results: dict) -> List[Line]:
    """Return the lines of a table: methods, those with a flow at each K."""
    found = []
    for method in comparison.methods:
        runs = [x for x in results['runs'] if x['method'] == method.name]
        failed = [x['seed'] for x in runs if 'error' in x]
        for k in method.steps:
            values = {
                x['seed']: metric_of(x['metrics'][k], comparison.metric)[1]
                for x in runs
                if k in x.get('metrics', {})
            }
            name = method.title or method.name
            name = name if k == '-' else f'{name}, K = {k}'
            if values or failed:
                found.append(Line(name, method, k, values, failed))
    return found


def mean_and_error(values: Sequence[float]) -> Tuple[float, Optional[float]]:
    """Return the mean, and its standard error for two values or more."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return mean, None
    return mean, statistics.stdev(values) / len(values) ** 0.5


def differences(line: Line, reference: Line) -> List[float]:
    """Return the paired differences, of the seeds that both have."""
    seeds = sorted(set(line.values) & set(reference.values))
    return [line.values[x] - reference.values[x] for x in seeds]


def best_metric(lines: Sequence[Line]) -> Optional[Line]:
    """Return the best of the distillation losses without a flow."""
    plain = [x for x in lines if x.method.plain_metric and x.values]
    return max(
        plain, key=lambda x: statistics.mean(x.values.values()), default=None
    )


def baseline(lines: Sequence[Line]) -> Optional[Line]:
    """Return the student without a teacher."""
    return next((x for x in lines if x.method.student and x.values), None)


def shown(value: float, metric: str, sign: str = '') -> str:
    """Format a value: percentages have one digit less than shares."""
    digits = 2 if 'accuracy' in metric else 3
    return f'{value:{sign}.{digits}f}'


def with_error(values: Sequence[float], metric: str, sign: str = '') -> str:
    """Format the mean, with its standard error if there is one."""
    if not values:
        return ''
    mean, error = mean_and_error(values)
    text = shown(mean, metric, sign)
    return text if error is None else f'{text} ± {shown(error, metric)}'


def compared(line: Line, reference: Optional[Line], metric: str) -> str:
    """Format the paired difference; empty for the reference itself."""
    if reference in (None, line):
        return ''
    return with_error(differences(line, reference), metric, '+')


def latency_row(line: Line, results: dict) -> Dict[str, float]:
    """Return the latency as a ratio to the student's, and its quartiles.

    Returns:
        dict: ``ratio``, ``low`` and ``high``; empty if not measured.
    """
    cost = results['cost'].get(line.method.name, {})
    return cost.get('latency', {}).get(line.k, {})


def latency_of(line: Line, results: dict) -> str:
    """Format the latency, empty where it was not measured."""
    row = latency_row(line, results)
    return f'{row["ratio"]:.3f}' if row else ''


def cells_of(
    line: Line, metric: str, results: dict, *columns: str
) -> List[str]:
    """Return the cells of a line.

    Args:
        line (Line): The line.
        metric (str): Name of the metric, for its digits.
        results (dict): Results, for the latency.
        columns (str): Cells behind the mean.
    """
    each = [shown(line.values[x], metric) for x in sorted(line.values)]
    each += [f'{seed} failed' for seed in line.failed]
    mean = with_error(list(line.values.values()), metric)
    latency = latency_of(line, results)
    return [line.name, mean, *columns, latency, ', '.join(each)]


def markdown_table(header: Sequence[str], rows: List[List[str]]) -> str:
    """Return a table in Markdown."""
    bars = [f'| {" | ".join(x)} |' for x in (header, *rows)]
    return '\n'.join([bars[0], f'|{"---|" * len(header)}', *bars[1:]])


def is_shown(pairs: Sequence[float], metric: str) -> bool:
    """Return whether paired differences show one; see ``NOTE``."""
    if len(pairs) < MIN_SEEDS:
        return False
    mean, error = mean_and_error(pairs)
    quantile = T_QUANTILES[min(len(pairs) - 3, len(T_QUANTILES) - 1)]
    # A difference that rounds to zero is none in the table either.
    visible = float(shown(mean, metric)) != 0
    return visible and abs(mean) > quantile * (error or 0.0)


def verdict(
    line: Line, reference: Line, metric: str, label: str, results: dict
) -> str:
    """Return what the figures show of a method, in one sentence.

    Args:
        line (Line): The method.
        reference (Line): What it is compared with.
        metric (str): Name of the metric, for its digits.
        label (str): Name of the metric in tables.
        results (dict): Results, for the latency.
    """
    pairs = differences(line, reference)
    count = f'{len(pairs)} seed{"" if len(pairs) == 1 else "s"}'
    name = (
        'the baseline'
        if reference.method.student
        else 'the distillation loss alone'
    )
    if reference.name not in ('baseline', 'direct'):
        name += f' ({reference.name})'
    if not is_shown(pairs, metric):
        figures = with_error(pairs, metric, '+')
        figures = figures and f' ({figures} {label})'
        return (
            f'{line.name}: no difference from {name} shown by {count}'
            f'{figures}.'
        )
    mean = statistics.mean(pairs)
    agree = sum(x * mean > 0 for x in pairs)
    row = latency_row(line, results)
    latency = f', at {row["ratio"]:.2f} x latency' if row else ''
    return (
        f'{line.name}: {with_error(pairs, metric, "+")} {label} '
        f'{"over" if mean > 0 else "against"} {name}, in {agree} of {count}'
        f'{latency}.'
    )


class Summary(NamedTuple):
    """Table and verdicts of a comparison.

    Attributes:
        label (str): Name of the metric.
        lines (list[Line]): Lines of the table.
        header (list[str]): Header of the table.
        rows (list[list[str]]): Rows of the table.
        verdicts (list[str]): A sentence for each line but the reference.
        latencies (list[dict]): ``latency_row`` of each line.
    """

    label: str
    lines: List[Line]
    header: List[str]
    rows: List[List[str]]
    verdicts: List[str]
    latencies: List[Dict[str, float]]

    def __str__(self) -> str:
        table = markdown_table(self.header, self.rows)
        return '\n\n'.join([table, '\n'.join(self.verdicts), NOTE])


def summarize(comparison: Comparison, results: dict) -> Optional[Summary]:
    """Return table and verdicts; None where no run has ended well.

    Methods are compared with the baseline and with the best distillation
    loss without a flow; the verdict takes the latter where there is one.
    """
    lines = lines_of(comparison, results)
    measured = next((x for x in results['runs'] if 'metrics' in x), None)
    if measured is None:
        return None
    first = next(iter(measured['metrics'].values()))
    metric, _ = metric_of(first, comparison.metric)
    label = comparison.label or LABELS.get(metric, metric)
    student, best = baseline(lines), best_metric(lines)
    columns = {'to the baseline': student, 'to the loss alone': best}
    used = {k: x for k, x in columns.items() if x is not None}
    blank = [''] * len(used)
    verdicts = []
    for line in lines:
        reference = best if best not in (None, line) else student
        if reference not in (None, line) and line is not student:
            verdicts.append(verdict(line, reference, metric, label, results))
    return Summary(
        label,
        lines,
        ['method', label, *used, 'latency', 'by seed'],
        [
            cells_of(
                line,
                metric,
                results,
                *(
                    blank
                    if line is student
                    else [compared(line, x, metric) for x in used.values()]
                ),
            )
            for line in lines
        ],
        verdicts,
        [latency_row(x, results) for x in lines],
    )
