"""A results table in Markdown, and its plot."""

import statistics
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

from mmfmkt.apis.compare.results import (
    Line,
    baseline,
    best_metric,
    cells_of,
    compared,
    latency_of,
    lines_of,
    load_results,
    markdown_table,
    mean_and_error,
    shown,
)
from mmfmkt.utils import ConfigError
from mmfmkt.utils.files import write_atomically

from .plan import Table


def render(table: Table) -> None:
    """Write the table into its page, and draw the plot.

    Raises:
        ConfigError: If the page has no marks for it.
    """
    if not table.results.is_file():
        return
    results = load_results(table)
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
    student = baseline(lines)
    header = (
        'Method',
        table.label,
        'Difference',
        'Gap closed',
        'Latency',
        'Each seed',
    )
    rows = [
        cells_of(
            line,
            table.metric,
            results,
            compared(line, best, table.metric),
            gap_closed(line, student, teacher),
        )
        for line in lines
    ]
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
    return f'{caption}\n\n{markdown_table(header, rows)}'


def gap_closed(
    line: Line, student: Optional[Line], teacher: Optional[float]
) -> str:
    """Return the share of the gap between student and teacher."""
    if not line.values or teacher is None or student in (None, line):
        return ''
    low = statistics.mean(student.values.values())
    mean = statistics.mean(line.values.values())
    return f'{(mean - low) / (teacher - low):.0%}' if teacher > low else ''


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
