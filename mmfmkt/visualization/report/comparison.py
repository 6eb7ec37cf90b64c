"""Section of the report that compares methods over seeds."""

from typing import Dict, List

import plotly.graph_objects as go

from mmfmkt.apis.compare.results import NOTE, Summary, mean_and_standard_error

from .page import Section


def comparison_section(summary: Summary) -> Section:
    """Return the table, the verdicts, and accuracy against latency.

    Args:
        summary (Summary): Table and verdicts of a comparison.
    """
    text = ' '.join([*summary.verdicts, NOTE])
    section = Section('Comparison', text)
    section.add(header=summary.header, rows=summary.rows)
    points = points_of(summary)
    if points:
        figure = go.Figure(
            [
                go.Scatter(
                    x=[x['ratio']],
                    y=[x['mean']],
                    error_x=dict(
                        type='data',
                        symmetric=False,
                        array=[x['high'] - x['ratio']],
                        arrayminus=[x['ratio'] - x['low']],
                    ),
                    error_y=dict(type='data', array=[x['error']]),
                    mode='markers',
                    name=x['name'],
                )
                for x in points
            ]
        )
        figure.update_layout(
            title='Accuracy against deployed latency',
            xaxis_title='latency / student, median and quartiles',
            yaxis_title=f'{summary.label}, mean and standard error',
        )
        section.plot(figure)
    return section


def points_of(summary: Summary) -> List[Dict]:
    """Return accuracy and latency of the lines for which both are known."""
    points = []
    for line, latency in zip(summary.lines, summary.latencies):
        if line.values and latency:
            mean, error = mean_and_standard_error(list(line.values.values()))
            points.append(
                dict(latency, name=line.name, mean=mean, error=error or 0.0)
            )
    return points
