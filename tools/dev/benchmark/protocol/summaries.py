"""Tables with the results of several benchmark tables."""

from typing import List

from mmfmkt.apis.compare.results import (
    ResultRow,
    baseline,
    best_loss_without_flow,
    format_difference,
    format_latency,
    format_mean_and_error,
    format_value,
    load_results,
    markdown_table,
    rows_of,
)

from .page import teacher_value
from .plan import Table


def rows_with_values(table: Table) -> List[ResultRow]:
    """Return the rows of a table, except methods whose runs all failed."""
    return [x for x in rows_of(table, load_results(table)) if x.values]


def mean_of(line: ResultRow, metric: str) -> str:
    """Return the mean of a row and its standard error."""
    return format_mean_and_error(list(line.values.values()), metric)


def number_of_seeds(line: ResultRow) -> str:
    """Return how many seeds a row has, and how many failed."""
    failed = f', {len(line.failed)} failed' if line.failed else ''
    return f'{len(line.values)}{failed}'


def summary(tables: List[Table], folder: str) -> str:
    """Return the summary: a row of main methods for each table, with a link.

    The FM-KT columns show the run whose distillation loss is the best without
    a flow.

    Args:
        tables (list[Table]): All tables.
        folder (str): Prefix of the links to the tables' pages.
    """
    header = (
        'Data, student, metric',
        'Baseline',
        'Best distillation loss, no flow',
        'FM-KT^Theta',
        'FM-KT, K = 1',
        'FM-KT, K > 1',
        'Teacher',
    )
    rows = []
    for table in tables:
        lines, metric = rows_with_values(table), table.metric
        best = best_loss_without_flow(lines)
        if best is None:
            continue
        theta = next((x for x in lines if x.name == 'Theta'), None)
        fmkt = ('FM-KT', f'FM-KT by {best.method.name}')
        by_k = {x.k: x for x in lines if x.method.name in fmkt}
        several_steps = by_k.get('4') or by_k.get('8')
        student, *flows = (
            mean_of(x, metric) if x else ''
            for x in (baseline(lines), theta, by_k.get('1'), several_steps)
        )
        teacher = teacher_value(table, load_results(table))
        rows.append(
            [
                f'[{table.subject}]({folder}{table.page.name}), {table.label}',
                student,
                f'{best.name} {mean_of(best, metric)}',
                *flows,
                '' if teacher is None else format_value(teacher, metric),
            ]
        )
    return markdown_table(header, rows)


def all_results(tables: List[Table]) -> str:
    """Return all methods of all tables as one table."""
    header = (
        'Data, student',
        'Method',
        'Result',
        'Difference',
        'Latency',
        'Seeds',
    )
    rows = []
    for table in tables:
        results = load_results(table)
        lines = rows_of(table, results)
        best = best_loss_without_flow(lines)
        for line in lines:
            rows.append(
                [
                    table.subject,
                    line.name,
                    f'{mean_of(line, table.metric)} {table.label}',
                    format_difference(line, best, table.metric),
                    format_latency(line),
                    number_of_seeds(line),
                ]
            )
    return markdown_table(header, rows)
