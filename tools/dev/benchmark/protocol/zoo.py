"""Model zoo, results pages and metafiles, written from results and configs."""

import statistics
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import yaml
from mmengine.config import Config

from mmfmkt.apis.compare.results import (
    ResultRow,
    format_value,
    load_results,
    markdown_table,
    mean_and_standard_error,
)
from mmfmkt.utils.files import write_atomically

from .page import replace_section
from .plan import ROOT, Table
from .summaries import (
    all_results,
    mean_of,
    number_of_seeds,
    rows_with_values,
    summary,
)

INDEX = ROOT / 'model-index.yml'
# Pages with the summary; values: prefix of their links to pages in docs/.
SUMMARY_PAGES = {
    ROOT / 'README.md': 'docs/',
    ROOT / 'docs' / 'index.md': '',
    ROOT / 'docs' / 'results.md': '',
}
RESULTS = ROOT / 'docs' / 'results.md'
PAGE = ROOT / 'docs' / 'zoo.md'
PUBLISHED = ROOT / 'docs' / 'results' / 'published.yml'
COLLECTION = {
    'Name': 'FM-KT',
    'Metadata': {
        'Training Techniques': ['Knowledge Distillation', 'Flow Matching']
    },
    'Paper': {
        'URL': 'https://arxiv.org/abs/2402.02012',
        'Title': 'Precise Knowledge Transfer via Flow Matching',
    },
    'README': 'README.md',
}
HEAD = """# Model zoo

`python tools/dev/benchmark/accuracy.py TABLE --render`, with any file of
`tools/dev/benchmark/tables/` as `TABLE`, rewrites this page from the results
of all tables. The file `metafile.yml` in each folder of `configs/` has the
results of the first table below in OpenMMLab's format. Trained checkpoints are
not published.

A config without a row in the first table has no measured result, with two
exceptions. The results of teachers are on the results pages. Some methods were
run with options on another config: for example, Theta on BCCD was run on
`fmkt_retinanet_r18_bccd.py`, not on `theta_retinanet_r18_bccd.py`.
"""
MEASURED = """## Measured results

Each row is a method and the config that was run. A method that deploys its
flow has a row for each K, the number of Euler steps in deployment; "-" in the
column K: no flow is deployed.

- If the method, loss or encoder of a row differs from that of its config, the
  config was run with the options that `metafile.yml` lists (`--cfg-options`).
- FM-KT uses `BottleneckEncoder` on detectors and `ConvEncoder` on classifiers
  unless the row names an encoder.
- Theta is FM-KT^Theta. It has a direct term and ensemble weight 0
  ([Method](method.md#variants)). "Theta, ensemble_weight = 1" has both terms.
  "Theta, as published" has ensemble weight 1 and no direct term.
- Box mAP is in [0, 1], top-1 in %. The standard error is over seeds.
- Training time, memory: median time of a training run, and maximum memory of
  its process, over the runs of the method, on a CPU.
"""
PUBLISHED_HEAD = """## Published results of the same students and teachers

Results that the named source reports; they were not measured here.
Student: result of the student that was trained without a teacher. Teacher:
result of the teacher. Distilled student: name of each method and its result.
"-": not collected. Box AP and top-1 are in %. Settings of the source may
differ from those of the config: with KD, mdistiller weights the task loss by
0.1 and KD by 0.9 on CIFAR-100, and both by 0.5 on ImageNet, these configs both
by 1; with the Mask R-CNN teacher, MMRazor weights PKD by 6.
"""
CONFIGS_HEAD = """## All configs

Variant: value of `model.variant`. Student: detector, backbone and depth, or
the classifier's backbone and depth. Teacher: name of its config. Configs with
variant "-" train a baseline student or a teacher on labels alone; the column
"Student" then names the trained network.

- `w16` in a config's name: student of quarter width (`base_channels=16`).
- `cifar10_folder` and `cifar100_folder` read images from folders; `cifar10`
  and `cifar100` read CIFAR's original files.
- `flow_resnet8.py` is a control without distillation: OFM-KT with
  `loss_weight=0`.
- `configs/retinanet/fmkt_retinanet_r101_r50.py` inherits
  `configs/fmkt_retinanet_r101_r50.py` and changes nothing.
"""


def write(tables: List[Table]) -> None:
    """Write metafiles, their index, the model zoo and the results tables.

    Args:
        tables (list[Table]): All tables; those without results are left out.
    """
    for name, text in {**metafiles(tables), **pages(tables)}.items():
        write_atomically(ROOT / name, text)


def pages(tables: List[Table]) -> Dict[str, str]:
    """Return the text of each page that shows results of several tables."""
    texts = {PAGE: page(tables)}
    for path, folder in SUMMARY_PAGES.items():
        text = path.read_text(encoding='utf-8')
        texts[path] = replace_section(
            text, 'summary', summary(tables, folder), path
        )
    texts[RESULTS] = replace_section(
        texts[RESULTS], 'results', all_results(tables), RESULTS
    )
    return {x.relative_to(ROOT).as_posix(): y for x, y in texts.items()}


@cache
def shipped_configs() -> Dict[str, Config]:
    """Return the shipped configs by path relative to the project."""
    paths = sorted((ROOT / 'configs').rglob('*.py'))
    return {
        path.relative_to(ROOT).as_posix(): Config.fromfile(path)
        for path in paths
        if '_base_' not in path.parts
    }


def network_name(model: Any) -> str:
    """Return a short name of a network, such as ``RetinaNet ResNet 18``.

    Args:
        model (dict | str): Model config, or path of a config, whose file name
            is then returned.
    """
    if isinstance(model, str):
        return Path(model.split('::')[-1]).stem
    backbone = model.get('backbone') or {}
    size = backbone.get('depth') or backbone.get('arch') or ''
    model_type = model.get('type', '')
    backbone_name = (
        f'{str(backbone.get("type", "")).split(".")[-1]} {size}'.strip()
    )
    return (
        backbone_name
        if model_type == 'ImageClassifier'
        else f'{model_type} {backbone_name}'.strip()
    )


def metadata(config: Config) -> Dict[str, str]:
    """Return variant, student and teacher of a config."""
    model = config.model
    if 'student' not in model:
        return {'Network': network_name(model)}
    entries = {
        'Variant': model.get('variant', 'fmkt'),
        'Student': network_name(model.student),
    }
    if model.get('teacher'):
        entries['Teacher'] = network_name(model.teacher.config)
    return entries


def results_by_config(tables: List[Table]) -> Dict[str, List[dict]]:
    """Return the ``Results`` entries of metafiles, by config path."""
    entries: Dict[str, List[dict]] = {}
    for table in tables:
        results = load_results(table)
        for row in rows_with_values(table):
            mean, error = mean_and_standard_error(list(row.values.values()))
            metrics = {table.label: rounded(mean, table.metric)}
            if error is not None:
                metrics['standard error'] = rounded(error, table.metric)
            entry: Dict[str, Any] = {
                'Task': table.task,
                'Dataset': table.dataset,
                'Metrics': metrics,
                'Seeds': sorted(row.values),
            }
            if row.failed:
                entry['Failed Seeds'] = row.failed
            if row.k != '-':
                entry['Inference Steps'] = int(row.k)
            is_distiller = (
                'student' in shipped_configs()[row.method.config].model
            )
            if options := row.method.effective_options(is_distiller):
                entry['Options'] = options
            if cost := training_cost(row, results):
                entry['Training Time (s)'] = round(cost[0])
                entry['Training Memory (GB)'] = round(cost[1], 2)
            entries.setdefault(row.method.config, []).append(entry)
    return entries


def training_cost(
    row: ResultRow, results: dict
) -> Optional[Tuple[float, float]]:
    """Return training time and memory of a method.

    Returns:
        tuple: Median seconds and maximum GB of the method's runs; None if all
        of them were resumed.
    """
    runs = [
        x
        for x in results['runs']
        if x['method'] == row.method.name and 'seconds' in x
    ]
    if not runs:
        return None
    seconds = statistics.median(x['seconds'] for x in runs)
    return seconds, max(x['peak_gb'] for x in runs)


def rounded(value: float, metric: str) -> float:
    """Round a value to the decimals of the tables."""
    return float(format_value(value, metric))


def metafiles(tables: List[Table]) -> Dict[str, str]:
    """Return the text of each folder's metafile, and of their index."""
    entries_of_configs = results_by_config(tables)
    configs = shipped_configs()
    stems = Counter(Path(path).stem for path in configs)
    models: Dict[str, List[dict]] = {}
    for path, config in configs.items():
        folder, stem = Path(path).parent.name, Path(path).stem
        is_unique = stems[stem] == 1
        entry: Dict[str, Any] = {
            'Name': stem if is_unique else f'{folder}_{stem}',
            'In Collection': 'FM-KT',
            'Config': path,
            'Metadata': metadata(config),
        }
        if path in entries_of_configs:
            entry['Results'] = entries_of_configs[path]
        name = f'{Path(path).parent.as_posix()}/metafile.yml'
        models.setdefault(name, []).append(entry)
    files = {
        name: dict(Collections=[COLLECTION], Models=entries)
        for name, entries in models.items()
    }
    files[INDEX.name] = dict(Import=sorted(models))
    header = '# Made by tools/dev/benchmark/accuracy.py; see docs/zoo.md.'
    return {
        name: f'{header}\n{yaml.safe_dump(content, sort_keys=False)}'
        for name, content in files.items()
    }


def page(tables: List[Table]) -> str:
    """Return the text of the page of the model zoo."""
    sections = (
        HEAD,
        f'{MEASURED}\n{measured_results(tables)}\n',
        f'{PUBLISHED_HEAD}\n{published_results()}\n',
        f'{CONFIGS_HEAD}\n{all_configs()}\n',
    )
    return '\n'.join(sections)


def measured_results(tables: List[Table]) -> str:
    """Return the results of all tables, with the cost of training."""
    header = (
        'Method: config',
        'Data, student',
        'K',
        'Metric',
        'Mean ± standard error',
        'Seeds',
        'Training time, memory',
    )
    rows = []
    for table in tables:
        results = load_results(table)
        for row in rows_with_values(table):
            cost = training_cost(row, results)
            rows.append(
                [
                    f'{row.name}: `{row.method.config}`',
                    f'[{table.subject}]({table.page.name})',
                    row.k,
                    table.label,
                    mean_of(row, table.metric),
                    number_of_seeds(row),
                    f'{cost[0]:.0f} s, {cost[1]:.1f} GB' if cost else '',
                ]
            )
    return markdown_table(header, rows)


def published_results() -> str:
    """Return the results that papers and repositories report."""
    header = (
        'Config',
        'Data',
        'Metric',
        'Student',
        'Teacher',
        'Distilled student',
        'Source',
    )
    rows = [
        [
            f'`{entry["config"]}`',
            entry['dataset'],
            entry['metric'],
            str(entry.get('student', '-')),
            str(entry.get('teacher', '-')),
            ', '.join(f'{k} {v}' for k, v in entry['methods'].items()),
            entry['source'],
        ]
        for entry in yaml.safe_load(PUBLISHED.read_text(encoding='utf-8'))
    ]
    return markdown_table(header, rows)


def all_configs() -> str:
    """Return variant, student and teacher of each shipped config."""
    rows = []
    for path, config in shipped_configs().items():
        entries = metadata(config)
        student = entries.get('Student') or entries['Network']
        variant, teacher = (
            entries.get(x, '-') for x in ('Variant', 'Teacher')
        )
        rows.append([f'`{path}`', variant, student, teacher])
    return markdown_table(('Config', 'Variant', 'Student', 'Teacher'), rows)
