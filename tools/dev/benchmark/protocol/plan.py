"""Benchmark tables: methods, seeds and pages, read from `tables/*.yml`."""

from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Sequence

import yaml

from mmfmkt.apis.compare import Comparison, Method, Run
from mmfmkt.utils import ConfigError
from mmfmkt.utils.schema import did_you_mean

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
    'Theta by DIST': 'Theta with DIST',
    'FM-KT by KD': 'FM-KT with KD',
    'FM-KT by DIST': 'FM-KT with DIST',
    'FM-KT by DIST, bottleneck': 'FM-KT with DIST, BottleneckEncoder',
}
ROOT = Path(__file__).resolve().parents[4]


@dataclass(kw_only=True)
class Table(Comparison):
    """A comparison with a page in the documentation.

    Attributes:
        name (str): Name of the table's file without suffix.
        task (str): Task as in OpenMMLab's metafiles.
        dataset (str): Name of the data set.
        page (Path): Markdown file; two comments mark the position of the
            table in it.
        plot (Path, optional): Plot of accuracy and latency.
        image_size (list[int]): Width and height in pixels of the images on
            which costs are measured.
        cache (bool): Whether to cache the teacher's outputs, which saves time
            if training repeats the augmented views of an image.
    """

    name: str
    task: str
    dataset: str
    page: Path
    plot: Optional[Path] = None
    image_size: List[int]
    cache: bool = True

    def select_runs(
        self, only: Optional[Sequence[str]], seeds: Optional[Sequence[int]]
    ) -> List[Run]:
        """Return the selected runs, ordered by seed.

        Args:
            only (Sequence[str], optional): Names of the methods; default: all.
            seeds (Sequence[int], optional): Seeds; default: all.

        Raises:
            ConfigError: If ``only`` has a name that no method has, or if no
                run is selected.
        """
        names = [x.name for x in self.methods]
        for name in only or ():
            if name not in names:
                raise ConfigError(
                    f'--only: there is no method {name!r}'
                    f'{did_you_mean(name, names)}.'
                )
        runs = [
            run
            for run in self.runs()
            if run.method.name in (only or names)
            and (not seeds or run.seed in seeds)
        ]
        if not runs:
            raise ConfigError(f'--seeds: there is no run with seeds {seeds}.')
        return runs

    @property
    def subject(self) -> str:
        """Data and student: the first two parts of the title."""
        return ', '.join(self.title.split(', ')[:2])


def all_tables() -> List[Table]:
    """Read all tables of the project."""
    paths = sorted(Path(__file__).parents[1].glob('tables/*.yml'))
    return [read_table(path) for path in paths]


def read_table(path: Path) -> Table:
    """Read the file of a table.

    Top-level keys are fields of `Table`; the keys of ``teacher`` and of each
    entry of ``methods`` are fields of `Method`. ``options`` and ``seeds`` of
    the table apply to all methods. ``teacher`` also has ``seed`` and
    ``cache``.
    """
    raw = yaml.safe_load(path.read_text(encoding='utf-8'))
    options, seeds = raw.pop('options', {}), raw.pop('seeds')
    methods = []
    for name, settings in raw.pop('methods').items():
        settings = {'seeds': seeds, **settings}
        settings['options'] = {**options, **settings.get('options', {})}
        title = DISPLAY_NAMES.get(name, name)
        methods.append(Method(name, title=title, **settings))
    for key in {'page', 'results', 'plot'} & raw.keys():
        raw[key] = ROOT / raw[key]
    teacher = raw.pop('teacher')
    return Table(
        name=path.stem,
        methods=methods,
        cache=teacher.pop('cache', True),
        teacher=Method('teacher', seeds=[teacher.pop('seed')], **teacher),
        **raw,
    )
