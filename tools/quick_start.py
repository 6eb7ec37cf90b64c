"""The whole way on data that the project draws, in some minutes on 2 cores.

Trains a teacher, a plain student and a distilled student with equal budgets,
evaluates them, exports the distilled student, evaluates the export with
MMDetection's own tool, and ends with a table and a page that shows what the
flow does.

    python tools/quick_start.py --variant theta --work-dir work_dirs/theta

Each stage that is finished stays finished: the same command continues.
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

import mmfmkt  # noqa: F401 (lets configs inherit from 'mmfmkt::...')
from mmfmkt.apis import init_detector
from mmfmkt.cli.errors import exit_on_error
from mmfmkt.cli.options import int_at_least, make_parser
from mmfmkt.datasets import make_shapes
from mmfmkt.utils import ConfigError
from mmfmkt.utils.complexity import size_and_flops
from mmfmkt.visualization.report import read_work_dir, write_report

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / 'configs' / 'quick_start'
IMAGE_SIZE = (96, 96)
TITLES = dict(
    teacher='teacher', student='plain student', distilled='FM-KT student'
)
PROGRESS = re.compile(r'Epoch\(train\)\s+\[(\d+)\]\[\s*(\d+)/(\d+)\]')
# CocoMetric reports nothing at all where nothing was found.
NOTHING_FOUND = {'coco/bbox_mAP': 0.0, 'coco/bbox_mAP_50': 0.0}
console = Console()


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__, defaults=True)
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=ROOT / 'work_dirs' / 'quick_start',
        help='folder for everything that is made',
    )
    parser.add_argument(
        '--variant',
        choices=('fmkt', 'theta'),
        default='fmkt',
        help='fmkt deploys the flow with the student, theta the plain student',
    )
    parser.add_argument(
        '--epochs',
        type=int_at_least(1),
        default=9,
        help='epochs of each training',
    )
    parser.add_argument(
        '--train-images',
        type=int_at_least(16),
        default=960,
        help='images to train on',
    )
    parser.add_argument(
        '--val-images',
        type=int_at_least(1),
        default=160,
        help='images to evaluate on',
    )
    parser.add_argument(
        '--seed', type=int_at_least(0), default=0, help='random seed'
    )
    return parser.parse_args()


class QuickStart:
    """The stages, each of which leaves a file that says it is done.

    Args:
        args (argparse.Namespace): The command line.
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
        """Refuse a folder that another set of options has filled."""
        settings = {
            key: value
            for key, value in vars(self.args).items()
            if key != 'work_dir'
        }
        path = self.work_dir / 'settings.json'
        if path.exists() and json.loads(path.read_text()) != settings:
            raise ConfigError(
                f'{self.work_dir} holds a run with other options '
                f'({path.read_text()}); name another --work-dir or delete '
                'it.'
            )
        self.work_dir.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings))

    def stage(self, name: str, work: Callable[[], dict]) -> dict:
        """Do a stage, or return what it gave when it was done before."""
        path = self.work_dir / f'{name.replace(" ", "_")}.json'
        if path.exists():
            console.print(f'[green]✓[/] {name}: done before')
            return json.loads(path.read_text())
        console.print(f'[cyan]…[/] {name}')
        start = time.perf_counter()
        result = work()
        # Renamed into place: a stage is done or it is not.
        aside = path.with_suffix('.tmp')
        aside.write_text(json.dumps(result))
        aside.replace(path)
        console.print(
            f'[green]✓[/] {name}: {time.perf_counter() - start:.0f} s'
        )
        return result

    def run(self) -> None:
        """All stages."""
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
        """Write a training's config: a shipped one, with the run's paths."""
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
        """What the last validation gave, or, if that was cut off, a test."""
        validations = read_work_dir(str(self.work_dir / name)).val
        if validations and validations[-1]['step'] == self.args.epochs:
            return {**NOTHING_FOUND, **validations[-1]}
        return self.test(
            ROOT / 'tools' / 'test.py',
            name,
            self.config(name),
            self.checkpoint(name),
        )

    def evaluate_export(self) -> dict:
        """Evaluate the export with the tool that MMDetection ships."""
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
        return {**NOTHING_FOUND, **found}

    def call(
        self,
        command: List,
        log_name: str,
        follow: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Run a Python tool; its output goes to a log."""
        log = self.work_dir / log_name
        with open(log, 'w', buffering=1, encoding='utf-8') as file:
            process = subprocess.Popen(
                [sys.executable, *map(str, command)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                # A group of its own, which ends as a whole.
                start_new_session=True,
            )
            try:
                for line in process.stdout:
                    file.write(line)
                    follow(line)
                process.wait()
            finally:
                end_group(process)
        if process.returncode:
            tail = log.read_text(encoding='utf-8').splitlines()[-15:]
            raise ConfigError(
                '\n'.join(
                    [f'{command[0].name} failed; the end of {log}:', *tail]
                )
            )

    @contextmanager
    def logged(self, log_name: str) -> Iterator[None]:
        """Send what libraries have to say to a log."""
        with open(self.work_dir / log_name, 'w', encoding='utf-8') as log:
            with redirect_stdout(log), redirect_stderr(log):
                yield

    def detectors(self) -> Dict[str, torch.nn.Module]:
        """The three detectors, the distilled one as it was exported."""
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
        """Write the page of plain and distilled student."""
        page = self.work_dir / 'report.html'
        with self.logged('report.log'):
            runs = []
            for name in ('student', 'distilled'):
                runs.append(read_work_dir(str(self.work_dir / name)))
                runs[-1].name = TITLES[name]
            write_report(runs, page, steps=(1, 2, 4, 8))
        return dict(page=str(page))

    def report(self, metrics: dict, costs: dict, page: str) -> None:
        """Print what was measured, and leave it in results.json."""
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
            "The exported student under MMDetection's own test.py: mAP "
            f'{metrics["exported"]["coco/bbox_mAP"]:.3f}'
        )
        console.print(f'What the flow does: {page}', soft_wrap=True)
        results = self.work_dir / 'results.json'
        results.write_text(
            json.dumps(dict(metrics=metrics, costs=costs), indent=2)
        )


def latencies(
    detectors: Dict[str, torch.nn.Module], image: str, repeats: int = 20
) -> Dict[str, float]:
    """Time detectors on one image, turn by turn.

    Turns are what makes the figures comparable on a machine that does other
    things as well.

    Args:
        detectors (dict[str, nn.Module]): Detectors of
            ``mmdet.apis.init_detector``.
        image (str): Path of the image.
        repeats (int): Times that each detector is run.

    Returns:
        dict[str, float]: Median seconds from image file to boxes.
    """
    from mmdet.apis import inference_detector

    times: Dict[str, list] = {name: [] for name in detectors}
    for turn in range(repeats + 2):
        for name, detector in detectors.items():
            start = time.perf_counter()
            # Moving the boxes to the CPU waits for the GPU.
            inference_detector(detector, image).cpu()
            if turn >= 2:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(x) for name, x in times.items()}


def val_interval(epochs: int) -> int:
    """For some three validations, of which one is after the last epoch."""
    most = max(epochs // 3, 1)
    return next(x for x in range(most, 0, -1) if epochs % x == 0)


def end_group(process: subprocess.Popen, patience: float = 10.0) -> None:
    """End a tool, with the processes that it has started, if it still runs.

    Args:
        process (subprocess.Popen): Leader of the group.
        patience (float): Seconds that it is given to end by itself.
    """
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    # Who is interrupted again has no patience.
    with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
        process.wait(patience)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def end_as_by_ctrl_c() -> None:
    """Have whatever ends us end what we have started, as Ctrl-C does.

    A closed terminal sends its SIGHUP to us alone: tools have groups of
    their own.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        # With nohup, SIGHUP is ignored, and stays so.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


def main() -> None:
    end_as_by_ctrl_c()
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
