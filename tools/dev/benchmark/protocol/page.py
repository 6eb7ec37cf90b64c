"""A results table in Markdown, and its plot."""

import statistics
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

from mmfmkt.apis.compare.results import (
    ResultRow,
    baseline,
    best_loss_without_flow,
    format_difference,
    format_latency,
    format_value,
    load_results,
    markdown_table,
    mean_and_standard_error,
    rows_of,
    table_cells,
)
from mmfmkt.utils import ConfigError
from mmfmkt.utils.files import write_atomically

from .plan import Table


def render(table: Table) -> None:
    """Write the table into its page, and draw the plot.

    Raises:
        ConfigError: If the page has no marks for the table.
    """
    if not table.results.is_file():
        return
    results = load_results(table)
    text = table.page.read_text(encoding='utf-8')
    write_atomically(table.page, replace_table(text, table, results))
    if table.plot is not None and results.get('cost'):
        draw(table, results)


def replace_table(text: str, table: Table, results: dict) -> str:
    """Return the text of a page with its table replaced.

    Args:
        text (str): Text of the page.
        table (Table): The table.
        results (dict): Results of the table.

    Raises:
        ConfigError: If the page has no marks for the table.
    """
    return replace_section(
        text, table.name, markdown(table, results), table.page
    )


def replace_section(text: str, name: str, part: str, path: Path) -> str:
    """Return the text of a page with the part between two marks replaced.

    The marks are ``<!-- NAME: table -->`` and ``<!-- NAME: end of table -->``.

    Args:
        text (str): Text of the page.
        name (str): NAME of the marks.
        part (str): New text between the marks.
        path (Path): Path of the page, named in the error.

    Raises:
        ConfigError: If the page has no such marks.
    """
    begin, end = (f'<!-- {name}: {x} -->' for x in ('table', 'end of table'))
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ConfigError(
            f'{path} must have one line {begin} and one line {end}, with the '
            'table between them.'
        )
    before, rest = text.split(begin)
    _, after = rest.split(end)
    return f'{before}{begin}\n\n{part}\n\n{end}{after}'


def teacher_value(table: Table, results: dict) -> Optional[float]:
    """Return the teacher's value of the table's metric, or None."""
    for run in results.get('runs', ()):
        if run['method'] == table.teacher.name and 'metrics' in run:
            return run['metrics']['-'][table.metric]
    return None


def markdown(table: Table, results: dict) -> str:
    """Return the caption and the table."""
    metric, lines = table.metric, rows_of(table, results)
    best, student = best_loss_without_flow(lines), baseline(lines)
    teacher = teacher_value(table, results)
    caption = [
        f'{table.title}. Each row is a method; a method with a flow has a row '
        f'for each K. {table.label}: mean ± standard error over seeds.'
    ]
    if teacher is not None:
        caption.append(f'Teacher: {format_value(teacher, metric)} (one seed).')
    if best is not None:
        caption.append(
            f'Difference: to {best.name}, the best distillation loss without '
            'a flow, paired by seed.'
        )
    if student is not None and teacher is not None:
        caption.append(
            'Gap closed: share of the difference between baseline student '
            'and teacher that the method gains.'
        )
    caption.append(
        'Latency: latency of the deployed student divided by that of the '
        'baseline student.'
    )
    rows = [
        table_cells(
            line,
            metric,
            format_difference(line, best, metric),
            gap_closed(line, student, teacher),
        )
        for line in lines
    ]
    each_seed = f'{table.label} of each seed'
    columns = ('Difference', 'Gap closed', 'Latency', each_seed)
    header = ('Method', table.label, *columns)
    return f'{" ".join(caption)}\n\n{markdown_table(header, rows)}'


def gap_closed(
    line: ResultRow, student: Optional[ResultRow], teacher: Optional[float]
) -> str:
    """Return the share of the gap between baseline student and teacher that
    a method closes; empty if it is undefined."""
    if not line.values or teacher is None or student in (None, line):
        return ''
    low = statistics.mean(student.values.values())
    mean = statistics.mean(line.values.values())
    return f'{(mean - low) / (teacher - low):.0%}' if teacher > low else ''


def pareto_front(points: Dict[str, Tuple[float, float]]) -> List[str]:
    """Return the methods for which no method is as fast and more accurate.

    Args:
        points (dict): Latency and accuracy by name.
    """
    names: List[str] = []
    highest = float('-inf')
    for name in sorted(points, key=lambda x: (points[x][0], -points[x][1])):
        if points[name][1] > highest:
            highest = points[name][1]
            names.append(name)
    return names


def lower_limit(means: Sequence[float]) -> float:
    """Return the smallest mean that the plot shows in full.

    Methods far below the best, such as the baseline student, are outside: the
    others could not be told apart otherwise.
    """
    best, spread = max(means), max(means) - min(means)
    return min([x for x in means if best - x < 0.4 * spread] or means)


def draw(table: Table, results: dict) -> None:
    """Draw a row for each method: seeds, mean, standard error and latency.

    Filled markers are the Pareto front of accuracy and latency. Methods below
    the lower limit have an arrow and their mean at the left edge.
    """
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    lines = [x for x in rows_of(table, results) if x.values]
    means = {x.name: statistics.mean(x.values.values()) for x in lines}
    lines.sort(key=lambda x: means[x.name])
    latency = {x.name: format_latency(x) for x in lines}
    front = pareto_front(
        {name: (float(x), means[name]) for name, x in latency.items() if x}
    )
    limit = lower_limit(list(means.values()))
    inside = [x for x in lines if means[x.name] >= limit]
    seeds = [value for x in inside for value in x.values.values()]
    low, high = min(seeds), max(seeds)
    teacher = teacher_value(table, results)
    # A teacher that is not far above the best method is shown.
    if teacher is not None and high < teacher < 2.5 * high - 1.5 * limit:
        high = teacher
    margin = 0.08 * (high - low)
    figure, axes = plt.subplots(figsize=(9, 0.42 * len(lines) + 1.4))

    def label_row(text: str, x: float, y: float, **kwargs) -> None:
        """Write text at a fraction of the width."""
        position = dict(xycoords=('axes fraction', 'data'), va='center')
        axes.annotate(text, (x, y), **position, **kwargs)

    for y, line in enumerate(lines):
        values = list(line.values.values())
        mean, error = mean_and_standard_error(values)
        if line in inside:
            axes.plot(values, [y - 0.25] * len(values), '|', color='#888888')
            axes.errorbar(
                mean,
                y,
                xerr=error,
                fmt='o',
                markersize=7,
                capsize=4,
                color='#1f5fa8',
                mfc='#1f5fa8' if line.name in front else 'white',
            )
        else:
            text = f'← {format_value(mean, table.metric)}'
            label_row(text, 0.01, y, color='#555555')
        ratio = latency[line.name]
        label_row(f'{float(ratio):.2f}' if ratio else '–', 1.02, y)
    label_row('latency', 1.02, len(lines) - 0.3)
    if teacher is not None and teacher <= high + margin:
        color = '#b04a00'
        axes.axvline(teacher, color=color, linestyle='--', linewidth=1)
        position = (teacher, len(lines) - 0.3)
        options = dict(color=color, ha='right', annotation_clip=False)
        axes.annotate('teacher ', position, **options)
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
