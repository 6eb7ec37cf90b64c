"""What a table is to hold, from its file."""

import re
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import yaml

from mmfmkt.utils import ConfigError
from mmfmkt.utils.schema import PositiveInt, check_keys, did_you_mean

ROOT = Path(__file__).resolve().parents[4]
SCHEMA = dict(
    title=str,
    task=str,
    dataset=str,
    metric=str,
    label=str,
    page=str,
    results=str,
    plot=Optional[str],
    image_size=Sequence[PositiveInt],
    seeds=Sequence[int],
    amp=bool,
    teacher=dict,
    options=Optional[Dict[str, Any]],
    methods=Dict[str, dict],
)
NEEDED = tuple(x for x in SCHEMA if x not in ('plot', 'options', 'amp'))
TEACHER_SCHEMA = dict(
    config=str,
    seed=int,
    checkpoint=Optional[str],
    options=Optional[Dict[str, Any]],
    cache=bool,
)
METHOD_SCHEMA = dict(
    config=str,
    options=Optional[Dict[str, Any]],
    seeds=Optional[Sequence[int]],
    inference_steps=Optional[Sequence[PositiveInt]],
    plain_metric=bool,
    student=bool,
)


@dataclass
class Method:
    """A line of a table.

    Attributes:
        name (str): What the table calls it.
        config (str): Path of its config.
        seeds (list[int]): Of its runs.
        options (dict): Overrides of the config, by dotted keys.
        inference_steps (list[int]): K that it is evaluated at; none where
            it deploys no flow.
        plain_metric (bool): Whether it is a metric without a flow, the best
            of which the others are compared with.
        student (bool): Whether it is the student without a teacher.
        checkpoint (str, optional): Trained weights, which are evaluated
            instead of training.
    """

    name: str
    config: str
    seeds: List[int]
    options: Dict[str, Any] = field(default_factory=dict)
    inference_steps: List[int] = field(default_factory=list)
    plain_metric: bool = False
    student: bool = False
    checkpoint: Optional[str] = None

    def applied(self, distils: bool) -> Dict[str, Any]:
        """Options that its config takes: a plain student has no flow.

        Args:
            distils (bool): Whether the config is a distillation.
        """
        return {
            key: deepcopy(value)
            for key, value in self.options.items()
            if distils or not key.startswith('model.')
        }


@dataclass
class Table:
    """A table.

    Attributes:
        name (str): That of its file.
        title (str): What it shows, in a line: data, student, and how.
        task (str): As a metafile calls it.
        dataset (str): Its name.
        metric (str): Name of the metric, as the evaluator gives it.
        label (str): What the table calls it.
        page (Path): Markdown file with a place for it.
        results (Path): JSON file of all runs.
        plot (Path, optional): Picture of accuracy against latency.
        image_size (list[int]): Width and height that costs are measured at.
        teacher (Method): Of one seed; trained, or evaluated where it has a
            checkpoint, before the others.
        methods (list[Method]): Its lines.
        amp (bool): Whether its runs train in mixed precision.
        cache (bool): Whether the teacher's outputs are kept, which is worth
            it where training sees a view of an image more than once.
    """

    name: str
    title: str
    task: str
    dataset: str
    metric: str
    label: str
    page: Path
    results: Path
    plot: Optional[Path]
    image_size: List[int]
    teacher: Method
    methods: List[Method]
    amp: bool = False
    cache: bool = True

    @property
    def subject(self) -> str:
        """Data and student, of the title."""
        return ', '.join(self.title.split(', ')[:2])

    @property
    def student(self) -> Optional[Method]:
        """The method that has no teacher, if there is one."""
        return next((x for x in self.methods if x.student), None)


@dataclass(frozen=True)
class Run:
    """A method with a seed.

    Attributes:
        method (Method): The method.
        seed (int): The seed.
    """

    method: Method
    seed: int

    def __str__(self) -> str:
        return f'{self.method.name}, seed {self.seed}'

    @property
    def folder(self) -> str:
        """Name of its work folder."""
        slug = re.sub(r'[^\w.=-]+', '_', self.method.name).strip('_').lower()
        return f'{slug}/{self.seed}'


def all_tables() -> List[Table]:
    """The tables that the project has."""
    found = sorted(Path(__file__).parents[1].glob('tables/*.yml'))
    return [read_table(str(path)) for path in found]


def read_table(path: str) -> Table:
    """Read a table's file.

    Raises:
        ConfigError: If it is not there, or not of this form.
    """
    if not Path(path).is_file():
        raise ConfigError(f'The table {path!r} does not exist.')
    try:
        raw = yaml.safe_load(Path(path).read_text(encoding='utf-8'))
    except yaml.YAMLError as error:
        raise ConfigError(f'The table {path!r} is no YAML: {error}') from error
    if not isinstance(raw, dict):
        raise ConfigError(f'The table {path!r} must be a mapping of keys.')
    check_keys(raw, SCHEMA, 'table', required=NEEDED)
    shared = raw.get('options') or {}
    teacher = raw['teacher']
    check_keys(teacher, TEACHER_SCHEMA, 'teacher', required=('config', 'seed'))
    methods = []
    for name, own in raw['methods'].items():
        check_keys(own, METHOD_SCHEMA, f'methods.{name}', required=('config',))
        own = dict(own, options={**shared, **(own.get('options') or {})})
        own.setdefault('seeds', raw['seeds'])
        methods.append(Method(name, **own))
    named = ('title', 'task', 'dataset', 'metric', 'label', 'image_size')
    given = {x: raw[x] for x in named}
    return Table(
        name=Path(path).stem,
        page=ROOT / raw['page'],
        results=ROOT / raw['results'],
        plot=ROOT / raw['plot'] if raw.get('plot') else None,
        teacher=Method(
            'teacher',
            teacher['config'],
            [teacher['seed']],
            teacher.get('options') or {},
            checkpoint=teacher.get('checkpoint'),
        ),
        methods=methods,
        amp=raw.get('amp', False),
        cache=teacher.get('cache', True),
        **given,
    )


def runs_of(
    table: Table,
    only: Optional[Sequence[str]] = None,
    seeds: Optional[Sequence[int]] = None,
) -> List[Run]:
    """The runs of a table, seed by seed.

    Args:
        table (Table): The table.
        only (Sequence[str], optional): Of these methods.
        seeds (Sequence[int], optional): Of these seeds.

    Raises:
        ConfigError: If there is no method of a name.
    """
    names = [x.name for x in table.methods]
    for name in only or ():
        if name not in names:
            raise ConfigError(
                f'--only: there is no method {name!r}'
                f'{did_you_mean(name, names)}.'
            )
    found = [
        Run(method, seed)
        for method in table.methods
        for seed in method.seeds
        if (not only or method.name in only) and (not seeds or seed in seeds)
    ]
    # So that what is interrupted has whole seeds, which pair.
    return sorted(found, key=lambda run: run.seed)
