"""Benchmark tables: methods, seeds and pages, read from `tables/*.yml`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import yaml

from mmfmkt.apis.compare import Comparison, Method, Run
from mmfmkt.utils import ConfigError
from mmfmkt.utils.schema import PositiveInt, check_keys, did_you_mean

# Names of methods in published tables and plots, by their names in the YAML
# files and result files.
DISPLAY_NAMES = {
    'plain': 'Baseline student',
    'plain, neck at the same rate': 'Baseline student, neck lr_mult = 40',
    'KD, standardised logits': 'KD, standardized logits',
    'PKD and CrossKD': 'PKD + CrossKD',
    'Theta with ensemble': 'Theta, ensemble_weight = 1',
    'Theta, published': 'Theta, as published',
    'FM-KT conv': 'FM-KT, ConvEncoder',
    'FM-KT by KD': 'FM-KT with KD',
    'FM-KT by DIST': 'FM-KT with DIST',
    'FM-KT by DIST, bottleneck': 'FM-KT with DIST, BottleneckEncoder',
}
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
REQUIRED = tuple(x for x in SCHEMA if x not in ('plot', 'options', 'amp'))
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


@dataclass(kw_only=True)
class Table(Comparison):
    """A comparison with a page in the documentation.

    Attributes:
        name (str): Name of the table's file without suffix.
        task (str): Task as in OpenMMLab's metafiles.
        dataset (str): Name of the data set.
        page (Path): Markdown file with comments that mark the table's place.
        plot (Path, optional): Plot of accuracy and latency.
        image_size (list[int]): Width and height of the images on which costs
            are measured.
        cache (bool): Whether to cache the teacher's outputs, which saves time
            if training repeats the augmented views of an image.
    """

    name: str
    task: str
    dataset: str
    page: Path
    plot: Optional[Path]
    image_size: List[int]
    cache: bool = True

    def select_runs(
        self, only: Optional[Sequence[str]], seeds: Optional[Sequence[int]]
    ) -> List[Run]:
        """Return some of the runs, ordered by seed.

        Args:
            only (Sequence[str], optional): Names of the methods; default: all.
            seeds (Sequence[int], optional): Seeds; default: all.

        Raises:
            ConfigError: If ``only`` has a name that no method has.
        """
        names = [x.name for x in self.methods]
        for name in only or ():
            if name not in names:
                raise ConfigError(
                    f'--only: there is no method {name!r}'
                    f'{did_you_mean(name, names)}.'
                )
        return [
            run
            for run in self.runs()
            if run.method.name in (only or names)
            and (not seeds or run.seed in seeds)
        ]

    @property
    def subject(self) -> str:
        """Data and student: the first two parts of the title."""
        return ', '.join(self.title.split(', ')[:2])


def all_tables() -> List[Table]:
    """Read all tables of the project."""
    found = sorted(Path(__file__).parents[1].glob('tables/*.yml'))
    return [read_table(str(path)) for path in found]


def read_table(path: str) -> Table:
    """Read a table's file.

    Raises:
        ConfigError: If the file does not exist or violates ``SCHEMA``.
    """
    if not Path(path).is_file():
        raise ConfigError(f'The table {path!r} does not exist.')
    try:
        raw = yaml.safe_load(Path(path).read_text(encoding='utf-8'))
    except yaml.YAMLError as error:
        raise ConfigError(
            f'The table {path!r} is not valid YAML: {error}'
        ) from error
    if not isinstance(raw, dict):
        raise ConfigError(f'The table {path!r} must be a mapping of keys.')
    check_keys(raw, SCHEMA, 'table', required=REQUIRED)
    shared = raw.get('options') or {}
    teacher = raw['teacher']
    check_keys(teacher, TEACHER_SCHEMA, 'teacher', required=('config', 'seed'))
    methods = []
    for name, settings in raw['methods'].items():
        key = f'methods.{name}'
        check_keys(settings, METHOD_SCHEMA, key, required=('config',))
        methods.append(
            Method(
                name,
                settings['config'],
                settings.get('seeds', raw['seeds']),
                {**shared, **(settings.get('options') or {})},
                settings.get('inference_steps', []),
                settings.get('plain_metric', False),
                settings.get('student', False),
                title=DISPLAY_NAMES.get(name, name),
            )
        )
    names = ('title', 'task', 'dataset', 'metric', 'label', 'image_size')
    unchanged = {x: raw[x] for x in names}
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
        **unchanged,
    )
