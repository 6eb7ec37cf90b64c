"""Run the complete workflow on a synthetic dataset, in minutes on 2 cores.

Trains a teacher, a baseline student and a distilled student with equal
budgets, evaluates them, exports the distilled student and evaluates the
export with MMDetection's test.py. Prints a table of the results and writes an
HTML report.

    python tools/quick_start.py --variant theta --work-dir work_dirs/theta

The same command continues an interrupted run after its last stage.
"""

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from contextlib import (
    contextmanager,
    redirect_stderr,
    redirect_stdout,
    suppress,
)
from pathlib import Path
from typing import Callable, Dict, Iterator, List

import torch
from mmengine.device import get_device
from mmengine.utils import get_installed_path
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import mmfmkt  # noqa: F401 (enables 'mmfmkt::...' base configs)
from mmfmkt.apis import init_detector
from mmfmkt.cli.errors import exit_on_error
from mmfmkt.cli.options import int_at_least, make_parser
from mmfmkt.datasets import make_shapes
from mmfmkt.utils import ConfigError
from mmfmkt.utils.complexity import size_and_flops
from mmfmkt.utils.files import write_atomically
from mmfmkt.visualization.report import read_work_dir, write_report

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / 'configs' / 'quick_start'
IMAGE_SIZE = (96, 96)
TITLES = dict(
    teacher='teacher', student='baseline student', distilled='FM-KT student'
)
PROGRESS = re.compile(r'Epoch\(train\)\s+\[(\d+)\]\[\s*(\d+)/(\d+)\]')
# CocoMetric returns no metrics if nothing is detected.
NO_DETECTIONS = {'coco/bbox_mAP': 0.0, 'coco/bbox_mAP_50': 0.0}
WARMUP = 2  # runs that are not measured
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
    parser.add_argument(
        '--epochs',
        type=int_at_least(1),
        default=9,
        help='number of epochs of each training',
    )
    parser.add_argument(
        '--train-images',
        type=int_at_least(16),
        default=960,
        help='number of training images',
    )
    parser.add_argument(
        '--val-images',
        type=int_at_least(1),
        default=160,
        help='number of validation images',
    )
    parser.add_argument(
        '--seed', type=int_at_least(0), default=0, help='random seed'
    )
    return parser.parse_args()


class QuickStart:
    """Stages of the workflow; each writes a file when it is complete.

    Args:
        args (argparse.Namespace): Command-line options.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.work_dir: Path = args.work_dir
        self.data_root = self.work_dir / 'shapes'
        self.configs = dict(
            teacher='retinanet_r18_shapes_teacher.py',
            student='retinanet_r18_shapes.py',
            distilled='fmkt_retinanet_r18_shapes.py',
        )
        self.claim_work_dir()

    def claim_work_dir(self) -> None:
        """Check that the work directory was made with the same options."""
        settings = {
            key: value
            for key, value in vars(self.args).items()
            if key != 'work_dir'
        }
        path = self.work_dir / 'settings.json'
        if path.exists() and json.loads(path.read_text()) != settings:
            raise ConfigError(
                f'--work-dir: {self.work_dir} has a run with other options '
                f'({path.read_text()}); use another folder or delete it.'
            )
        self.work_dir.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings))

    def stage(self, name: str, work: Callable[[], dict]) -> dict:
        """Run a stage, or return its saved result."""
        path = self.work_dir / f'{name.replace(" ", "_")}.json'
        if path.exists():
            console.print(f'[green]✓[/] {name}: already complete')
            return json.loads(path.read_text())
        console.print(f'[cyan]…[/] {name}')
        start = time.perf_counter()
        result = work()
        write_atomically(path, json.dumps(result))
        console.print(
            f'[green]✓[/] {name}: {time.perf_counter() - start:.0f} s'
        )
        return result

    def run(self) -> None:
        """Run all stages."""
        self.stage('data', self.draw_data)
        for name in self.configs:
            self.stage(f'train {name}', lambda name=name: self.train(name))
        metrics = {
            name: self.stage(
                f'evaluate {name}', lambda name=name: self.evaluate(name)
            )
            for name in self.configs
        }
        metrics['exported'] = self.stage(
            'evaluate exported', self.evaluate_export
        )
        costs = self.stage('measure size and speed', self.measure)
        page = self.stage('report', self.show)['page']
        self.report(metrics, costs, page)

    def draw_data(self) -> dict:
        make_shapes(
            self.data_root,
            num_train=self.args.train_images,
            num_val=self.args.val_images,
            image_size=IMAGE_SIZE,
            seed=self.args.seed,
            object_size=(0.15, 0.6),
        )
        return dict(root=str(self.data_root))

    def config(self, name: str) -> Path:
        """Write the config of a training, based on a shipped config."""
        path = self.work_dir / f'{name}.py'
        lines = [
            f'_base_ = {str(CONFIGS / self.configs[name])!r}',
            f'data_root = {str(self.data_root)!r}',
            f'max_epochs = {self.args.epochs}',
            f'randomness = dict(seed={self.args.seed})',
            'train_cfg = dict(max_epochs=max_epochs, '
            f'val_interval={val_interval(self.args.epochs)})',
            'param_scheduler = dict(total_steps=max_epochs)',
            'train_dataloader = dict(dataset=dict(data_root=data_root))',
            'val_dataloader = dict(dataset=dict(data_root=data_root))',
            'test_dataloader = val_dataloader',
            'val_evaluator = dict(ann_file=data_root + '
            "'/annotations/instances_val.json')",
            'test_evaluator = val_evaluator',
        ]
        if name == 'distilled':
            teacher = dict(
                config=str(self.config('teacher')),
                checkpoint=str(self.checkpoint('teacher')),
            )
            lines.append(
                f'model = dict(variant={self.args.variant!r}, '
                f'teacher={teacher!r})'
            )
        path.write_text('\n'.join(lines) + '\n')
        return path

    def checkpoint(self, name: str) -> Path:
        return self.work_dir / name / f'epoch_{self.args.epochs}.pth'

    def train(self, name: str) -> dict:
        command = [
            ROOT / 'tools' / 'train.py',
            self.config(name),
            '--work-dir',
            self.work_dir / name,
            '--resume',
        ]
        with Progress(
            console=console, transient=True, disable=not console.is_terminal
        ) as bar:
            task = bar.add_task(f'train {name}', total=self.args.epochs)

            def follow(line: str) -> None:
                found = PROGRESS.search(line)
                if found:
                    epoch, done, total = map(int, found.groups())
                    bar.update(task, completed=epoch - 1 + done / total)
                    if done == total and not console.is_terminal:
                        console.print(f'  epoch {epoch} of {self.args.epochs}')

            self.call(command, f'train_{name}.log', follow)
        return dict(checkpoint=str(self.checkpoint(name)))

    def evaluate(self, name: str) -> dict:
        """Return the metrics of the last validation, or run a test."""
        validations = read_work_dir(str(self.work_dir / name)).val
        if validations and validations[-1]['step'] == self.args.epochs:
            return {**NO_DETECTIONS, **validations[-1]}
        return self.test(
            ROOT / 'tools' / 'test.py',
            name,
            self.config(name),
            self.checkpoint(name),
        )

    def evaluate_export(self) -> dict:
        """Evaluate the export with MMDetection's test.py."""
        tool = Path(get_installed_path('mmdet'), '.mim', 'tools', 'test.py')
        student = self.work_dir / 'distilled' / 'student'
        return self.test(
            tool, 'exported', student / 'student.py', student / 'student.pth'
        )

    def test(
        self, tool: Path, name: str, config: Path, checkpoint: Path
    ) -> dict:
        out = self.work_dir / 'evaluation' / name
        self.call(
            [tool, config, checkpoint, '--work-dir', out],
            f'evaluate_{name}.log',
        )
        newest = max(out.glob('*/*.json'), key=lambda x: x.stat().st_mtime)
        found = json.loads(newest.read_text().splitlines()[-1])
        return {**NO_DETECTIONS, **found}

    def call(
        self,
        command: List,
        log_name: str,
        follow: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Run a Python tool and write its output to a log."""
        log = self.work_dir / log_name
        with open(log, 'w', buffering=1, encoding='utf-8') as file:
            process = subprocess.Popen(
                [sys.executable, *map(str, command)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                # A process group, so that workers are terminated, too.
                start_new_session=True,
            )
            try:
                for line in process.stdout:
                    file.write(line)
                    follow(line)
                process.wait()
            finally:
                terminate_group(process)
        if process.returncode:
            tail = log.read_text(encoding='utf-8').splitlines()[-15:]
            raise ConfigError(
                '\n'.join(
                    [f'{command[0].name} failed; last lines of {log}:', *tail]
                )
            )

    @contextmanager
    def logged(self, log_name: str) -> Iterator[None]:
        """Redirect the output of libraries to a log."""
        with open(self.work_dir / log_name, 'w', encoding='utf-8') as log:
            with redirect_stdout(log), redirect_stderr(log):
                yield

    def detectors(self) -> Dict[str, torch.nn.Module]:
        """Return the detectors; the distilled one is the export."""
        student = self.work_dir / 'distilled' / 'student'
        paths = {
            name: (self.config(name), self.checkpoint(name))
            for name in ('teacher', 'student')
        }
        paths['distilled'] = (student / 'student.py', student / 'student.pth')
        return {
            name: init_detector(
                str(config), str(checkpoint), device=get_device()
            )
            for name, (config, checkpoint) in paths.items()
        }

    def measure(self) -> dict:
        image = sorted((self.data_root / 'val').glob('*.jpg'))[0]
        costs = {}
        with self.logged('measure.log'):
            detectors = self.detectors()
            times = latencies(detectors, str(image))
            for name, detector in detectors.items():
                parameters, flops = size_and_flops(detector, IMAGE_SIZE)
                costs[name] = dict(
                    parameters=parameters, flops=flops, latency=times[name]
                )
        return costs

    def show(self) -> dict:
        """Write the HTML report of baseline and distilled student."""
        page = self.work_dir / 'report.html'
        with self.logged('report.log'):
            runs = []
            for name in ('student', 'distilled'):
                runs.append(read_work_dir(str(self.work_dir / name)))
                runs[-1].name = TITLES[name]
            write_report(runs, page, steps=(1, 2, 4, 8))
        return dict(page=str(page))

    def report(self, metrics: dict, costs: dict, page: str) -> None:
        """Print the results and write them to results.json."""
        table = Table(
            title=f'Shapes, {self.args.val_images} validation images, '
            f'variant {self.args.variant}'
        )
        table.add_column('detector')
        for column in ('mAP', 'mAP50', 'parameters', 'FLOPs', 'latency'):
            table.add_column(column, justify='right')
        for name, title in TITLES.items():
            cost = costs[name]
            table.add_row(
                title,
                f'{metrics[name]["coco/bbox_mAP"]:.3f}',
                f'{metrics[name]["coco/bbox_mAP_50"]:.3f}',
                f'{cost["parameters"] / 1e6:.2f} M',
                f'{cost["flops"] / 1e9:.2f} G',
                f'{cost["latency"] * 1e3:.0f} ms',
            )
        console.print(table)
        console.print(
            "The exported student in MMDetection's test.py: mAP "
            f'{metrics["exported"]["coco/bbox_mAP"]:.3f}'
        )
        console.print(f'Report: {page}', soft_wrap=True)
        results = self.work_dir / 'results.json'
        results.write_text(
            json.dumps(dict(metrics=metrics, costs=costs), indent=2)
        )


def latencies(
    detectors: Dict[str, torch.nn.Module], image: str, repeats: int = 20
) -> Dict[str, float]:
    """Measure the latency of detectors on one image.

    The detectors run alternately, so that other load of the machine affects
    all of them.

    Args:
        detectors (dict[str, nn.Module]): Detectors of
            ``mmdet.apis.init_detector``.
        image (str): Path of the image.
        repeats (int): Number of measurements per detector.

    Returns:
        dict[str, float]: Median seconds from image file to boxes.
    """
    from mmdet.apis import inference_detector

    times: Dict[str, list] = {name: [] for name in detectors}
    for repeat in range(repeats + WARMUP):
        for name, detector in detectors.items():
            start = time.perf_counter()
            # Moving the boxes to the CPU synchronizes the GPU.
            inference_detector(detector, image).cpu()
            if repeat >= WARMUP:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(x) for name, x in times.items()}


def val_interval(epochs: int) -> int:
    """Return an interval for at least three validations, one at the end."""
    maximum = max(epochs // 3, 1)
    return next(x for x in range(maximum, 0, -1) if epochs % x == 0)


def terminate_group(process: subprocess.Popen, timeout: float = 10.0) -> None:
    """Terminate a process group if it is still running.

    Args:
        process (subprocess.Popen): Leader of the group.
        timeout (float): Seconds between SIGTERM and SIGKILL.
    """
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    # A second Ctrl-C skips the timeout.
    with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
        process.wait(timeout)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def handle_signals_as_interrupt() -> None:
    """Handle SIGTERM and SIGHUP like Ctrl-C, which terminates the tools.

    The tools have their own process groups, which do not get the SIGHUP of a
    closed terminal.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        # nohup ignores SIGHUP.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


def main() -> None:
    handle_signals_as_interrupt()
    start = time.perf_counter()
    quick_start = QuickStart(parse_args())
    try:
        quick_start.run()
    except KeyboardInterrupt:
        sys.exit('Interrupted; the same command continues.')
    console.print(f'Wall time: {time.perf_counter() - start:.0f} s')


if __name__ == '__main__':
    with exit_on_error():
        main()
