"""Report as one HTML file that needs no network connection."""

from contextlib import suppress
from pathlib import Path
from typing import Any, Dict, Iterable, List, Sequence, Tuple, Union

import jinja2
from mmengine.logging import print_log
from plotly.io import to_html
from plotly.offline import get_plotlyjs

from mmfmkt.apis.compare.results import metric_of
from mmfmkt.apis.describe import encoder_names
from mmfmkt.utils import ConfigError
from mmfmkt.utils.complexity import count_parameters, size_and_flops
from mmfmkt.utils.files import write_atomically
from mmfmkt.utils.types import is_mmpretrain_config

from . import curves, detections, features
from .loading import LoadedRun, evaluate, load_run
from .runs import (
    STEP_METRIC,
    WorkDir,
    differences,
    make_names_unique,
    runs_by_teacher,
    validation_of,
)

TEMPLATE = Path(__file__).with_name('page.html')
SCORE_THRESHOLD = 0.3


class Section:
    """Section of the page.

    Args:
        title (str): Heading.
        text (str): Explanation of the section.
        figures (Iterable): Plotly figures.
    """

    def __init__(
        self, title: str, text: str = '', figures: Iterable[Any] = ()
    ) -> None:
        self.title, self.text = title, text
        self.items: List[dict] = []
        for figure in figures:
            self.plot(figure)

    def plot(self, figure: Any) -> None:
        """Add a Plotly figure."""
        config = dict(displaylogo=False, responsive=True)
        html = to_html(
            figure, full_html=False, include_plotlyjs=False, config=config
        )
        self.add(html=html)

    def add(self, **item: Any) -> None:
        """Add an item of the section for the template.

        Args:
            item: ``html``; ``image`` and ``caption``; ``header`` and
                ``rows`` of a table; or ``summary`` and ``body`` of a
                collapsed text.
        """
        self.items.append(item)


def write_report(
    runs: List[WorkDir],
    path: Union[str, Path],
    images: int = 6,
    steps: Sequence[int] = (),
    load_checkpoints: bool = True,
    sections: Sequence[Section] = (),
) -> Path:
    """Write the report of one or more runs.

    Args:
        runs (list[WorkDir]): Finished or running trainings. Detections are
            compared with those of the first run.
        path (str | Path): HTML file.
        images (int): Number of validation images.
        steps (Sequence[int]): Values of K at which students with a flow are
            evaluated.
        load_checkpoints (bool): Whether to add the sections that need
            networks: detections, cost, feature maps and sampling.
        sections (Sequence[Section]): Additional sections, shown first.
    """
    make_names_unique(runs)
    loaded, errors = load_runs(runs if load_checkpoints else [])
    networks = network_sections(loaded, errors, images)
    # Must be last, since it changes K of the networks.
    accuracy = accuracy_section(runs, loaded, steps)
    all_sections = [
        *sections,
        results_section(runs),
        *training_sections(runs),
        accuracy,
        *networks,
        config_section(runs),
    ]
    page = jinja2.Template(
        TEMPLATE.read_text(encoding='utf-8'), autoescape=True
    ).render(
        title=', '.join(x.name for x in runs),
        sections=[x for x in all_sections if x.items],
        plotly=get_plotlyjs(),
    )
    path = Path(path)
    write_atomically(path, page)
    return path


def results_section(runs: List[WorkDir]) -> Section:
    """Return the section with the table of runs and teachers."""
    keys = dict.fromkeys(name for run in runs for name in run.metrics)
    metrics = [x for x in keys if not STEP_METRIC.match(x)]
    header = ['run', 'variant', 'encoder', 'seed', 'iterations', *metrics]
    rows: List[Dict[str, Any]] = []
    for run in runs:
        model = run.config.model
        row = {
            'run': run.name,
            'variant': 'baseline',
            'seed': run.config.get('randomness', {}).get('seed'),
            'iterations': run.train[-1]['iter'] if run.train else 0,
            **(run.val[-1] if run.val else {}),
        }
        if run.is_distillation:
            row['variant'] = model.get('variant', 'fmkt')
            flow = model.get('flow') or {}
            if row['variant'] != 'direct' and 'encoder' in flow:
                row['encoder'] = encoder_names(flow)
        rows.append(row)
    for name, students in runs_by_teacher(runs).items():
        checkpoint = students[0].config.model.teacher.get('checkpoint')
        if any(run.contains(checkpoint) for run in runs):
            continue  # the training of the teacher is one of the runs
        logged = next((x.teacher for x in students if x.teacher), None)
        teacher_metrics = logged or validation_of(checkpoint)
        rows.append({**teacher_metrics, 'run': name, 'variant': 'teacher'})
    section = Section('Results', 'Click a column heading to sort.')
    table = [
        # CocoMetric returns -1 for object sizes that do not occur.
        [None if row.get(key) == -1 else row.get(key) for key in header]
        for row in rows
    ]
    section.add(header=header, rows=table)
    return section


def training_sections(runs: List[WorkDir]) -> List[Section]:
    """Return the sections with curves of logged values."""
    return [
        Section('Validation metrics', figures=curves.metric_curves(runs)),
        Section(
            'Distillation losses',
            'Solid: loss of the flow, an upper bound of the loss of the '
            'deployed feature. Dotted: loss of the deployed feature. Dashed: '
            'other terms of the distillation loss.',
            (x for run in runs for x in curves.transfer_curves(run)),
        ),
        Section(
            'Flow statistics',
            'A flow with velocity 0 is the identity. In the plots of the '
            'distillation loss, the difference of the dotted and the solid '
            'curve is the contribution of the flow.',
            (x for run in runs for x in curves.flow_curves(run)),
        ),
        Section('Task losses', figures=curves.loss_curves(runs)),
    ]


def load_runs(
    runs: List[WorkDir],
) -> Tuple[List[LoadedRun], Dict[str, str]]:
    """Load the detectors of the runs.

    Returns:
        tuple: The loaded runs, and error messages by name of the run.
    """
    loaded, errors = [], {}
    for run in runs:
        if is_mmpretrain_config(run.config):
            continue
        try:
            loaded.append(load_run(run))
        except (ConfigError, OSError, RuntimeError, KeyError) as error:
            errors[run.name] = ' '.join(str(error).split())
    return loaded, errors


def network_sections(
    loaded: List[LoadedRun], errors: Dict[str, str], images: int
) -> List[Section]:
    """Return the sections that need the networks of the runs."""
    section = Section(
        'Detections',
        'Green (correct): detected by this and the first run. Blue (gained): '
        'missed by the first run. Red, dashed (lost): detected by the first '
        'run only. Orange (wrong): false positive. Score at least '
        f'{SCORE_THRESHOLD}, IoU at least 0.5. Click a figure to enlarge it.',
    )
    for name, error in errors.items():
        section.add(summary=f'{name} is not shown', body=error)
        print_log(f'{name} is not shown: {error}', logger='current')
    if not loaded:
        return [section]
    indices = features.spaced_indices(len(loaded[0].dataset), images)
    for index in indices:
        image, path = detections.draw_detections(
            loaded, index, SCORE_THRESHOLD
        )
        section.add(image=image, caption=Path(path).name)
    return [cost_section(loaded), section, *flow_sections(loaded, indices)]


def cost_section(loaded: List[LoadedRun]) -> Section:
    """Return the table of parameters and FLOPs of the deployed networks."""
    height, width = loaded[0].dataset[0]['inputs'].shape[-2:]
    models = {x.run.name: x.model for x in loaded}
    networks = {
        name: (models[students[0].name].teacher, '')
        for name, students in runs_by_teacher([x.run for x in loaded]).items()
        if models[students[0].name].teacher is not None
    }
    for run, model, _ in loaded:
        k = ''
        if run.is_distillation:
            if model.deploys_flow:
                k = model.inference_steps
            else:
                model = model.student
        networks[run.name] = model, k
    rows = []
    for name, (network, k) in networks.items():
        gflops = ''
        with suppress(Exception):  # not every network can be traced
            flops = size_and_flops(network, (width, height))[1]
            gflops = f'{flops / 1e9:.3f}'
        rows.append([name, k, f'{count_parameters(network):,}', gflops])
    section = Section('Deployment cost', f'Input size: {width} x {height}.')
    section.add(header=['network', 'K', 'parameters', 'GFLOPs'], rows=rows)
    return section


def flow_sections(
    loaded: List[LoadedRun], indices: List[int]
) -> List[Section]:
    """Return the sections of feature maps and of sampling trajectories."""
    maps = Section(
        'Feature maps',
        'Root mean square over the standardized channels, one row per level.',
    )
    trajectories = Section(
        'Sampling trajectories',
        'Distillation loss and linear CKA with the teacher for the '
        "student's feature, the estimate of each step and their mean, which "
        'is deployed. Then the trajectories of some positions of the finest '
        'level.',
    )
    for run, model, dataset in loaded:
        if getattr(model, 'teacher', None) is None:
            continue
        levels = features.read_features(model, dataset, indices)
        image = dataset.get_data_info(indices[0])['img_path']
        maps.add(image=features.draw_maps(levels, image), caption=run.name)
        stats = {level.name: features.measure_steps(level) for level in levels}
        for key in curves.STEP_STATS:
            trajectories.plot(curves.sampling_curves(run.name, stats, key))
        states = features.sampling_trajectories(levels[0])
        if states is not None:
            trajectories.plot(
                curves.trajectory_curves(run.name, levels[0].name, states)
            )
    return [maps, trajectories]


def accuracy_section(
    runs: List[WorkDir], loaded: List[LoadedRun], steps: Sequence[int]
) -> Section:
    """Return the section of accuracy over K.

    The values are from the logs and from evaluations of students with a flow.

    Args:
        runs (list[WorkDir]): All runs.
        loaded (list[LoadedRun]): Runs to evaluate; changes K of their models.
        steps (Sequence[int]): Values of K.
    """
    accuracy: Dict[str, Dict[str, Dict[int, float]]] = {}
    for run in runs:
        for name, values in run.metrics_by_steps().items():
            if name.endswith(curves.MAIN_METRICS):
                accuracy.setdefault(name, {})[run.name] = values
    for run, model, _ in loaded:
        if getattr(model, 'deploys_flow', False):
            for k in steps:
                model.inference_steps = k
                # CocoMetric returns no metrics if nothing is detected.
                if metrics := evaluate(run, model):
                    name, value = metric_of(metrics, None)
                    by_run = accuracy.setdefault(name, {})
                    by_run.setdefault(run.name, {})[k] = value
    figures = [curves.accuracy_by_steps(x, y) for x, y in accuracy.items()]
    return Section('Accuracy by sampling steps', figures=figures)


def config_section(runs: List[WorkDir]) -> Section:
    """Return the section of configs and their differences."""
    section = Section('Configs')
    if len(runs) > 1:
        rows = [[key, *values] for key, values in differences(runs).items()]
        section.add(header=['key', *(x.name for x in runs)], rows=rows)
    for run in runs:
        section.add(
            summary=f'Config of {run.name}', body=run.config.pretty_text
        )
    return section
