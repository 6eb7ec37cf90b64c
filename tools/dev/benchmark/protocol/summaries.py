"""Summaries of several benchmark tables."""

from typing import List

from mmfmkt.apis.compare.results import (
    MIN_SEEDS,
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


def mean_of(row: ResultRow, metric: str) -> str:
    """Return the mean of a row and its standard error."""
    return format_mean_and_error(list(row.values.values()), metric)


def number_of_seeds(row: ResultRow) -> str:
    """Return how many seeds of a row succeeded, and how many failed."""
    failed = f', {len(row.failed)} failed' if row.failed else ''
    return f'{len(row.values)}{failed}'


def summary_cell(row: ResultRow, metric: str) -> str:
    """Return the result of a row, with the number of seeds if it is small."""
    count = len(row.values)
    seeds = '1 seed' if count == 1 else f'{count} seeds'
    return mean_of(row, metric) + (f' ({seeds})' if count < MIN_SEEDS else '')


def summary(tables: List[Table], folder: str) -> str:
    """Return the summary: for each table, a link and its main methods.

    FM-KT and Theta are the rows 'FM-KT' and 'Theta', or those with the
    distillation loss that is best without a flow, such as 'FM-KT by KD'.

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
        result_rows, metric = rows_with_values(table), table.metric
        best = best_loss_without_flow(result_rows)
        if best is None:
            continue
        suffix = f' by {best.method.name}'
        by_method = {
            (x.method.name.removesuffix(suffix), x.k): x for x in result_rows
        }
        steps = [int(k) for name, k in by_method if name == 'FM-KT']
        student, *flows = (
            summary_cell(x, metric) if x else ''
            for x in (
                baseline(result_rows),
                by_method.get(('Theta', '-')),
                by_method.get(('FM-KT', '1')),
                by_method.get(('FM-KT', str(max([2, *steps])))),
            )
        )
        teacher = teacher_value(table, load_results(table))
        rows.append(
            [
                f'[{table.subject}]({folder}{table.page.name}), {table.label}',
                student,
                f'{best.name} {summary_cell(best, metric)}',
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
        result_rows = rows_of(table, results)
        best = best_loss_without_flow(result_rows)
        for row in result_rows:
            rows.append(
                [
                    table.subject,
                    row.name,
                    f'{mean_of(row, table.metric)} {table.label}',
                    format_difference(row, best, table.metric),
                    format_latency(row),
                    number_of_seeds(row),
                ]
            )
    return markdown_table(header, rows)
