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


def write(tables: List[Table]) -> None:
    """Write metafiles, their index, the model zoo and the results tables.

    Args:
        tables (list[Table]): All tables; those without results are left out.
    """
    for name, text in {**metafiles(tables), **pages(tables)}.items():
        write_atomically(ROOT / name, text)


def pages(tables: List[Table]) -> Dict[str, str]:
    """Return the text of each page that shows results of several tables."""
    docs_summary = dict(summary=summary(tables, ''))
    sections = {
        'README.md': dict(summary=summary(tables, 'docs/')),
        'docs/index.md': docs_summary,
        'docs/results.md': dict(docs_summary, results=all_results(tables)),
        'docs/zoo.md': dict(
            measured=measured_results(tables),
            published=published_results(),
            configs=all_configs(),
        ),
    }
    texts = {}
    for path, sections_of_page in sections.items():
        texts[path] = (ROOT / path).read_text(encoding='utf-8')
        for name, section in sections_of_page.items():
            texts[path] = replace_section(
                texts[path], name, section, ROOT / path
            )
    return texts


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
