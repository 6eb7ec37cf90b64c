"""The model zoo: each shipped config with what was measured of it.

Made from the configs, the results of the tables and the published baselines;
what was not run has no number.
"""

import json
import statistics
from functools import cache
from pathlib import Path
from typing import Any, Dict, List, Tuple

import yaml
from mmengine.config import Config

from mmfmkt.utils.files import write_atomically

from .page import (
    Line,
    best_metric,
    between,
    differences,
    latency_of,
    lines_of,
    mean_and_error,
    shown,
    with_error,
)
from .plan import ROOT, Table

INDEX = ROOT / 'model-index.yml'
README = ROOT / 'README.md'
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

Made by `python tools/dev/benchmark/accuracy.py TABLE --render` from the
configs, the results of the tables (`docs/results/`) and published baselines;
the same numbers are in the `metafile.yml` of each folder of `configs/`, in
OpenMMLab's format. What was not run here has no number.
"""


def write(tables: List[Table]) -> None:
    """Write metafiles, their index, page and the table of README.

    Args:
        tables (list[Table]): All tables; those without results are left out.
    """
    for name, text in metafiles(tables).items():
        write_atomically(ROOT / name, text)
    write_atomically(PAGE, page(tables))
    text = README.read_text(encoding='utf-8')
    write_atomically(README, readme(text, tables))


@cache
def shipped() -> Dict[str, Config]:
    """Shipped configs by their path from the project's folder."""
    found = sorted((ROOT / 'configs').rglob('*.py'))
    return {
        path.relative_to(ROOT).as_posix(): Config.fromfile(path)
        for path in found
        if '_base_' not in path.parts
    }


def results_of(table: Table) -> dict:
    """Results of a table, empty where there are none."""
    if not table.results.is_file():
        return {}
    return json.loads(table.results.read_text(encoding='utf-8'))


def network(model: Any) -> str:
    """A network in words: its kind, backbone and depth."""
    if isinstance(model, str):
        return Path(model.split('::')[-1]).stem
    backbone = model.get('backbone') or {}
    size = backbone.get('depth') or backbone.get('arch') or ''
    kind = model.get('type', '')
    inner = f'{str(backbone.get("type", "")).split(".")[-1]} {size}'.strip()
    return inner if kind == 'ImageClassifier' else f'{kind} {inner}'.strip()


def metadata(config: Config) -> Dict[str, str]:
    """Variant, student and teacher of a config."""
    model = config.model
    if 'student' not in model:
        return {'Network': network(model)}
    told = {
        'Variant': model.get('variant', 'fmkt'),
        'Student': network(model.student),
    }
    if model.get('teacher'):
        told['Teacher'] = network(model.teacher.config)
    return told


def measured(tables: List[Table]) -> Dict[str, List[dict]]:
    """What tables have of configs, by path, as metafiles have it."""
    found: Dict[str, List[dict]] = {}
    for table in tables:
        results = results_of(table)
        for line in lines_of(table, results):
            if not line.values:
                continue
            mean, error = mean_and_error(list(line.values.values()))
            metrics = {table.label: number(mean, table.metric)}
            if error is not None:
                metrics['standard error'] = number(error, table.metric)
            entry: Dict[str, Any] = {
                'Task': table.task,
                'Dataset': table.dataset,
                'Metrics': metrics,
                'Seeds': sorted(line.values),
            }
            if line.failed:
                entry['Failed Seeds'] = line.failed
            if line.k != '-':
                entry['Inference Steps'] = int(line.k)
            distils = 'student' in shipped()[line.method.config].model
            if options := line.method.applied(distils):
                entry['Options'] = options
            seconds, memory = spent(line, results)
            entry['Training Time (s)'] = round(seconds)
            entry['Training Memory (GB)'] = round(memory, 2)
            found.setdefault(line.method.config, []).append(entry)
    return found


def readme(text: str, tables: List[Table]) -> str:
    """README with all results in one place."""
    rows = [
        '| data | method | result | to the best plain metric | latency | '
        'seeds |',
        '|---|---|---|---|---|---|',
    ]
    for table in tables:
        results = results_of(table)
        lines = lines_of(table, results)
        best = best_metric(lines)
        for line in lines:
            told = with_error(list(line.values.values()), table.metric)
            compared = ''
            if best is not None and line is not best:
                pairs = differences(line, best)
                compared = with_error(pairs, table.metric, '+')
            failed = f', {len(line.failed)} failed' if line.failed else ''
            rows.append(
                f'| {table.subject} | {line.name} | {told} {table.label} '
                f'| {compared} | {latency_of(line, results)} '
                f'| {len(line.values)}{failed} |'
            )
    return between(text, 'results', '\n'.join(rows), README)


def spent(line: Line, results: dict) -> Tuple[float, float]:
    """Median of the seconds, and the most memory, of a line's runs."""
    runs = [
        x
        for x in results['runs']
        if x['method'] == line.method.name and 'seconds' in x
    ]
    seconds = statistics.median(x['seconds'] for x in runs)
    return seconds, max(x['peak_gb'] for x in runs)


def number(value: float, metric: str) -> float:
    """A value as tables show it."""
    return float(shown(value, metric))


def metafiles(tables: List[Table]) -> Dict[str, str]:
    """Return the text of each folder's metafile, and of their index."""
    numbers = measured(tables)
    models: Dict[str, List[dict]] = {}
    for path, config in shipped().items():
        entry: Dict[str, Any] = {
            'Name': Path(path).stem,
            'In Collection': 'FM-KT',
            'Config': path,
            'Metadata': metadata(config),
        }
        if path in numbers:
            entry['Results'] = numbers[path]
        name = f'{Path(path).parent.as_posix()}/metafile.yml'
        models.setdefault(name, []).append(entry)
    files = {
        name: dict(Collections=[COLLECTION], Models=entries)
        for name, entries in models.items()
    }
    files[INDEX.name] = dict(Import=sorted(models))
    made = '# Made by tools/dev/benchmark/accuracy.py; see docs/zoo.md.'
    return {
        name: f'{made}\n{yaml.safe_dump(content, sort_keys=False)}'
        for name, content in files.items()
    }


def page(tables: List[Table]) -> str:
    """The page."""
    parts = [HEAD]
    parts.append('## Measured here\n')
    rows = [
        '| config | data | K | metric | mean ± standard error | seeds | '
        'training, memory |',
        '|---|---|---|---|---|---|---|',
    ]
    for table in tables:
        results = results_of(table)
        for line in lines_of(table, results):
            if not line.values:
                continue
            seconds, memory = spent(line, results)
            failed = f', {len(line.failed)} failed' if line.failed else ''
            told = with_error(list(line.values.values()), table.metric)
            rows.append(
                f'| {line.name}: `{line.method.config}` | {table.dataset} '
                f'| {line.k} | {table.label} | {told} '
                f'| {len(line.values)}{failed} '
                f'| {seconds:.0f} s, {memory:.1f} GB |'
            )
    parts.append('\n'.join(rows) + '\n')
    parts.append('## Published, of the same pairs\n')
    rows = [
        '| config | data | metric | student | teacher | methods | source |',
        '|---|---|---|---|---|---|---|',
    ]
    for entry in yaml.safe_load(PUBLISHED.read_text(encoding='utf-8')):
        methods = ', '.join(f'{k} {v}' for k, v in entry['methods'].items())
        rows.append(
            f'| `{entry["config"]}` | {entry["dataset"]} | {entry["metric"]} '
            f'| {entry.get("student", "")} | {entry.get("teacher", "")} '
            f'| {methods} | {entry["source"]} |'
        )
    parts.append('\n'.join(rows) + '\n')
    parts.append('## All configs\n')
    rows = ['| config | variant | student | teacher |', '|---|---|---|---|']
    for path, config in shipped().items():
        told = metadata(config)
        rows.append(
            f'| `{path}` | {told.get("Variant", "")} '
            f'| {told.get("Student", told.get("Network"))} '
            f'| {told.get("Teacher", "")} |'
        )
    parts.append('\n'.join(rows) + '\n')
    return '\n'.join(parts)
