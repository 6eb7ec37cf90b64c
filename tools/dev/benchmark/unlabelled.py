"""Evaluate training without labels: pretrained students against students
trained from scratch for the same computing time.

    python tools/dev/benchmark/unlabelled.py bccd --jobs 2
    python tools/dev/benchmark/unlabelled.py

For each seed, backbone and neck of a RetinaNet are trained by tools/distill.py
on the training images without labels, with MobileNetV2 (ImageNet weights) as
teacher. Then the student is trained on all labels and on a tenth of them. The
results are written to docs/results/unlabelled_DATA_LABELS.json, and the table
of docs/unlabelled.md is made from them; without DATA, only the table is
written. Repeat the command to resume.
"""

import argparse
import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import List, NamedTuple, Optional

from mmengine.config import Config

from mmfmkt.apis.compare import Comparison, Executor, Method
from mmfmkt.apis.compare.composition import set_budget
from mmfmkt.apis.compare.results import (
    ResultRow,
    format_difference,
    load_results,
    markdown_table,
    rows_of,
)
from mmfmkt.cli.errors import exit_on_error
from mmfmkt.cli.options import add_debug, int_at_least, make_parser
from mmfmkt.utils.files import write_atomically

sys.path.insert(0, str(Path(__file__).resolve().parent))

from protocol.page import replace_section  # noqa: E402
from protocol.plan import ROOT  # noqa: E402
from protocol.summaries import mean_of  # noqa: E402

METRIC = 'coco/bbox_mAP'
PAGE = ROOT / 'docs/unlabelled.md'
SEEDS = (0, 1, 2)
WEIGHTS = 'data/mobilenet_v2_imagenet.pth'
TEACHER = """
_base_ = 'mmpretrain::mobilenet_v2/mobilenet-v2_8xb32_in1k.py'
model = dict(
    backbone=dict(type='mmdet.MobileNetV2', out_indices=(2, 4, 7)),
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
)
data_preprocessor = model['data_preprocessor']
"""


class Setting(NamedTuple):
    """Data set, and numbers of epochs on it.

    Attributes:
        title (str): Name of the data set.
        num_images (int): Number of training images.
        unlabelled (int): Epochs without labels.
        labeled (int): Epochs with labels after those without.
        scratch (int): Epochs with labels that take as long as both.
    """

    title: str
    num_images: int
    unlabelled: int
    labeled: int
    scratch: int


SETTINGS = dict(
    bccd=Setting('BCCD', 205, 12, 6, 24),
    deeppcb=Setting('DeepPCB', 800, 4, 3, 9),
)
# Divisors of the number of labeled images.
LABELS = {1: 'all', 10: '10 %'}


def student(data: str, epochs: int, divisor: int = 1) -> Config:
    """Return the config of a student trained on a share of the labels.

    The images are repeated, so that epochs have as many iterations as with
    all labels.
    """
    cfg = Config.fromfile(ROOT / f'configs/{data}/retinanet_r18w16_{data}.py')
    set_budget(cfg, epochs)
    if divisor > 1:
        dataset = cfg.train_dataloader.dataset
        dataset.indices = SETTINGS[data].num_images // divisor
        cfg.train_dataloader.dataset = dict(
            type='RepeatDataset', times=divisor, dataset=dataset
        )
    return cfg


def pretrain(data: str, seed: int, folder: Path) -> Path:
    """Train backbone and neck without labels, and return their checkpoint."""
    work_dir = folder / 'unlabelled' / str(seed)
    checkpoint = work_dir / 'student' / 'backbone.pth'
    if checkpoint.is_file():
        return checkpoint
    work_dir.mkdir(parents=True, exist_ok=True)
    teacher = folder / 'teacher.py'
    teacher.write_text(TEACHER)
    config = folder / 'student.py'
    student(data, SETTINGS[data].unlabelled).dump(config)
    resume = ['--resume'] if list(work_dir.glob('*.pth')) else []
    with open(work_dir / 'log.txt', 'a') as log:
        subprocess.run(
            [sys.executable, 'tools/distill.py', str(config)]
            + ['--teacher', str(teacher), '--teacher-checkpoint', WEIGHTS]
            + ['--unlabelled', f'data/{data}/train', '--amp']
            + ['--work-dir', str(work_dir), *resume]
            + ['--cfg-options', f'randomness.seed={seed}'],
            check=True,
            stdout=log,
            stderr=log,
        )
    return checkpoint


def comparison(
    data: str, divisor: int, checkpoint: Optional[Path], seeds: List[int]
) -> Comparison:
    """Return the comparison of students with a share of the labels.

    Args:
        data (str): A key of ``SETTINGS``.
        divisor (int): A key of ``LABELS``.
        checkpoint (Path, optional): Weights of backbone and neck; None to
            read results only.
        seeds (list[int]): Seeds of the trainings.
    """
    share = '10' if divisor > 1 else '100'
    methods = [
        Method('scratch', '', seeds, is_baseline=True),
        Method('pretrained', '', seeds),
    ]
    if checkpoint is not None:
        setting = SETTINGS[data]
        scratch = student(data, setting.scratch, divisor)
        pretrained = student(data, setting.labeled, divisor)
        for name in ('backbone', 'neck'):
            pretrained.model[name].init_cfg = dict(
                type='Pretrained',
                checkpoint=str(checkpoint),
                prefix=f'{name}.',
            )
        for method, cfg in zip(methods, (scratch, pretrained)):
            path = checkpoint.parent / f'{method.name}_{share}.py'
            cfg.dump(path)
            method.config = str(path)
    return Comparison(
        title=f'{SETTINGS[data].title}, {share} % of the labels',
        metric=METRIC,
        label='box mAP',
        results=ROOT / f'docs/results/unlabelled_{data}_{share}.json',
        methods=methods,
        amp=True,
    )


def execute(data: str, folder: Path, jobs: int) -> None:
    """Train all students of a data set."""
    for seed in SEEDS:
        checkpoint = pretrain(data, seed, folder)
        for divisor in LABELS:
            plan = comparison(data, divisor, checkpoint, [seed])
            executor = Executor(plan, folder / f'labels_{divisor}', jobs)
            executor.execute(plan.runs())
            executor.collect()


def result_text(row: ResultRow) -> str:
    """Return the mean of a row, and the number of failed runs."""
    failed = f' ({len(row.failed)} failed)' if row.failed else ''
    return mean_of(row, METRIC) + failed


def table() -> str:
    """Return the results of all data sets as a table in Markdown."""
    lines = []
    for (data, setting), (divisor, labels) in itertools.product(
        SETTINGS.items(), LABELS.items()
    ):
        plan = comparison(data, divisor, None, list(SEEDS))
        rows = {x.name: x for x in rows_of(plan, load_results(plan))}
        if len(rows) < 2:
            continue
        pretrained, scratch = rows['pretrained'], rows['scratch']
        lines.append(
            [
                f'{setting.title}, {labels}',
                f'{setting.unlabelled} + {setting.labeled}',
                str(setting.scratch),
                result_text(pretrained),
                result_text(scratch),
                format_difference(pretrained, scratch, METRIC),
            ]
        )
    header = (
        'Data, labels',
        'Epochs without and with labels',
        'Epochs from scratch',
        'Pretrained',
        'From scratch',
        'Difference',
    )
    return markdown_table(header, lines)


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument(
        'data',
        nargs='?',
        metavar='DATA',
        choices=SETTINGS,
        help=f'data set to train on: {", ".join(SETTINGS)}',
    )
    parser.add_argument(
        '--out',
        default='work_dirs/unlabelled',
        help="folder of the runs, relative to the project's root "
        '(default: %(default)s)',
    )
    parser.add_argument(
        '--jobs',
        type=int_at_least(1),
        default=1,
        help='number of parallel runs (default: %(default)s)',
    )
    add_debug(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    os.chdir(ROOT)
    out = Path(args.out)
    if args.data:
        execute(args.data, out / args.data, args.jobs)
    text = PAGE.read_text(encoding='utf-8')
    write_atomically(PAGE, replace_section(text, 'unlabelled', table(), PAGE))


if __name__ == '__main__':
    with exit_on_error():
        main()
