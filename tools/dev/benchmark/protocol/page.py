"""A results table in Markdown, and its plot."""

import statistics
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

from mmfmkt.apis.compare.results import (
    MIN_SEEDS,
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


def replace_section(text: str, name: str, section: str, path: Path) -> str:
    """Return the text of a page with the section between two marks replaced.

    Args:
        text (str): Text of the page.
        name (str): Name of the section, as in `split_section`.
        section (str): New text between the marks.
        path (Path): Path of the page, named in the error.

    Raises:
        ConfigError: If the page has no such marks.
    """
    before, _, after = split_section(text, name, path)
    return f'{before}\n\n{section}\n\n{after}'


def split_section(text: str, name: str, path: Path) -> Tuple[str, str, str]:
    """Return the text of a page until a mark, between two marks, and the rest.

    The marks are ``<!-- NAME: table -->`` and ``<!-- NAME: end of table -->``.

    Args:
        text (str): Text of the page.
        name (str): NAME of the marks.
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
    section, after = rest.split(end)
    return f'{before}{begin}', section, f'{end}{after}'


def teacher_value(table: Table, results: dict) -> Optional[float]:
    """Return the teacher's value of the table's metric, or None."""
    for run in results.get('runs', ()):
        if run['method'] == table.teacher.name and 'metrics' in run:
            return run['metrics']['-'][table.metric]
    return None


def markdown(table: Table, results: dict) -> str:
    """Return the caption and the table."""
    metric, result_rows = table.metric, rows_of(table, results)
    best, student = best_loss_without_flow(result_rows), baseline(result_rows)
    teacher = teacher_value(table, results)
    caption = [
        f'{table.title}. Each row is a method; a method that deploys its flow '
        'has a row for each K, the number of Euler steps in deployment. '
        f'{table.label}: mean ± standard error over seeds.'
    ]
    if teacher is not None:
        caption.append(f'Teacher: {format_value(teacher, metric)} (one seed).')
    if best is not None:
        caption.append(
            f'Difference: to {best.name}, the best distillation loss without '
            f'a flow with at least {min(len(best.values), MIN_SEEDS)} seeds, '
            'paired by seed; ± is the standard error.'
        )
    if student is not None and teacher is not None:
        caption.append(
            'Gap closed: (method - baseline student) / (teacher - baseline '
            'student).'
        )
    caption.append(
        'Latency: latency of the deployed student divided by that of the '
        'baseline student.'
    )
    rows = [
        table_cells(
            row,
            metric,
            format_difference(row, best, metric),
            gap_closed(row, student, teacher),
        )
        for row in result_rows
    ]
    seeds_column = f'{table.label} of each seed'
    columns = ('Difference', 'Gap closed', 'Latency', seeds_column)
    header = ('Method', table.label, *columns)
    return f'{" ".join(caption)}\n\n{markdown_table(header, rows)}'


def gap_closed(
    row: ResultRow, student: Optional[ResultRow], teacher: Optional[float]
) -> str:
    """Return the share of the gap between baseline student and teacher that
    a method closes; empty if it is undefined."""
    if not row.values or teacher is None or student in (None, row):
        return ''
    low = statistics.mean(student.values.values())
    mean = statistics.mean(row.values.values())
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
    """Return the smallest mean that the plot shows at its position.

    Methods far below the best, such as the baseline student, would make the
    others indistinguishable.
    """
    best, spread = max(means), max(means) - min(means)
    return min([x for x in means if best - x < 0.4 * spread] or means)


def draw(table: Table, results: dict) -> None:
    """Draw a line for each method: seeds, mean, standard error and latency.

    Filled markers: Pareto front of accuracy and latency. A method below the
    lower limit is an arrow at the left edge with its mean as text.
    """
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    result_rows = [x for x in rows_of(table, results) if x.values]
    means = {x.name: statistics.mean(x.values.values()) for x in result_rows}
    result_rows.sort(key=lambda x: means[x.name])
    latency = {x.name: format_latency(x) for x in result_rows}
    pareto_methods = pareto_front(
        {name: (float(x), means[name]) for name, x in latency.items() if x}
    )
    limit = lower_limit(list(means.values()))
    inside = [x for x in result_rows if means[x.name] >= limit]
    seeds = [value for x in inside for value in x.values.values()]
    low, high = min(seeds), max(seeds)
    teacher = teacher_value(table, results)
    # The axis includes the teacher unless it is far above the best method.
    if teacher is not None and high < teacher < 2.5 * high - 1.5 * limit:
        high = teacher
    margin = 0.08 * (high - low)
    figure, axes = plt.subplots(figsize=(9, 0.42 * len(result_rows) + 1.4))

    def label_row(text: str, x: float, y: float, **kwargs) -> None:
        """Write text at a fraction of the width."""
        position = dict(xycoords=('axes fraction', 'data'), va='center')
        axes.annotate(text, (x, y), **position, **kwargs)

    for y, row in enumerate(result_rows):
        values = list(row.values.values())
        mean, error = mean_and_standard_error(values)
        if row in inside:
            axes.plot(values, [y - 0.25] * len(values), '|', color='#888888')
            axes.errorbar(
                mean,
                y,
                xerr=error,
                fmt='o',
                markersize=7,
                capsize=4,
                color='#1f5fa8',
                mfc='#1f5fa8' if row.name in pareto_methods else 'white',
            )
        else:
            text = f'← {format_value(mean, table.metric)}'
            label_row(text, 0.01, y, color='#555555')
        ratio = latency[row.name]
        label_row(f'{float(ratio):.2f}' if ratio else '–', 1.02, y)
    label_row('latency', 1.02, len(result_rows) - 0.3)
    if teacher is not None and teacher <= high + margin:
        color = '#b04a00'
        axes.axvline(teacher, color=color, linestyle='--', linewidth=1)
        position = (teacher, len(result_rows) - 0.3)
        options = dict(color=color, ha='right', annotation_clip=False)
        axes.annotate('teacher ', position, **options)
    axes.set_xlim(low - 2 * margin, high + margin)
    axes.set_ylim(-0.6, len(result_rows) - 0.4)
    axes.set_yticks(range(len(result_rows)), [x.name for x in result_rows])
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
