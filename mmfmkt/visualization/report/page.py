"""The report itself: one HTML file that opens without a network."""

import time
from pathlib import Path
from typing import Any, Dict, List, Sequence, Union

import jinja2
from mmengine.logging import print_log
from plotly.io import to_html
from plotly.offline import get_plotlyjs

from mmfmkt.utils import ConfigError
from mmfmkt.utils.complexity import size_and_flops
from mmfmkt.utils.files import write_whole

from . import curves, looks, pictures
from .evaluation import evaluate
from .runs import BY_STEPS, WorkDir, differences, name_apart

TEMPLATE = Path(__file__).with_name('page.html')
# Score from which on a detection is shown.
LEAST = 0.3


class Section:
    """A part of the page.

    Args:
        title (str): Its heading.
        says (str): How it is read.
    """

    def __init__(self, title: str, says: str = '') -> None:
        self.title, self.says = title, says
        self.parts: List[str] = []

    def plot(self, figure: Any) -> None:
        """Add a figure that zooms."""
        if figure is not None:
            self.parts.append(
                to_html(
                    figure,
                    full_html=False,
                    include_plotlyjs=False,
                    config=dict(displaylogo=False, responsive=True),
                )
            )

    def picture(self, source: str, caption: str = '') -> None:
        """Add a picture."""
        self.parts.append(
            f'<figure><img src="{source}" alt="{caption}">'
            f'<figcaption>{caption}</figcaption></figure>'
        )

    def table(
        self, header: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        """Add a table that sorts."""
        render = jinja2.Template(
            '<table class="sorts"><thead><tr>{% for x in header %}<th>{{ x|e '
            '}}</th>{% endfor %}</tr></thead><tbody>{% for row in rows %}<tr>'
            '{% for x in row %}<td>{{ x|e }}</td>{% endfor %}</tr>{% endfor %}'
            '</tbody></table>'
        ).render
        self.parts.append(render(header=header, rows=rows))

    def text(self, text: str) -> None:
        """Add words as they are."""
        render = jinja2.Template(
            '<details><summary>{{ a|e }}</summary><pre>'
            '{{ b|e }}</pre></details>'
        ).render
        head, _, body = text.partition('\n')
        self.parts.append(render(a=head, b=body))


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
    by_k = Section('Accuracy against K')
    for figure in curves.logged_steps(runs):
        by_k.plot(figure)
    sections = [overview(runs), *training(runs), by_k]
    if look:
        sections += network_sections(runs, images, steps, by_k)
    sections += [settings(runs), environments(runs)]
    sections = [x for x in sections if x.parts]
    page = jinja2.Template(TEMPLATE.read_text(encoding='utf-8')).render(
        title=', '.join(x.name for x in runs),
        sections=sections,
        plotly=get_plotlyjs(),
        seconds=round(time.perf_counter() - start),
    )
    path = Path(path)
    write_whole(path, page)
    return path


def overview(runs: List[WorkDir]) -> Section:
    """What each run is and gave."""
    section = Section('Runs', 'Click a heading to sort.')
    names = list(
        dict.fromkeys(
            name
            for run in runs
            for name in run.metrics
            if not BY_STEPS.match(name)
        )
    )
    rows = []
    for run in runs:
        model = run.config.model
        last = run.val[-1] if run.val else {}
        rows.append(
            [
                run.name,
                model.get('variant', 'plain') if run.distils else 'plain',
                encoder_of(model) if run.distils else '',
                '' if run.seed is None else run.seed,
                run.train[-1]['iter'] if run.train else 0,
                *(f'{last[x]:.4f}' if x in last else '' for x in names),
            ]
        )
    section.table(
        ['run', 'variant', 'encoder', 'seed', 'iterations', *names], rows
    )
    return section


def encoder_of(model: dict) -> str:
    """The encoder of a distillation, in a word."""
    if model.get('variant') == 'direct':
        return ''
    encoder = (model.get('flow') or {}).get('encoder') or {}
    return encoder.get('type', '') if isinstance(encoder, dict) else 'several'


def training(runs: List[WorkDir]) -> List[Section]:
    """Curves over the training."""
    metrics = Section('Accuracy over the training')
    for figure in curves.metric_curves(runs):
        metrics.plot(figure)
    transfer = Section(
        'The transfer',
        'Solid: the loss of the flow, which bounds what is deployed; dotted: '
        'the metric of what is deployed; dashed: other terms. Where dotted '
        'falls with solid, the flow is learnt.',
    )
    inside = Section(
        'Inside the flows',
        'A velocity of 0 is a flow that does nothing. What the flow adds is '
        'the distance between dotted and solid.',
    )
    for run in runs:
        transfer.plot(curves.transfer_curves(run))
        for figure in curves.flow_curves(run):
            inside.plot(figure)
    losses = Section("The students' own losses")
    for figure in curves.loss_curves(runs):
        losses.plot(figure)
    return [metrics, transfer, inside, losses]


def network_sections(
    runs: List[WorkDir], images: int, steps: Sequence[int], by_k: Section
) -> List[Section]:
    """What needs networks: pictures, maps, walks, cost, accuracy by K."""
    found = Section(
        'What is found',
        'Green: found; blue: found, and missed by the first run; red, '
        'dashed: missed, and found by the first run; orange: nothing of the '
        f'kind is there. Scores from {LEAST} on, overlap 0.5.',
    )
    maps = Section(
        'Feature maps',
        'Root mean square over standardised channels, a row a level.',
    )
    walks = Section(
        'Along the walk',
        'Distance and linear CKA to the teacher of the student, of the '
        'estimate of each step, and of their mean, which is deployed; then '
        'places of the finest level on their way.',
    )
    cost = Section('Deployed cost', 'Of one image of the first shape.')
    loaded = {}
    for run in runs:
        if run.config.get('default_scope') == 'mmpretrain':
            continue
        try:
            loaded[run.name] = loaded_run(run)
        except (ConfigError, OSError, RuntimeError, KeyError) as error:
            said = ' '.join(str(error).split())
            found.text(f'{run.name} is not shown\n{said}')
            print_log(f'{run.name} is not shown: {said}', logger='current')
    if not loaded:
        return [found]
    first = next(iter(loaded))
    data = loaded[first][1]
    indices = looks.spread(len(data), images)
    show_detections(found, loaded, first, indices)
    show_flows(maps, walks, loaded, data, indices)
    show_cost(cost, loaded, data)
    if steps:
        show_steps(by_k, runs, loaded, steps)
    return [found, cost, maps, walks]


def loaded_run(run: WorkDir) -> tuple:
    """A run's model, and its validation data.

    Raises:
        ConfigError: If it has no checkpoint.
    """
    if run.checkpoint is None:
        raise ConfigError(f'{run.folder} has no checkpoint yet.')
    try:
        model = looks.load_model(run)
    except ConfigError:
        # Without its teacher a distiller still predicts.
        model = looks.load_model(run, teacher=False)
    return model, looks.validation_data(run), run


def show_detections(
    section: Section, loaded: Dict[str, tuple], first: str, indices: List[int]
) -> None:
    """Teacher and runs on the same pictures."""
    data = loaded[first][1]
    classes = data.metainfo['classes']
    distiller = next(
        (
            model
            for model, _, _ in loaded.values()
            if getattr(model, 'teacher', None) is not None
        ),
        None,
    )
    for index in indices:
        seen = {}
        if distiller is not None:
            seen['teacher'] = looks.detect(
                distiller.teacher,
                data,
                index,
                LEAST,
                distiller.teacher_holder.raw_input_adapter(data),
            )
        for name, (model, own, _) in loaded.items():
            seen[name] = looks.detect(model, own, index, LEAST)
        path = data.get_data_info(index)['img_path']
        section.picture(
            pictures.side_by_side(
                path, looks.truth(data, index), seen, first, classes
            ),
            Path(path).name,
        )


def show_flows(
    maps: Section,
    walks: Section,
    loaded: Dict[str, tuple],
    data: Any,
    indices: List[int],
) -> None:
    """Feature maps and walks of each distillation."""
    for name, (model, own, _) in loaded.items():
        if getattr(model, 'teacher', None) is None:
            continue
        levels = looks.levels_of(model, own, indices)
        path = data.get_data_info(indices[0])['img_path']
        maps.picture(pictures.maps(levels, path), name)
        seen = {level.name: looks.along(level) for level in levels}
        for what in ('distance', 'cka'):
            walks.plot(curves.step_distances(name, seen, what))
        paths = looks.paths(levels[0])
        if paths is not None:
            walks.plot(curves.trajectories(name, levels[0].name, paths))


def show_cost(section: Section, loaded: Dict[str, tuple], data: Any) -> None:
    """Parameters and FLOPs of what is deployed."""
    height, width = data[0]['inputs'].shape[-2:]
    rows = []
    for name, (model, _, run) in loaded.items():
        deployed = model
        if run.distils and not model.deploys_flow:
            deployed = model.student
        parameters, flops = size_and_flops(deployed, (width, height))
        k = getattr(deployed, 'inference_steps', '')
        rows.append([name, k, f'{parameters:,}', f'{flops / 1e9:.3f}'])
    section.table(['run', 'K', 'parameters', 'GFLOPs'], rows)


def show_steps(
    section: Section,
    runs: List[WorkDir],
    loaded: Dict[str, tuple],
    steps: Sequence[int],
) -> None:
    """Evaluate students with a flow at each K."""
    accuracy: Dict[str, Dict[int, float]] = {}
    name = ''
    for run in runs:
        model = loaded.get(run.name, (None,))[0]
        if model is None or not getattr(model, 'deploys_flow', False):
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


def settings(runs: List[WorkDir]) -> Section:
    """Configs, and where they differ."""
    section = Section('Configs')
    if len(runs) > 1:
        rows = [[key, *x] for key, x in differences(runs).items()]
        section.table(['key', *(x.name for x in runs)], rows)
    for run in runs:
        section.text(f'{run.name}: the config\n{run.config.pretty_text}')
    return section


def environments(runs: List[WorkDir]) -> Section:
    """Machines and versions."""
    section = Section('Environments')
    for run in runs:
        if run.environment:
            section.text(f'{run.name}: the machine\n{run.environment}')
    return section
