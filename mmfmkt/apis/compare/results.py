"""Statistics of a comparison: means, standard errors, paired differences."""

import json
import math
import statistics
from dataclasses import replace
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from mmfmkt.utils import ConfigError

from .plan import Comparison, Method

# 97.5 % quantiles of Student's t distribution for 2, 3, ... degrees of
# freedom; the last value is used for more than 9.
T_QUANTILES = (4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
# Suffixes of the main metrics.
MAIN_METRICS = ('mAP', 'AP', 'top1')
# Names of metrics in tables.
LABELS = {
    'coco/bbox_mAP': 'box mAP',
    'coco/segm_mAP': 'mask mAP',
    'accuracy/top1': 'top-1',
}
# With two seeds, the confidence interval is too wide to be useful.
MIN_SEEDS = 3
NOTE = (
    'Mean ± standard error over seeds; differences are paired by seed. No '
    'difference is shown if the 95 % t interval of the paired differences '
    f'includes 0, if their mean rounds to 0, or with fewer than {MIN_SEEDS} '
    'seeds. Latency: median ratio to that of the student in the same rounds.'
)


class ResultRow(NamedTuple):
    """Results of a method at one number of sampling steps K.

    Attributes:
        name (str): Name of the row in tables.
        method (Method): The method.
        k (str): K, or ``'-'`` without a flow.
        values (dict[int, float]): Value of the metric by seed.
        failed (list[int]): Seeds of failed runs.
        latency (dict): Latency relative to the student's: ``ratio`` and its
            quartiles ``low`` and ``high``; empty if it was not measured.
    """

    name: str
    method: Method
    k: str
    values: Dict[int, float]
    failed: List[int]
    latency: Dict[str, float]


def load_results(comparison: Comparison) -> Dict[str, Any]:
    """Return the results of a comparison; empty if there is no file yet.

    Returns:
        dict: ``runs``, a list of dicts, and ``cost``, a dict by method.
    """
    results: Dict[str, Any] = dict(runs=[], cost={})
    if comparison.results.is_file():
        text = comparison.results.read_text(encoding='utf-8')
        results.update(json.loads(text))
    return results


def metric_of(
    metrics: Dict[str, float], name: Optional[str]
) -> Tuple[str, float]:
    """Return name and value of a metric.

    Args:
        metrics (dict): All metrics of an evaluation. If it is empty, the
            value is 0: CocoMetric returns no metrics if nothing is detected.
        name (str, optional): Name of the metric; None for the first main
            metric or, if there is none, the first metric.

    Raises:
        ConfigError: If the evaluation has no such metric.
    """
    if name is None:
        # CocoMetric may return the precision of each class first.
        names = sorted(metrics, key=lambda x: not x.endswith(MAIN_METRICS))
        name = next(iter(names), 'no metric')
    if metrics and name not in metrics:
        raise ConfigError(
            f'The evaluator has no metric {name!r}; its metrics are '
            f'{", ".join(metrics)}.'
        )
    return name, metrics.get(name, 0.0)


def rows_of(comparison: Comparison, results: dict) -> List[ResultRow]:
    """Return a row for each method without a flow, or for each K of a flow."""
    rows = []
    for method in comparison.methods:
        runs = [x for x in results['runs'] if x['method'] == method.name]
        failed = sorted(x['seed'] for x in runs if 'error' in x)
        cost = results['cost'].get(method.name, {})
        for k in method.steps:
            values = {
                x['seed']: metric_of(x['metrics'][k], comparison.metric)[1]
                for x in runs
                if k in x.get('metrics', {})
            }
            # CocoMetric returns NaN for a class without objects.
            values = {
                seed: x for seed, x in values.items() if math.isfinite(x)
            }
            name = method.title or method.name
            name = name if k == '-' else f'{name}, K = {k}'
            latency = cost.get('latency', {}).get(k, {})
            if values or failed:
                rows.append(
                    ResultRow(name, method, k, values, failed, latency)
                )
    return rows


def mean_and_standard_error(
    values: Sequence[float],
) -> Tuple[float, Optional[float]]:
    """Return the mean and its standard error; None for a single value."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return mean, None
    return mean, statistics.stdev(values) / len(values) ** 0.5


def differences(row: ResultRow, reference: ResultRow) -> List[float]:
    """Return row minus reference for each seed that both rows have."""
    seeds = sorted(set(row.values) & set(reference.values))
    return [row.values[x] - reference.values[x] for x in seeds]


def best_loss_without_flow(rows: Sequence[ResultRow]) -> Optional[ResultRow]:
    """Return the best row of a distillation loss without a flow.

    Rows with fewer seeds than others, and fewer than ``MIN_SEEDS``, are not
    compared.
    """
    losses = [x for x in rows if x.method.is_loss_without_flow and x.values]
    num_seeds = min(max((len(x.values) for x in losses), default=0), MIN_SEEDS)
    return max(
        (x for x in losses if len(x.values) >= num_seeds),
        key=lambda x: statistics.mean(x.values.values()),
        default=None,
    )


def baseline(rows: Sequence[ResultRow]) -> Optional[ResultRow]:
    """Return the row of the student without a teacher."""
    return next((x for x in rows if x.method.is_baseline and x.values), None)


def format_value(value: float, metric: str, sign: str = '') -> str:
    """Format a value of a metric.

    Accuracies are percentages with 2 decimals, other metrics are in [0, 1]
    and have 3.
    """
    digits = 2 if 'accuracy' in metric else 3
    return f'{value:{sign}.{digits}f}'


def format_mean_and_error(
    values: Sequence[float], metric: str, sign: str = ''
) -> str:
    """Format the mean, and its standard error if there are several values."""
    if not values:
        return ''
    mean, error = mean_and_standard_error(values)
    text = format_value(mean, metric, sign)
    return text if error is None else f'{text} ± {format_value(error, metric)}'


def format_difference(
    row: ResultRow, reference: Optional[ResultRow], metric: str
) -> str:
    """Format the mean paired difference to the reference.

    The text is empty in the row of the reference.
    """
    if reference in (None, row):
        return ''
    return format_mean_and_error(differences(row, reference), metric, '+')


def format_latency(row: ResultRow) -> str:
    """Format the latency ratio; empty if it was not measured."""
    return f'{row.latency["ratio"]:.3f}' if row.latency else ''


def table_cells(row: ResultRow, metric: str, *columns: str) -> List[str]:
    """Return the cells of a row as text.

    Args:
        row (ResultRow): The row.
        metric (str): Name of the metric, which determines the decimals.
        columns (str): Additional cells, right of the mean.
    """
    by_seed = [format_value(row.values[x], metric) for x in sorted(row.values)]
    by_seed += [f'{seed} failed' for seed in row.failed]
    mean = format_mean_and_error(list(row.values.values()), metric)
    latency = format_latency(row)
    return [row.name, mean, *columns, latency, ', '.join(by_seed)]


def markdown_table(header: Sequence[str], rows: List[List[str]]) -> str:
    """Return a table in Markdown."""
    head, *body = [f'| {" | ".join(cells)} |' for cells in (header, *rows)]
    return '\n'.join([head, f'|{"---|" * len(header)}', *body])


def is_significant(paired_differences: Sequence[float], metric: str) -> bool:
    """Return whether a difference is shown, as defined in ``NOTE``."""
    if len(paired_differences) < MIN_SEEDS:
        return False
    mean, error = mean_and_standard_error(paired_differences)
    index = min(len(paired_differences) - MIN_SEEDS, len(T_QUANTILES) - 1)
    # A difference that rounds to zero in the table is not significant.
    is_visible = float(format_value(mean, metric)) != 0
    return is_visible and abs(mean) > T_QUANTILES[index] * (error or 0.0)


def verdict(
    row: ResultRow, reference: ResultRow, metric: str, label: str
) -> str:
    """Return the comparison of a method with a reference as one sentence.

    Args:
        row (ResultRow): Row of the method.
        reference (ResultRow): Row of the reference.
        metric (str): Name of the metric, which determines the decimals.
        label (str): Name of the metric in tables.
    """
    paired = differences(row, reference)
    count = f'{len(paired)} seed{"" if len(paired) == 1 else "s"}'
    difference = format_mean_and_error(paired, metric, '+')
    name = (
        'the baseline'
        if reference.method.is_baseline
        else 'the distillation loss alone'
    )
    if reference.name not in ('baseline', 'direct'):
        name += f' ({reference.name})'
    if not is_significant(paired, metric):
        numbers = f' ({difference} {label})' if difference else ''
        return (
            f'{row.name}: no difference from {name} shown by {count}{numbers}.'
        )
    mean = statistics.mean(paired)
    # Number of seeds whose difference has the sign of the mean.
    num_same = sum(x * mean > 0 for x in paired)
    ratio = row.latency.get('ratio')
    latency = f', at {ratio:.2f} x latency' if ratio else ''
    return (
        f'{row.name}: {difference} {label} '
        f'{"over" if mean > 0 else "against"} {name}, in {num_same} of {count}'
        f'{latency}.'
    )


class Summary(NamedTuple):
    """Table and verdicts (sentences) of a comparison.

    Attributes:
        label (str): Name of the metric.
        rows (list[ResultRow]): Results by row of the table.
        header (list[str]): Header of the table.
        cells (list[list[str]]): Cells of the table by row.
        verdicts (list[str]): A sentence for each row that has a reference.
    """

    label: str
    rows: List[ResultRow]
    header: List[str]
    cells: List[List[str]]
    verdicts: List[str]

    def __str__(self) -> str:
        table = markdown_table(self.header, self.cells)
        return '\n\n'.join([table, '\n'.join(self.verdicts), NOTE])


def summarize(comparison: Comparison, results: dict) -> Optional[Summary]:
    """Return table and verdicts; None if no run has succeeded.

    The table compares methods with the baseline student and with the best
    distillation loss without a flow. The verdicts compare them with the
    latter if there is one, else with the baseline.
    """
    evaluations = [
        metrics
        for run in results['runs']
        for metrics in run.get('metrics', {}).values()
    ]
    if not evaluations:
        return None
    # An evaluation without detections has no metrics; use one that has.
    metric, _ = metric_of(max(evaluations, key=len), comparison.metric)
    label = comparison.label or LABELS.get(metric, metric)
    rows = rows_of(replace(comparison, metric=metric), results)
    student, best = baseline(rows), best_loss_without_flow(rows)
    columns = {
        'difference to baseline': student,
        'difference to loss alone': best,
    }
    references = {k: x for k, x in columns.items() if x is not None}
    cells, verdicts = [], []
    for row in rows:
        row_references = {} if row is student else references
        difference_cells = [
            format_difference(row, row_references.get(x), metric)
            for x in references
        ]
        cells.append(table_cells(row, metric, *difference_cells))
        reference = best if best not in (None, row) else student
        if reference not in (None, row) and row is not student:
            verdicts.append(verdict(row, reference, metric, label))
    header = ['method', label, *references, 'latency', 'by seed']
    return Summary(label, rows, header, cells, verdicts)
