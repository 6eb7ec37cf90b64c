"""Curves over a training, which zoom."""

from typing import Dict, List, Optional, Sequence

import plotly.graph_objects as go

from .runs import PART, WorkDir

# What metrics of the first rank end with.
MAIN = ('mAP', 'AP', 'top1')
COLOURS = (
    '#1f77b4',
    '#d62728',
    '#2ca02c',
    '#9467bd',
    '#ff7f0e',
    '#17becf',
    '#8c564b',
    '#7f7f7f',
)


def figure(title: str, x: str, y: str, log: bool = False) -> go.Figure:
    """An empty figure of the page's style."""
    made = go.Figure()
    made.update_layout(
        title=title,
        template='plotly_white',
        height=380,
        margin=dict(l=60, r=20, t=50, b=50),
        xaxis_title=x,
        yaxis_title=y,
        legend=dict(font=dict(size=11)),
        colorway=COLOURS,
    )
    if log:
        made.update_yaxes(type='log')
    return made


def line(
    made: go.Figure,
    name: str,
    xs: Sequence[float],
    ys: Sequence[float],
    dash: Optional[str] = None,
    colour: Optional[str] = None,
    mode: str = 'lines',
) -> None:
    """Add a curve."""
    if len(xs):
        style = dict(dash=dash, color=colour)
        made.add_trace(
            go.Scatter(x=xs, y=ys, name=name, mode=mode, line=style)
        )


def series(lines: List[dict], x: str, y: str) -> tuple:
    """Where a key was logged, and its values."""
    found = [(row[x], row[y]) for row in lines if y in row]
    return tuple(zip(*found)) if found else ((), ())


def metric_curves(runs: List[WorkDir]) -> List[go.Figure]:
    """The main metrics of validation against the epoch, all runs in one."""
    names = list(dict.fromkeys(name for run in runs for name in run.metrics))
    main = [x for x in names if x.endswith(MAIN)]
    found = []
    for name in main or [f'{x}_k1' for x in MAIN if f'{x}_k1' in names]:
        seen = {run.name: series(run.val, 'step', name) for run in runs}
        # A single validation is a number and no curve.
        if max(len(steps) for steps, _ in seen.values()) < 2:
            continue
        made = figure(name, 'epoch', name)
        for label, values in seen.items():
            line(made, label, *values, mode='lines+markers')
        found.append(made)
    return found


def loss_curves(runs: List[WorkDir]) -> List[go.Figure]:
    """The student's own losses, all runs in one figure a loss."""
    names = list(
        dict.fromkeys(
            name
            for run in runs
            for name in run.losses()
            if not PART.match(name) and not name.startswith('head.')
        )
    )
    found = []
    for name in names:
        made = figure(name, 'iteration', name)
        for run in runs:
            line(made, run.name, *series(run.train, 'iter', name))
        found.append(made)
    return found


def transfer_curves(run: WorkDir) -> Optional[go.Figure]:
    """Parts of the transfer's loss by level: the bound and what it bounds."""
    names = [x for x in run.losses() if PART.match(x) or x.startswith('head.')]
    if not names:
        return None
    made = figure(f'{run.name}: the transfer, by level', 'iteration', '', True)
    colours: Dict[str, str] = {}
    for name in names:
        level, part = name.rsplit('.', 1)
        colours.setdefault(level, COLOURS[len(colours) % len(COLOURS)])
        dash = {'loss_flow': None, 'metric_of_mean': 'dot'}.get(part, 'dash')
        line(
            made,
            name,
            *series(run.train, 'iter', name),
            dash=dash,
            colour=colours[level],
        )
    return made


def flow_curves(run: WorkDir) -> List[go.Figure]:
    """What FlowMonitorHook saw."""
    names = list(
        dict.fromkeys(
            key for row in run.flow for key in row if key.startswith('flow/')
        )
    )
    parts = dict(
        velocity='velocity, in units of the feature',
        distance='distance to the teacher before (dotted) and after',
        jensen_gap="Jensen's gap: the bound over what it bounds",
        grad_norm='gradient norms of student and flow',
    )
    found = []
    for part, title in parts.items():
        mine = [
            x
            for x in names
            if x.rsplit('/', 1)[1].startswith(part)
            and any(row.get(x) for row in run.flow)
        ]
        if not mine:
            continue
        made = figure(
            f'{run.name}: {title}', 'iteration', '', part == 'grad_norm'
        )
        levels = list(dict.fromkeys(x.split('/')[1] for x in mine))
        for name in mine:
            colour = COLOURS[levels.index(name.split('/')[1]) % len(COLOURS)]
            line(
                made,
                name.removeprefix('flow/'),
                *series(run.flow, 'step', name),
                dash='dot' if name.endswith('before') else None,
                colour=colour,
            )
        found.append(made)
    return found


def steps_curve(accuracy: Dict[str, Dict[int, float]], name: str) -> go.Figure:
    """Accuracy against K.

    Args:
        accuracy (dict): By run and K.
        name (str): Of the metric.
    """
    made = figure(f'{name} against the steps of the flow', 'K', name)
    for run, values in accuracy.items():
        line(
            made,
            run,
            list(values),
            list(values.values()),
            mode='lines+markers',
        )
    made.update_xaxes(type='log', tickvals=[1, 2, 4, 8, 16, 32])
    return made


def logged_steps(runs: List[WorkDir]) -> List[go.Figure]:
    """Accuracy against K, where validations report it."""
    found: Dict[str, Dict[str, Dict[int, float]]] = {}
    for run in runs:
        for name, values in run.by_steps().items():
            found.setdefault(name, {})[run.name] = values
    return [
        steps_curve(values, name)
        for name, values in found.items()
        if name.endswith(MAIN)
    ]


def step_distances(
    name: str, seen: Dict[str, Dict[str, List[float]]], what: str
) -> go.Figure:
    """Distance or CKA to the teacher along a walk, by level.

    Args:
        name (str): Of the run.
        seen (dict): By level, values by ``what``: source, steps, deployed.
        what (str): ``'distance'`` or ``'cka'``.
    """
    title = dict(
        distance='distance to the teacher', cka='linear CKA with the teacher'
    )[what]
    made = figure(f'{name}: {title}, along the walk', '', title)
    for level, values in seen.items():
        found = values[what]
        steps = [f'step {i + 1}' for i in range(len(found) - 2)]
        labels = ['student', *steps, 'deployed']
        line(made, level, labels, found, mode='lines+markers')
    return made


def trajectories(name: str, level: str, paths: dict) -> go.Figure:
    """Features on their way, in the plane of two principal components.

    Args:
        name (str): Of the run.
        level (str): Tap and level.
        paths (dict): ``states`` ``(K + 1, P, 2)`` and ``targets`` ``(P, 2)``
            as nested lists, and ``share`` of the variance.
    """
    share = ' and '.join(f'{x:.0%}' for x in paths['share'])
    made = figure(
        f'{name}, {level}: {len(paths["targets"])} places on their way '
        f"(components with {share} of the teacher's variance)",
        'first component',
        'second component',
    )
    states = paths['states']
    xs: List[Optional[float]] = []
    ys: List[Optional[float]] = []
    for place in range(len(paths['targets'])):
        for state in states:
            xs.append(state[place][0])
            ys.append(state[place][1])
        xs.append(None)
        ys.append(None)
    grey = dict(color='rgba(120, 120, 120, 0.5)', width=1)
    made.add_trace(
        go.Scatter(x=xs, y=ys, mode='lines', line=grey, name='walk')
    )
    for label, points, colour in (
        ('student', states[0], COLOURS[0]),
        ('transferred', states[-1], COLOURS[2]),
        ('teacher', paths['targets'], COLOURS[1]),
    ):
        made.add_trace(
            go.Scatter(
                x=[p[0] for p in points],
                y=[p[1] for p in points],
                mode='markers',
                marker=dict(color=colour, size=6),
                name=label,
            )
        )
    return made
