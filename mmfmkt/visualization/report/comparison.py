"""Section of the report that compares methods over seeds."""

from mmfmkt.apis.compare.results import NOTE, Summary, mean_and_standard_error

from .curves import figure
from .page import Section


def comparison_section(summary: Summary) -> Section:
    """Return the table, the verdicts, and accuracy against latency.

    Args:
        summary (Summary): Table and verdicts of a comparison.
    """
    section = Section('Comparison', ' '.join([*summary.verdicts, NOTE]))
    section.add(header=summary.header, rows=summary.cells)
    plot = figure(
        'Accuracy against deployed latency',
        'latency / student, median and quartiles',
        f'{summary.label}, mean and standard error',
        {},
    )
    for row in summary.rows:
        if row.values and row.latency:
            ratio = row.latency['ratio']
            mean, error = mean_and_standard_error(list(row.values.values()))
            plot.add_scatter(
                x=[ratio],
                y=[mean],
                error_x=dict(
                    array=[row.latency['high'] - ratio],
                    arrayminus=[ratio - row.latency['low']],
                ),
                error_y=dict(array=[error or 0.0]),
                mode='markers',
                name=row.name,
            )
    if plot.data:
        section.plot(plot)
    return section
