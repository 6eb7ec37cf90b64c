"""Plotly figures of the report."""

import re
from typing import Any, Callable, Dict, List, Optional, Sequence

import plotly.colors
import plotly.graph_objects as go

from mmfmkt.apis.compare.results import MAIN_METRICS

from .runs import WorkDir

# Names of distillation losses: '<tap>.<level>.<term>', and 'head.<term>' for
# classifiers. Terms are loss_flow, loss_direct, metric_of_mean and so on.
# 'head.loss_task' and 'head.task_<name>' are task losses of the student.
DISTILLATION_LOSS = re.compile(r'.+\.\d+\.[a-z_]+$|head\.(?!loss_task|task_)')
COLORS = plotly.colors.qualitative.D3
# Titles of the statistics of each sampling step.
STEP_STATS = dict(
    distance='distillation loss', cka='linear CKA with the teacher'
)
# Titles of FlowMonitorHook's scalars, by the prefix of their names.
FLOW_STATS = dict(
    velocity='RMS velocity / RMS student feature',
    distance='distillation loss before (dotted) and after the flow',
    jensen_gap='Jensen gap: flow loss minus loss of the deployed feature',
    grad_norm='gradient norms of student and flow',
)


def figure(
    title: str,
    x: str,
    y: str,
    curves: Dict[str, tuple],
    log: bool = False,
    mode: str = 'lines',
    group: Callable[[str], Any] = str,
    dash: Callable[[str], Optional[str]] = lambda name: None,
) -> go.Figure:
    """Build a figure.

    Args:
        title (str): Title.
        x (str): Title of the x axis.
        y (str): Title of the y axis.
        curves (dict): x and y values by name.
        log (bool): Whether the y axis is logarithmic.
        mode (str): Plotly's mode of all curves.
        group (Callable): Returns the group of a curve; one color per group.
        dash (Callable): Returns Plotly's line style of a curve.
    """
    plot = go.Figure()
    plot.update_layout(
        title=title,
        template='plotly_white',
        # The page's style sheet sets the colors, light or dark.
        paper_bgcolor='rgba(0, 0, 0, 0)',
        plot_bgcolor='rgba(0, 0, 0, 0)',
        modebar=dict(bgcolor='rgba(0, 0, 0, 0)'),
        height=380,
        margin=dict(l=60, r=20, t=50, b=50),
        xaxis_title=x,
        yaxis_title=y,
        yaxis_type='log' if log else None,
        legend=dict(font=dict(size=11)),
    )
    groups = list(dict.fromkeys(map(group, curves)))
    for name, (xs, ys) in curves.items():
        if len(xs):
            color = COLORS[groups.index(group(name)) % len(COLORS)]
            style = dict(color=color, dash=dash(name))
            # A line through a single point is invisible.
            curve_mode = mode if len(xs) > 1 else 'markers'
            plot.add_scatter(
                x=xs, y=ys, name=name, mode=curve_mode, line=style
            )
    return plot


def series(lines: List[dict], x: str, y: str) -> tuple:
    """Return the values of the keys x and y in the log lines that have y.

    Args:
        lines (list[dict]): Log lines.
        x (str): Key of the x values, which every line has.
        y (str): Key of the y values.
    """
    rows = [row for row in lines if y in row]
    return [row[x] for row in rows], [row[y] for row in rows]


def metric_curves(runs: List[WorkDir]) -> List[go.Figure]:
    """Plot the main validation metrics over epochs or iterations."""
    names = list(dict.fromkeys(name for run in runs for name in run.metrics))
    main_names = [x for x in names if x.endswith(MAIN_METRICS)]
    figures = []
    # Unit of MMEngine's `step` in validations.
    loggers = [
        run.config.get('default_hooks', {}).get('logger') for run in runs
    ]
    by_epoch = [(x or {}).get('log_metric_by_epoch', True) for x in loggers]
    unit = 'epoch' if all(by_epoch) else 'iteration'
    # Without a main metric, plot StepAccuracy's metrics at K = 1.
    for name in main_names or [
        f'{x}_k1' for x in MAIN_METRICS if f'{x}_k1' in names
    ]:
        curves = {run.name: series(run.val, 'step', name) for run in runs}
        # A single validation is shown in the table only.
        if any(len(xs) > 1 for xs, _ in curves.values()):
            mode = 'lines+markers'
            figures.append(figure(name, unit, name, curves, mode=mode))
    return figures


def loss_curves(runs: List[WorkDir]) -> List[go.Figure]:
    """Plot each task loss of the student."""
    names = dict.fromkeys(name for run in runs for name in run.losses())
    return [
        figure(
            name,
            'iteration',
            name,
            {run.name: series(run.train, 'iter', name) for run in runs},
        )
        for name in names
        if not DISTILLATION_LOSS.match(name)
    ]


def transfer_curves(run: WorkDir) -> List[go.Figure]:
    """Plot the distillation losses of each level."""
    names = [x for x in run.losses() if DISTILLATION_LOSS.match(x)]
    dashes = {'loss_flow': None, 'metric_of_mean': 'dot'}
    if not names:
        return []
    return [
        figure(
            f'{run.name}: distillation losses by level',
            'iteration',
            '',
            {name: series(run.train, 'iter', name) for name in names},
            log=True,
            group=lambda name: name.rsplit('.', 1)[0],
            dash=lambda name: dashes.get(name.rsplit('.', 1)[1], 'dash'),
        )
    ]


def flow_curves(run: WorkDir) -> List[go.Figure]:
    """Plot the scalars of FlowMonitorHook."""
    # Scalars that are always 0 are not plotted, such as velocity and Jensen
    # gap of a level without a flow.
    names = dict.fromkeys(
        key
        for row in run.flow
        for key, value in row.items()
        if key.startswith('flow/') and value
    )
    figures = []
    for prefix, title in FLOW_STATS.items():
        # In FlowMonitorHook's lines, MMEngine's `step` is the iteration.
        curves = {
            name.removeprefix('flow/'): series(run.flow, 'step', name)
            for name in names
            if name.rsplit('/', 1)[1].startswith(prefix)
        }
        if curves:
            figures.append(
                figure(
                    f'{run.name}: {title}',
                    'iteration',
                    '',
                    curves,
                    log=prefix == 'grad_norm',
                    group=lambda name: name.split('/')[0],
                    dash=lambda x: 'dot' if x.endswith('before') else None,
                )
            )
    return figures


def accuracy_by_steps(
    name: str, accuracy: Dict[str, Dict[int, float]]
) -> go.Figure:
    """Plot accuracy over the number of sampling steps K.

    Args:
        name (str): Name of the metric.
        accuracy (dict): Accuracy by run and K.
    """
    curves = {
        run: (list(values), list(values.values()))
        for run, values in accuracy.items()
    }
    title = f'{name} by number of sampling steps'
    plot = figure(title, 'K', name, curves, mode='lines+markers')
    plot.update_xaxes(type='log', tickvals=[1, 2, 4, 8, 16, 32])
    return plot


def sampling_curves(
    run: str, stats: Dict[str, Dict[str, List[float]]], key: str
) -> go.Figure:
    """Plot a statistic over the sampling steps, one curve per level.

    Args:
        run (str): Name of the run.
        stats (dict): Values by level and key: for the student's feature, the
            estimate of each step, and the deployed feature.
        key (str): A key of ``STEP_STATS``.
    """
    curves = {}
    for level, values in stats.items():
        steps = [f'step {i + 1}' for i in range(len(values[key]) - 2)]
        curves[level] = ['student', *steps, 'deployed'], values[key]
    title = STEP_STATS[key]
    heading = f'{run}: {title} by sampling step'
    return figure(heading, '', title, curves, mode='lines+markers')


def trajectory_curves(run: str, level: str, trajectories: dict) -> go.Figure:
    """Plot features during sampling, in two principal components.

    Args:
        run (str): Name of the run.
        level (str): ``<tap>.<level>``.
        trajectories (dict): Result of `features.sampling_trajectories`.
    """

    def transpose(points: Sequence[Sequence[float]]) -> tuple:
        return tuple(zip(*points))

    states, targets = trajectories['states'], trajectories['targets']
    variances = trajectories['explained_variance']
    plot = figure(
        f'{run}, {level}: trajectories of {len(targets)} positions',
        f'first principal component ({variances[0]:.0%} of variance)',
        f'second principal component ({variances[1]:.0%})',
        {
            'student': transpose(states[0]),
            'teacher': transpose(targets),
            'after the flow': transpose(states[-1]),
        },
        mode='markers',
    )
    # None separates the trajectories.
    points = [p for path in zip(*states) for p in (*path, (None, None))]
    xs, ys = transpose(points)
    gray = dict(color='rgba(120, 120, 120, 0.5)', width=1)
    plot.add_scatter(x=xs, y=ys, mode='lines', line=gray, name='trajectory')
    return plot
