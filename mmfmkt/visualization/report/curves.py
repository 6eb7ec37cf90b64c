"""Plotly figures of the report."""

from typing import Any, Callable, Dict, List, Optional, Sequence

import plotly.colors
import plotly.graph_objects as go

from .runs import PART, WorkDir

# Endings of the main metrics.
MAIN = ('mAP', 'AP', 'top1')
COLORS = plotly.colors.qualitative.D3
# What is measured at each sampling step, by key.
STEP_STATS = dict(
    distance='distance to the teacher', cka='linear CKA with the teacher'
)
# What FlowMonitorHook writes, by the beginning of its names.
FLOW_STATS = dict(
    velocity='velocity, in units of the feature',
    distance='distance to the teacher before (dotted) and after',
    jensen_gap="Jensen's gap: the bound minus the deployed feature's loss",
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
        group (Callable): Curves of one group have one color.
        dash (Callable): Plotly's dash of a curve.
    """
    made = go.Figure()
    made.update_layout(
        title=title,
        template='plotly_white',
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
            made.add_scatter(x=xs, y=ys, name=name, mode=mode, line=style)
    return made


def series(lines: List[dict], x: str, y: str) -> tuple:
    """Return where a key was logged, and its values."""
    rows = [row for row in lines if y in row]
    return [row[x] for row in rows], [row[y] for row in rows]


def is_transfer(name: str) -> bool:
    """Return whether a loss is one of the transfer."""
    return bool(PART.match(name)) or name.startswith('head.')


def metric_curves(runs: List[WorkDir]) -> List[go.Figure]:
    """Plot the main metrics of validation against the epoch, by run."""
    names = list(dict.fromkeys(name for run in runs for name in run.metrics))
    main = [x for x in names if x.endswith(MAIN)]
    figures = []
    for name in main or [f'{x}_k1' for x in MAIN if f'{x}_k1' in names]:
        curves = {run.name: series(run.val, 'step', name) for run in runs}
        # A single validation is a number and no curve.
        if any(len(xs) > 1 for xs, _ in curves.values()):
            mode = 'lines+markers'
            figures.append(figure(name, 'epoch', name, curves, mode=mode))
    return figures


def loss_curves(runs: List[WorkDir]) -> List[go.Figure]:
    """Plot the student's own losses, a figure per loss."""
    names = dict.fromkeys(name for run in runs for name in run.losses())
    return [
        figure(
            name,
            'iteration',
            name,
            {run.name: series(run.train, 'iter', name) for run in runs},
        )
        for name in names
        if not is_transfer(name)
    ]


def transfer_curves(run: WorkDir) -> List[go.Figure]:
    """Plot the transfer losses by level: the bound and what it bounds."""
    names = [x for x in run.losses() if is_transfer(x)]
    dashes = {'loss_flow': None, 'metric_of_mean': 'dot'}
    if not names:
        return []
    return [
        figure(
            f'{run.name}: transfer losses by level',
            'iteration',
            '',
            {name: series(run.train, 'iter', name) for name in names},
            log=True,
            group=lambda name: name.rsplit('.', 1)[0],
            dash=lambda name: dashes.get(name.rsplit('.', 1)[1], 'dash'),
        )
    ]


def flow_curves(run: WorkDir) -> List[go.Figure]:
    """Plot what FlowMonitorHook has written."""
    names = dict.fromkeys(
        key
        for row in run.flow
        for key, value in row.items()
        if key.startswith('flow/') and value
    )
    figures = []
    for part, title in FLOW_STATS.items():
        curves = {
            name.removeprefix('flow/'): series(run.flow, 'step', name)
            for name in names
            if name.rsplit('/', 1)[1].startswith(part)
        }
        if curves:
            figures.append(
                figure(
                    f'{run.name}: {title}',
                    'iteration',
                    '',
                    curves,
                    log=part == 'grad_norm',
                    group=lambda name: name.split('/')[0],
                    dash=lambda x: 'dot' if x.endswith('before') else None,
                )
            )
    return figures


def steps_curve(accuracy: Dict[str, Dict[int, float]], name: str) -> go.Figure:
    """Plot accuracy against K.

    Args:
        accuracy (dict): By run and K.
        name (str): Of the metric.
    """
    curves = {
        run: (list(values), list(values.values()))
        for run, values in accuracy.items()
    }
    title = f'{name} against the steps of the flow'
    made = figure(title, 'K', name, curves, mode='lines+markers')
    made.update_xaxes(type='log', tickvals=[1, 2, 4, 8, 16, 32])
    return made


def logged_steps(runs: List[WorkDir]) -> List[go.Figure]:
    """Plot accuracy against K, where validations report it."""
    accuracy: Dict[str, Dict[str, Dict[int, float]]] = {}
    for run in runs:
        for name, values in run.by_steps().items():
            accuracy.setdefault(name, {})[run.name] = values
    return [
        steps_curve(values, name)
        for name, values in accuracy.items()
        if name.endswith(MAIN)
    ]


def step_curves(
    run: str, stats: Dict[str, Dict[str, List[float]]], key: str
) -> go.Figure:
    """Plot distance or CKA to the teacher during sampling, by level.

    Args:
        run (str): Name of the run.
        stats (dict): By level, values by key: source, steps, deployed.
        key (str): Of ``STEP_STATS``.
    """
    curves = {}
    for level, values in stats.items():
        steps = [f'step {i + 1}' for i in range(len(values[key]) - 2)]
        curves[level] = ['student', *steps, 'deployed'], values[key]
    title = STEP_STATS[key]
    made = f'{run}: {title}, by sampling step'
    return figure(made, '', title, curves, mode='lines+markers')


def trajectories(run: str, level: str, paths: dict) -> go.Figure:
    """Plot features during sampling, in two principal components.

    Args:
        run (str): Name of the run.
        level (str): Tap and level.
        paths (dict): What ``features.paths`` returns.
    """

    def axes(points: Sequence[Sequence[float]]) -> tuple:
        return tuple(zip(*points))

    states = paths['states']
    share = ' and '.join(f'{x:.0%}' for x in paths['share'])
    made = figure(
        f'{run}, {level}: trajectories of {len(paths["targets"])} places '
        f"(components with {share} of the teacher's variance)",
        'first component',
        'second component',
        {
            'student': axes(states[0]),
            'teacher': axes(paths['targets']),
            'transferred': axes(states[-1]),
        },
        mode='markers',
    )
    # None ends a line.
    lines = [p for path in zip(*states) for p in (*path, (None, None))]
    xs, ys = axes(lines)
    gray = dict(color='rgba(120, 120, 120, 0.5)', width=1)
    made.add_scatter(x=xs, y=ys, mode='lines', line=gray, name='trajectory')
    return made
