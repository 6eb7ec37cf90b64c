"""A results table in Markdown, and its plot."""

import json
import statistics
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from mmfmkt.utils import ConfigError
from mmfmkt.utils.files import write_atomically

from .plan import Method, Table

# Names in tables and plots; the results' files keep those of the YAML files.
DISPLAY_NAMES = {
    'plain': 'Baseline student',
    'plain, neck at the same rate': 'Baseline student, neck lr_mult = 40',
    'KD, standardised logits': 'KD, standardized logits',
    'PKD and CrossKD': 'PKD + CrossKD',
    'Theta with ensemble': 'Theta, ensemble_weight = 1',
    'Theta, published': 'Theta, as published',
    'FM-KT conv': 'FM-KT, ConvEncoder',
    'FM-KT by KD': 'FM-KT with KD',
    'FM-KT by DIST': 'FM-KT with DIST',
    'FM-KT by DIST, bottleneck': 'FM-KT with DIST, BottleneckEncoder',
}


class Line(NamedTuple):
    """A method at one K.

    Attributes:
        name (str): Name in the table.
        method (Method): The method.
        k (str): K, or ``'-'``.
        values (dict): The metric by seed.
        failed (list): Seeds whose run failed.
    """

    name: str
    method: Method
    k: str
    values: Dict[int, float]
    failed: List[int]


def render(table: Table) -> None:
    """Write the table into its page, and draw the plot.

    Raises:
        ConfigError: If the page has no marks for it.
    """
    if not table.results.is_file():
        return
    results = json.loads(table.results.read_text(encoding='utf-8'))
    text = table.page.read_text(encoding='utf-8')
    write_atomically(table.page, in_place(text, table, results))
    if table.plot is not None and results.get('cost'):
        draw(table, results)


def in_place(text: str, table: Table, results: dict) -> str:
    """Return a page with its table replaced.

    Args:
        text (str): The page.
        table (Table): The table.
        results (dict): Its results.

    Raises:
        ConfigError: If the page has no marks for it.
    """
    return between(text, table.name, markdown(table, results), table.page)


def between(text: str, name: str, part: str, path: Path) -> str:
    """Return a page with the text between its marks replaced.

    Args:
        text (str): The page.
        name (str): Name of the marks.
        part (str): Text between the marks.
        path (Path): Path of the page, for the error.

    Raises:
        ConfigError: If the page has no such marks.
    """
    begin, end = (f'<!-- {name}: {x} -->' for x in ('table', 'end of table'))
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ConfigError(
            f'{path} must have one line {begin} and one line {end}; the '
            'table stands between them.'
        )
    front, rest = text.split(begin)
    _, back = rest.split(end)
    return f'{front}{begin}\n\n{part}\n\n{end}{back}'


def lines_of(table: Table, results: dict) -> List[Line]:
    """Return a line for each method, and for each K of a deployed flow."""
    found = []
    for method in table.methods:
        runs = [
            x for x in results.get('runs', ()) if x['method'] == method.name
        ]
        failed = [x['seed'] for x in runs if 'error' in x]
        for k in [str(x) for x in method.inference_steps] or ['-']:
            values = {
                x['seed']: x['metrics'][k][table.metric]
                for x in runs
                if k in x.get('metrics', {})
            }
            name = DISPLAY_NAMES.get(method.name, method.name)
            if k != '-':
                name = f'{name}, K = {k}'
            if values or failed:
                found.append(Line(name, method, k, values, failed))
    return found


def mean_and_error(values: Sequence[float]) -> Tuple[float, Optional[float]]:
    """Return the mean, and the standard error of two or more values."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return mean, None
    return mean, statistics.stdev(values) / len(values) ** 0.5


def differences(ours: Line, theirs: Line) -> List[float]:
    """Return differences paired by seed, of the seeds that both have."""
    seeds = sorted(set(ours.values) & set(theirs.values))
    return [ours.values[x] - theirs.values[x] for x in seeds]


def best_metric(lines: Sequence[Line]) -> Optional[Line]:
    """Return the best distillation loss without a flow."""
    plain = [x for x in lines if x.method.plain_metric and x.values]
    return max(
        plain, key=lambda x: statistics.mean(x.values.values()), default=None
    )


def teacher_value(table: Table, results: dict) -> Optional[float]:
    """Return the metric of the teacher."""
    for run in results.get('runs', ()):
        if run['method'] == table.teacher.name and 'metrics' in run:
            return run['metrics']['-'][table.metric]
    return None


def markdown(table: Table, results: dict) -> str:
    """Return the caption and the table."""
    lines = lines_of(table, results)
    best, teacher = best_metric(lines), teacher_value(table, results)
    student = next((x for x in lines if x.method.student and x.values), None)
    rows = [
        f'| Method | {table.label} | Difference | Gap closed | '
        'Latency | Each seed |',
        '|---|---|---|---|---|---|',
    ]
    for line in lines:
        rows.append(row(line, best, student, teacher, results, table.metric))
    caption = f'{table.title}. Mean ± standard error over seeds.'
    if teacher is not None:
        caption += f' Teacher: {shown(teacher, table.metric)} (one seed).'
    if best is not None:
        caption += (
            f' Difference: to {best.name}, the best loss without a flow, '
            'paired by seed.'
        )
    if student is not None and teacher is not None:
        caption += ' Gap: from the baseline student to the teacher.'
    caption += ' Latency: relative to the baseline student.'
    return '\n'.join([caption, '', *rows])


def shown(value: float, metric: str, sign: str = '') -> str:
    """Format a value: accuracy in percent with two digits, mAP with three."""
    digits = 2 if 'accuracy' in metric else 3
    return f'{value:{sign}.{digits}f}'


def with_error(values: Sequence[float], metric: str, sign: str = '') -> str:
    """Format mean ± standard error."""
    if not values:
        return ''
    mean, error = mean_and_error(values)
    text = shown(mean, metric, sign)
    return text if error is None else f'{text} ± {shown(error, metric)}'


def row(
    line: Line,
    best: Optional[Line],
    student: Optional[Line],
    teacher: Optional[float],
    results: dict,
    metric: str,
) -> str:
    """Return a row in Markdown."""
    compared, share = '', ''
    if best is not None and line is not best:
        compared = with_error(differences(line, best), metric, '+')
    if line.values and student is not None and teacher is not None:
        low = statistics.mean(student.values.values())
        mean = statistics.mean(line.values.values())
        if line is not student and teacher > low:
            share = f'{(mean - low) / (teacher - low):.0%}'
    each = [shown(line.values[x], metric) for x in sorted(line.values)]
    each += [f'{seed} failed' for seed in line.failed]
    cells = (
        line.name,
        with_error(list(line.values.values()), metric),
        compared,
        share,
        latency_of(line, results),
        ', '.join(each),
    )
    return f'| {" | ".join(cells)} |'


def latency_of(line: Line, results: dict) -> str:
    """Return the latency relative to the baseline student, if measured."""
    cost = results.get('cost', {}).get(line.method.name, {})
    ratio = cost.get('latency', {}).get(line.k, {}).get('ratio')
    return '' if ratio is None else f'{ratio:.3f}'


def front(points: Dict[str, Tuple[float, float]]) -> List[str]:
    """Return the Pareto front: no other is as fast and more accurate.

    Args:
        points (dict): Latency and accuracy by name.
    """
    found: List[str] = []
    highest = float('-inf')
    for name in sorted(points, key=lambda x: (points[x][0], -points[x][1])):
        if points[name][1] > highest:
            highest = points[name][1]
            found.append(name)
    return found


def visible_range(
    means: Sequence[float], teacher: Optional[float]
) -> Tuple[float, float]:
    """Return the values between which the methods can be told apart.

    Methods far below the best, such as the baseline student, are left out.

    Args:
        means (Sequence[float]): Means of the methods.
        teacher (float, optional): The teacher's, shown if it is near.
    """
    best, spread = max(means), max(means) - min(means)
    near = [x for x in means if best - x < 0.4 * spread] or list(means)
    low, high = min(near), best
    if teacher is not None and 0 < teacher - high < 1.5 * (high - low):
        high = teacher
    return low, high


def draw(table: Table, results: dict) -> None:
    """Draw a row for each method: seeds, mean, standard error and latency.

    Filled markers are the Pareto front of accuracy and latency. Methods below
    the visible range have an arrow and their mean at the left edge.
    """
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    lines = [x for x in lines_of(table, results) if x.values]
    means = {x.name: statistics.mean(x.values.values()) for x in lines}
    lines.sort(key=lambda x: means[x.name])
    teacher = teacher_value(table, results)
    points = {
        x.name: (float(latency_of(x, results)), means[x.name])
        for x in lines
        if latency_of(x, results)
    }
    edge = front(points)
    low, high = visible_range(list(means.values()), teacher)
    inside = [x for x in lines if means[x.name] >= low]
    seeds = [v for x in inside for v in x.values.values()]
    low, high = min(seeds), max(*seeds, high)
    margin = 0.08 * (high - low)
    figure, axes = plt.subplots(figsize=(9, 0.42 * len(lines) + 1.4))
    for place, line in enumerate(lines):
        values = list(line.values.values())
        mean, error = mean_and_error(values)
        if line not in inside:
            axes.annotate(
                shown(mean, table.metric),
                (0.0, place),
                (0.06, place),
                xycoords=('axes fraction', 'data'),
                va='center',
                color='#555555',
                arrowprops=dict(arrowstyle='->', color='#555555'),
            )
        else:
            axes.plot(
                values, [place - 0.25] * len(values), '|', color='#888888'
            )
            axes.errorbar(
                mean,
                place,
                xerr=error,
                fmt='o',
                markersize=7,
                capsize=4,
                color='#1f5fa8',
                mfc='#1f5fa8' if line.name in edge else 'white',
            )
        ratio = latency_of(line, results)
        axes.annotate(
            f'{float(ratio):.2f}' if ratio else '–',
            (1.02, place),
            xycoords=('axes fraction', 'data'),
            va='center',
        )
    if teacher is not None and teacher <= high + margin:
        axes.axvline(teacher, color='#b04a00', linestyle='--', linewidth=1)
        axes.annotate(
            'teacher',
            (teacher, len(lines) - 0.45),
            xytext=(-3, 0),
            textcoords='offset points',
            color='#b04a00',
            ha='right',
            va='bottom',
        )
    axes.annotate(
        'latency',
        (1.02, len(lines) - 0.45),
        xycoords=('axes fraction', 'data'),
        va='bottom',
    )
    axes.set_xlim(low - 2 * margin, high + margin)
    axes.set_ylim(-0.6, len(lines) - 0.4)
    axes.set_yticks(range(len(lines)), [x.name for x in lines])
    axes.grid(axis='y', color='#eeeeee')
    axes.set_axisbelow(True)
    for side in ('top', 'right', 'left'):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis='y', length=0)
    axes.set_xlabel(
        f'{table.label}: mean ± standard error, ticks: seeds; '
        'filled: Pareto front of accuracy and latency'
    )
    figure.savefig(table.plot, dpi=120, bbox_inches='tight')
    plt.close(figure)
