"""Run the complete workflow on a synthetic dataset, in minutes on 2 cores.

Trains a teacher, a baseline student and a distilled student for the same
number of epochs, and evaluates them with MMDetection's test.py; of the
distilled student, it evaluates the export. Prints a table of the results and
writes an HTML report.

    python tools/quick_start.py --variant theta --work-dir work_dirs/theta

The same command continues an interrupted run. Finished trainings and
evaluations are not repeated.
"""

import argparse
import json
import signal
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Dict, Tuple

from mmdet.apis import inference_detector
from mmengine.device import get_device
from mmengine.utils import get_installed_path
from rich.console import Console
from rich.table import Table

import mmfmkt  # noqa: F401 (enables 'mmfmkt::...' base configs)
from mmfmkt.apis import init_detector
from mmfmkt.cli.errors import exit_on_error
from mmfmkt.cli.options import int_at_least, make_parser
from mmfmkt.datasets import make_shapes
from mmfmkt.utils import ConfigError
from mmfmkt.utils.complexity import size_and_flops
from mmfmkt.utils.interleaved_timing import time_interleaved
from mmfmkt.visualization.report import read_work_dir, write_report

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = dict(
    teacher='retinanet_r18_shapes_teacher.py',
    student='retinanet_r18_shapes.py',
    distilled='fmkt_retinanet_r18_shapes.py',
)
TITLES = dict(
    teacher='teacher', student='baseline student', distilled='FM-KT student'
)
IMAGE_SIZE = (96, 96)  # width and height in pixels
# Number of timed predictions of each detector.
TIMED_RUNS = 20
console = Console()


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__, defaults=True)
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=ROOT / 'work_dirs' / 'quick_start',
        help='output folder',
    )
    parser.add_argument(
        '--variant',
        choices=('fmkt', 'theta'),
        default='fmkt',
        help='fmkt deploys student and flow, theta the student alone',
    )
    for name, minimum, default, text in (
        ('epochs', 1, 9, 'number of epochs of each training'),
        ('train-images', 16, 960, 'number of training images'),
        ('val-images', 1, 160, 'number of validation images'),
        ('seed', 0, 0, 'random seed'),
    ):
        parser.add_argument(
            f'--{name}',
            type=int_at_least(minimum),
            default=default,
            help=text,
        )
    return parser.parse_args()


def check_settings(args: argparse.Namespace) -> None:
    """Check that the work directory has no run with other options."""
    settings = {k: x for k, x in vars(args).items() if k != 'work_dir'}
    path = args.work_dir / 'settings.json'
    if path.exists() and json.loads(path.read_text()) != settings:
        raise ConfigError(
            f'--work-dir: {args.work_dir} has a run with other options '
            f'({path.read_text()}); use another folder or delete it.'
        )
    args.work_dir.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings))


def write_config(args: argparse.Namespace, name: str) -> Path:
    """Write the config of a training, based on a shipped config."""
    base = ROOT / 'configs' / 'quick_start' / CONFIGS[name]
    lines = [
        f'_base_ = {str(base)!r}',
        f'data_root = {str(args.work_dir / "shapes")!r}',
        f'max_epochs = {args.epochs}',
        f'randomness = dict(seed={args.seed})',
        'train_cfg = dict(max_epochs=max_epochs, '
        f'val_interval={max(args.epochs // 3, 1)})',
        'param_scheduler = dict(total_steps=max_epochs)',
        'train_dataloader = dict(dataset=dict(data_root=data_root))',
        'val_dataloader = dict(dataset=dict(data_root=data_root))',
        'test_dataloader = val_dataloader',
        'val_evaluator = dict(ann_file=data_root + '
        "'/annotations/instances_val.json')",
        'test_evaluator = val_evaluator',
    ]
    if name == 'distilled':
        config, checkpoint = map(str, deployed_files(args, 'teacher'))
        teacher = dict(config=config, checkpoint=checkpoint)
        lines.append(
            f'model = dict(variant={args.variant!r}, teacher={teacher!r})'
        )
    path = args.work_dir / f'{name}.py'
    path.write_text('\n'.join(lines) + '\n')
    return path


def deployed_files(args: argparse.Namespace, name: str) -> Tuple[Path, Path]:
    """Return the paths of config and checkpoint of a detector.

    For the distilled student, they are those of the export.
    """
    if name == 'distilled':
        student = args.work_dir / name / 'student'
        return student / 'student.py', student / 'student.pth'
    checkpoint = args.work_dir / name / f'epoch_{args.epochs}.pth'
    return args.work_dir / f'{name}.py', checkpoint


def train_and_evaluate(args: argparse.Namespace, name: str) -> dict:
    """Train and evaluate a detector, unless it is done; return the metrics."""
    results = args.work_dir / 'evaluation' / name
    if any(results.glob('*/*.json')):
        console.print(f'[green]✓[/] {name}: already complete')
    else:
        console.rule(f'train {name}')
        config = write_config(args, name)
        folder = args.work_dir / name
        train = ROOT / 'tools' / 'train.py'
        run_tool(train, config, '--resume', '--work-dir', folder)
        console.rule(f'evaluate {name}')
        test = Path(get_installed_path('mmdet'), '.mim', 'tools', 'test.py')
        run_tool(test, *deployed_files(args, name), '--work-dir', results)
    # MMEngine names the folders by time.
    return json.loads(max(results.glob('*/*.json')).read_text())


def run_tool(tool: Path, *arguments: object) -> None:
    """Run a Python script.

    Raises:
        ConfigError: If its exit status is not 0.
    """
    process = subprocess.Popen([sys.executable, tool, *map(str, arguments)])
    try:
        process.wait()
    except KeyboardInterrupt:
        # On SIGTERM, a training saves a checkpoint and ends its workers.
        process.terminate()
        process.wait()
        raise
    if process.returncode:
        raise ConfigError(f'{tool} failed, see above.')


def measure(args: argparse.Namespace) -> Dict[str, dict]:
    """Return parameters, FLOPs and latency of the detectors.

    The latency is the median time in seconds from image file to boxes.
    """
    image = str(args.work_dir / 'shapes' / 'val' / '000001.jpg')
    detectors = {}
    for name in CONFIGS:
        config, checkpoint = map(str, deployed_files(args, name))
        detectors[name] = init_detector(config, checkpoint, get_device())
    times = time_interleaved(
        {
            name: partial(inference_detector, detector, image)
            for name, detector in detectors.items()
        },
        TIMED_RUNS,
    )
    costs = {}
    for name, detector in detectors.items():
        parameters, flops = size_and_flops(detector, IMAGE_SIZE)
        costs[name] = dict(
            parameters=parameters,
            flops=flops,
            latency=statistics.median(times[name]),
        )
    return costs


def write_page(args: argparse.Namespace) -> Path:
    """Write the HTML report of baseline and distilled student."""
    runs = []
    for name in ('student', 'distilled'):
        runs.append(read_work_dir(str(args.work_dir / name)))
        runs[-1].name = TITLES[name]
    return write_report(
        runs, args.work_dir / 'report.html', steps=(1, 2, 4, 8)
    )


def results_table(
    args: argparse.Namespace, metrics: dict, costs: dict
) -> Table:
    """Return the table of accuracy and cost."""
    table = Table(
        title=f'Shapes, {args.val_images} validation images, '
        f'variant {args.variant}'
    )
    table.add_column('detector')
    for column in ('mAP', 'mAP50', 'parameters', 'FLOPs', 'latency'):
        table.add_column(column, justify='right')
    for name, title in TITLES.items():
        cost = costs[name]
        # CocoMetric returns no metrics if nothing is detected.
        table.add_row(
            title,
            f'{metrics[name].get("coco/bbox_mAP", 0.0):.3f}',
            f'{metrics[name].get("coco/bbox_mAP_50", 0.0):.3f}',
            f'{cost["parameters"] / 1e6:.2f} M',
            f'{cost["flops"] / 1e9:.2f} G',
            f'{cost["latency"] * 1e3:.0f} ms',
        )
    return table


def quick_start(args: argparse.Namespace) -> None:
    """Train, evaluate and measure all detectors, and write the results."""
    start = time.perf_counter()
    check_settings(args)
    make_shapes(
        args.work_dir / 'shapes',
        num_train=args.train_images,
        num_val=args.val_images,
        image_size=IMAGE_SIZE,
        seed=args.seed,
        object_size=(0.15, 0.6),
    )
    metrics = {name: train_and_evaluate(args, name) for name in CONFIGS}
    console.rule('report')
    costs = measure(args)
    page = write_page(args)
    results = json.dumps(dict(metrics=metrics, costs=costs), indent=2)
    (args.work_dir / 'results.json').write_text(results)
    console.print(results_table(args, metrics, costs))
    console.print(f'Report: {page}', soft_wrap=True)
    console.print(f'Wall time: {time.perf_counter() - start:.0f} s')


def main() -> None:
    # Handle SIGTERM like Ctrl-C, upon which `run_tool` ends its process.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        quick_start(parse_args())
    except KeyboardInterrupt:
        sys.exit('Interrupted; the same command continues.')


if __name__ == '__main__':
    with exit_on_error():
        main()
