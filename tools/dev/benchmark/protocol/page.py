"""What a table's results mean, as Markdown and as a picture."""

import json
import statistics
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from mmfmkt.utils import ConfigError
from mmfmkt.utils.files import write_atomically

from .plan import Method, Table


class Line(NamedTuple):
    """A method at one K.

    Attributes:
        name (str): What the table calls it.
        method (Method): The method.
        k (str): K, or ``'-'``.
        values (dict): The metric by seed.
        failed (list): Seeds of which the run failed.
    """

    name: str
    method: Method
    k: str
    values: Dict[int, float]
    failed: List[int]


def render(table: Table) -> None:
    """Write the table into its page, and the plot beside it.

    Raises:
        ConfigError: If the page has no place for it.
    """
    if not table.results.is_file():
        return
    results = json.loads(table.results.read_text(encoding='utf-8'))
    text = table.page.read_text(encoding='utf-8')
    write_atomically(table.page, in_place(text, table, results))
    if table.plot is not None and results.get('cost'):
        draw(table, results)


def in_place(text: str, table: Table, results: dict) -> str:
    """A page with the table in its place.

    Args:
        text (str): The page.
        table (Table): The table.
        results (dict): Its results.

    Raises:
        ConfigError: If the page has no place for it.
    """
    return between(text, table.name, markdown(table, results), table.page)


def between(text: str, name: str, part: str, path: Path) -> str:
    """A page with something else between its marks.

    Args:
        text (str): The page.
        name (str): That of the marks.
        part (str): What is to stand between them.
        path (Path): Of the page, for the error.

    Raises:
        ConfigError: If the page has no such marks.
    """
    begin, end = (f'<!-- {name}: {x} -->' for x in ('table', 'end of table'))
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ConfigError(
            f'{path} must have a line {begin} and a line {end}, between '
            'which the table is to stand.'
        )
    front, rest = text.split(begin)
    _, back = rest.split(end)
    return f'{front}{begin}\n\n{part}\n\n{end}{back}'


def lines_of(table: Table, results: dict) -> List[Line]:
    """The lines of a table: methods, of those with a flow each K."""
    found = []
    for method in table.methods:
        runs = [
            x for x in results.get('runs', ()) if x['method'] == method.name
        ]
        failed = [x['seed'] for x in runs if 'error' in x]
        for k in [str(x) for x in method.inference_steps] or ['-']:
            values = {
                x['seed']: x['metrics'][k][table.metric]
                for x in runs
                if k in x.get('metrics', {})
            }
            name = method.name if k == '-' else f'{method.name}, K = {k}'
            if values or failed:
                found.append(Line(name, method, k, values, failed))
    return found


def mean_and_error(values: Sequence[float]) -> Tuple[float, Optional[float]]:
    """Mean, and its standard error where there are two or more."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return mean, None
    return mean, statistics.stdev(values) / len(values) ** 0.5


def differences(ours: Line, theirs: Line) -> List[float]:
    """Paired differences, of the seeds that both have."""
    seeds = sorted(set(ours.values) & set(theirs.values))
    return [ours.values[x] - theirs.values[x] for x in seeds]


def best_metric(lines: Sequence[Line]) -> Optional[Line]:
    """The best of the metrics without a flow."""
    plain = [x for x in lines if x.method.plain_metric and x.values]
    return max(
        plain, key=lambda x: statistics.mean(x.values.values()), default=None
    )


def teacher_value(table: Table, results: dict) -> Optional[float]:
    """The metric of the teacher."""
    for run in results['runs']:
        if run['method'] == table.teacher.name and 'metrics' in run:
            return run['metrics']['-'][table.metric]
    return None


def markdown(table: Table, results: dict) -> str:
    """The table, with what its columns mean."""
    lines = lines_of(table, results)
    best, teacher = best_metric(lines), teacher_value(table, results)
    student = next((x for x in lines if x.method.student and x.values), None)
    rows = [
        f'| method | {table.label} | to the best plain metric | '
        'of the gap | latency | seeds |',
        '|---|---|---|---|---|---|',
    ]
    for line in lines:
        rows.append(row(line, best, student, teacher, results, table.metric))
    said = f'{table.title}. Mean and standard error over seeds'
    if teacher is not None:
        said += f'; the teacher has {shown(teacher, table.metric)}'
    if best is not None:
        said += (
            f'. The best plain metric is {best.name}; differences to it are '
            'paired, seed by seed'
        )
    if student is not None and teacher is not None:
        said += '. The gap is that between the plain student and the teacher'
    return '\n'.join([f'{said}. Latency: over the plain student.', '', *rows])


def shown(value: float, metric: str, sign: str = '') -> str:
    """A value as it is read: percent have one digit less than shares."""
    digits = 2 if 'accuracy' in metric else 3
    return f'{value:{sign}.{digits}f}'


def with_error(values: Sequence[float], metric: str, sign: str = '') -> str:
    """Mean and standard error, in words."""
    if not values:
        return ''
    mean, error = mean_and_error(values)
    said = shown(mean, metric, sign)
    return said if error is None else f'{said} ± {shown(error, metric)}'


def row(
    line: Line,
    best: Optional[Line],
    student: Optional[Line],
    teacher: Optional[float],
    results: dict,
    metric: str,
) -> str:
    """One line in Markdown."""
    compared, share = '', ''
    if best is not None and line is not best:
        compared = with_error(differences(line, best), metric, '+')
    if line.values and student is not None and teacher is not None:
        low = statistics.mean(student.values.values())
        mean = statistics.mean(line.values.values())
        if line is not student and teacher > low:
            share = f'{(mean - low) / (teacher - low):.0%}'
    each = [shown(line.values[x], metric) for x in sorted(line.values)]
    each += [f'{seed} failed' for seed in line.failed]
    cells = (
        line.name,
        with_error(list(line.values.values()), metric),
        compared,
        share,
        latency_of(line, results),
        ', '.join(each),
    )
    return f'| {" | ".join(cells)} |'


def latency_of(line: Line, results: dict) -> str:
    """Latency over the plain student, empty where it was not measured."""
    cost = results.get('cost', {}).get(line.method.name, {})
    ratio = cost.get('latency', {}).get(line.k, {}).get('ratio')
    return '' if ratio is None else f'{ratio:.3f}'


def front(points: Dict[str, Tuple[float, float]]) -> List[str]:
    """Names of the Pareto front: none is both as fast and more accurate.

    Args:
        points (dict): Latency and accuracy by name.
    """
    found: List[str] = []
    highest = float('-inf')
    for name in sorted(points, key=lambda x: (points[x][0], -points[x][1])):
        if points[name][1] > highest:
            highest = points[name][1]
            found.append(name)
    return found


def draw(table: Table, results: dict) -> None:
    """Draw accuracy against deployed latency, with the Pareto front."""
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    points: Dict[str, Tuple[float, float]] = {}
    errors: Dict[str, Tuple[float, list]] = {}
    for line in lines_of(table, results):
        cost: Dict[str, Any] = results['cost'].get(line.method.name, {})
        latency = cost.get('latency', {}).get(line.k)
        if latency and line.values:
            mean, error = mean_and_error(list(line.values.values()))
            # What deploys the plain student has its latency.
            ratio = latency['ratio']
            spread = [[ratio - latency['low']], [latency['high'] - ratio]]
            points[line.name] = ratio, mean
            errors[line.name] = error or 0.0, spread
    figure, axes = plt.subplots(figsize=(8, 5))
    edge = front(points)
    # The legend's lines stand as the points do, the best above.
    for index, name in enumerate(sorted(points, key=lambda x: -points[x][1])):
        error, spread = errors[name]
        axes.errorbar(
            *points[name],
            yerr=error,
            xerr=spread,
            fmt='o' if name in edge else 'x',
            color=plt.get_cmap('tab20')(index % 20),
            capsize=3,
            label=name,
        )
    axes.plot(
        *zip(*(points[name] for name in edge)),
        color='grey',
        linewidth=1,
        zorder=0,
        label='Pareto front',
    )
    axes.legend(loc='center left', bbox_to_anchor=(1.0, 0.5), frameon=False)
    axes.set_xlabel('latency / plain student, median and quartiles')
    axes.set_ylabel(f'{table.label}, mean and standard error')
    axes.set_title(table.title)
    figure.savefig(table.plot, dpi=120, bbox_inches='tight')
    plt.close(figure)
