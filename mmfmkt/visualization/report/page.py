"""The report: one HTML file that opens without a network."""

import time
from pathlib import Path
from typing import Any, Iterable, List, Sequence, Union

import jinja2
from mmengine.logging import print_log
from plotly.io import to_html
from plotly.offline import get_plotlyjs

from mmfmkt.utils import ConfigError
from mmfmkt.utils.complexity import size_and_flops
from mmfmkt.utils.files import write_atomically

from . import curves, detections, features
from .loading import LoadedRun, evaluate, load_run
from .runs import (
    BY_STEPS,
    WorkDir,
    differences,
    last_validation,
    name_apart,
)

TEMPLATE = Path(__file__).with_name('page.html')
SCORE_THRESHOLD = 0.3


class Section:
    """A part of the page.

    Args:
        title (str): Heading.
        text (str): How to read it.
        figures (Iterable): Plotly figures.
    """

    def __init__(
        self, title: str, text: str = '', figures: Iterable[Any] = ()
    ) -> None:
        self.title, self.text = title, text
        self.parts: List[dict] = []
        for figure in figures:
            self.plot(figure)

    def plot(self, figure: Any) -> None:
        """Add a Plotly figure."""
        config = dict(displaylogo=False, responsive=True)
        html = to_html(
            figure, full_html=False, include_plotlyjs=False, config=config
        )
        self.add(html=html)

    def add(self, **part: Any) -> None:
        """Add a part that the template renders.

        Args:
            part: ``html``; ``image`` and ``caption``; ``header`` and
                ``rows`` of a table; or ``summary`` and ``body`` of a text.
        """
        self.parts.append(part)


def write_report(
    runs: List[WorkDir],
    path: Union[str, Path],
    images: int = 6,
    steps: Sequence[int] = (),
    look: bool = True,
) -> Path:
    """Write the report of runs.

    Args:
        runs (list[WorkDir]): Trainings, finished or not. Detections are
            compared with those of the first.
        path (str | Path): HTML file.
        images (int): How many validation images are shown.
        steps (Sequence[int]): K that students with a flow are evaluated at.
        look (bool): Whether checkpoints are loaded, for all that needs a
            network.

    Raises:
        ConfigError: If there is no run.
    """
    if not runs:
        raise ConfigError('A report needs one work folder or more.')
    start = time.perf_counter()
    name_apart(runs)
    by_steps = Section('Accuracy against K', figures=curves.logged_steps(runs))
    sections = [overview(runs), *training(runs), by_steps]
    if look:
        sections += network_sections(runs, images, steps, by_steps)
    sections += [configs(runs), environments(runs)]
    page = jinja2.Template(
        TEMPLATE.read_text(encoding='utf-8'), autoescape=True
    ).render(
        title=', '.join(x.name for x in runs),
        sections=[x for x in sections if x.parts],
        plotly=get_plotlyjs(),
        seconds=round(time.perf_counter() - start),
    )
    path = Path(path)
    write_atomically(path, page)
    return path


def overview(runs: List[WorkDir]) -> Section:
    """Return the table of runs and of their teachers."""
    keys = dict.fromkeys(name for run in runs for name in run.metrics)
    metrics = [x for x in keys if not BY_STEPS.match(x)]
    header = ['run', 'variant', 'encoder', 'seed', 'iterations', *metrics]
    rows, teachers = [], {}
    for run in runs:
        model = run.config.model
        rows.append(
            {
                'run': run.name,
                'variant': 'baseline',
                'seed': run.config.get('randomness', {}).get('seed'),
                'iterations': run.train[-1]['iter'] if run.train else 0,
                **(run.val[-1] if run.val else {}),
            }
        )
        if run.distills:
            rows[-1]['variant'] = model.get('variant', 'fmkt')
            rows[-1]['encoder'] = encoder_of(model)
            if model.get('teacher') is not None:
                teachers.setdefault(repr(model.teacher), []).append(run)
    for students in teachers.values():
        checkpoint = students[0].config.model.teacher.get('checkpoint')
        if any(run.contains(checkpoint) for run in runs):
            continue
        names = ', '.join(x.name for x in students)
        name = 'teacher' if len(teachers) == 1 else f'teacher of {names}'
        logged = next((x.teacher for x in students if x.teacher), None)
        values = logged or last_validation(checkpoint)
        rows.append({**values, 'run': name, 'variant': 'teacher'})
    section = Section('Runs', 'Click a heading to sort.')
    table = [[row.get(key) for key in header] for row in rows]
    section.add(header=header, rows=table)
    return section


def encoder_of(model: dict) -> str:
    """Return the type of a distillation's encoder."""
    if model.get('variant') == 'direct':
        return ''
    encoder = (model.get('flow') or {}).get('encoder') or {}
    return encoder.get('type', '') if isinstance(encoder, dict) else 'several'


def training(runs: List[WorkDir]) -> List[Section]:
    """Return the curves over the training."""
    return [
        Section(
            'Accuracy over the training', figures=curves.metric_curves(runs)
        ),
        Section(
            'Transfer losses',
            'Solid: the loss of the flow, an upper bound of the deployed '
            "feature's loss; dotted: the deployed feature's loss; dashed: "
            'other terms. The flow is learning where both fall.',
            (x for run in runs for x in curves.transfer_curves(run)),
        ),
        Section(
            'Flow diagnostics',
            'A flow of velocity 0 does nothing. The flow contributes the '
            'distance between dotted and solid.',
            (x for run in runs for x in curves.flow_curves(run)),
        ),
        Section('Student losses', figures=curves.loss_curves(runs)),
    ]


def network_sections(
    runs: List[WorkDir],
    images: int,
    steps: Sequence[int],
    by_steps: Section,
) -> List[Section]:
    """Return what needs networks: detections, cost, feature maps, steps."""
    section = Section(
        'Detections',
        'Green: correct; blue: correct, and missed by the first run; red, '
        'dashed: missed, and found by the first run; orange: wrong. Scores '
        f'from {SCORE_THRESHOLD}, overlap from 0.5.',
    )
    loaded = []
    for run in runs:
        if run.config.get('default_scope') == 'mmpretrain':
            continue
        try:
            loaded.append(load_run(run))
        except (ConfigError, OSError, RuntimeError, KeyError) as error:
            reason = ' '.join(str(error).split())
            section.add(summary=f'{run.name} is not shown', body=reason)
            print_log(f'{run.name} is not shown: {reason}', logger='current')
    if not loaded:
        return [section]
    indices = features.spread(len(loaded[0].data), images)
    for index in indices:
        image, path = detections.compare(loaded, index, SCORE_THRESHOLD)
        section.add(image=image, caption=Path(path).name)
    if steps:
        show_steps(by_steps, loaded, steps)
    return [section, cost(loaded), *flows(loaded, indices)]


def cost(loaded: List[LoadedRun]) -> Section:
    """Return parameters and FLOPs of the deployed networks."""
    section = Section('Deployed cost', 'Of one image of the first shape.')
    height, width = loaded[0].data[0]['inputs'].shape[-2:]
    rows = []
    for run, model, _ in loaded:
        flow = run.distills and model.deploys_flow
        deployed = model if flow or not run.distills else model.student
        parameters, flops = size_and_flops(deployed, (width, height))
        k = model.inference_steps if flow else ''
        rows.append([run.name, k, f'{parameters:,}', f'{flops / 1e9:.3f}'])
    section.add(header=['run', 'K', 'parameters', 'GFLOPs'], rows=rows)
    return section


def flows(loaded: List[LoadedRun], indices: List[int]) -> List[Section]:
    """Return feature maps and sampling paths of each distillation."""
    maps = Section(
        'Feature maps',
        'Root mean square over standardized channels, a row per level.',
    )
    paths = Section(
        'Sampling steps',
        'Distance and linear CKA to the teacher of the student, of the '
        'estimate of each step, and of their mean, which is deployed; then '
        'trajectories of places of the finest level.',
    )
    for run, model, data in loaded:
        if getattr(model, 'teacher', None) is None:
            continue
        levels = features.levels_of(model, data, indices)
        image = data.get_data_info(indices[0])['img_path']
        maps.add(image=features.draw_maps(levels, image), caption=run.name)
        stats = {level.name: features.along(level) for level in levels}
        for key in curves.STEP_STATS:
            paths.plot(curves.step_curves(run.name, stats, key))
        states = features.paths(levels[0])
        if states is not None:
            paths.plot(curves.trajectories(run.name, levels[0].name, states))
    return [maps, paths]


def show_steps(
    section: Section, loaded: List[LoadedRun], steps: Sequence[int]
) -> None:
    """Evaluate students with a flow at each K, and plot it."""
    accuracy: dict = {}
    name = ''
    for run, model, _ in loaded:
        if not getattr(model, 'deploys_flow', False):
            continue
        for k in steps:
            model.inference_steps = k
            metrics = evaluate(run, model)
            # CocoMetric reports nothing at all where nothing was found.
            name = name or next(iter(metrics), '')
            if name in metrics:
                accuracy.setdefault(run.name, {})[k] = metrics[name]
    if accuracy:
        section.plot(curves.steps_curve(accuracy, name))


def configs(runs: List[WorkDir]) -> Section:
    """Return the configs and their differences."""
    section = Section('Configs')
    if len(runs) > 1:
        rows = [[key, *values] for key, values in differences(runs).items()]
        section.add(header=['key', *(x.name for x in runs)], rows=rows)
    for run in runs:
        text = run.config.pretty_text
        section.add(summary=f'{run.name}: the config', body=text)
    return section


def environments(runs: List[WorkDir]) -> Section:
    """Return machines and versions."""
    section = Section('Environments')
    for run in runs:
        if run.environment:
            summary = f'{run.name}: the machine'
            section.add(summary=summary, body=run.environment)
    return section
