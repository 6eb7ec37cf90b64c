"""Checks and measures mmfmkt on a GPU, part by part, within minutes.

    bash gpu.sh OUT 6
    bash gpu.sh OUT 20 --device cpu --groups checks

The groups, each in a process of its own, run in this order:

- checks: results against those of the CPU in float64; no synchronization;
- costs: time and memory of detectors against what cannot be avoided (run.py),
  the most wanted ratios first;
- runs: a classifier by tools/train.py, killed and resumed; DDP; FSDP.

What does not fit into the time, or fails, is skipped; the next part runs.
Each result is written at once: OUT/results.txt has a line, OUT/results.jsonl
the numbers, OUT/errors.log tracebacks and logs. On a CPU everything is small,
and what needs a GPU is skipped.

The detectors are GFL, whose losses need no operator of mmcv.
"""

import argparse
import gc
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import nullcontext, suppress
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import (
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    Optional,
    Sequence,
    Tuple,
)

import torch
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

# Seconds that a group may take at most, and that are kept for it; of 360.
GROUPS = dict(checks=(90, 0), costs=(360, 0), runs=(360, 75))
NETWORKS = [
    'model.student=mmdet::gfl/gfl_r50_fpn_1x_coco.py',
    'model.teacher.config=mmdet::gfl/gfl_r101_fpn_ms-2x_coco.py',
]
# A process that cannot use its GPU any more ends with this code, plus the
# number of parts that are done.
GPU_LOST = 100


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('out', type=Path, help='folder for the results')
    add('--minutes', type=float, default=6, help='budget (%(default)s)')
    add('--groups', nargs='+', choices=tuple(GROUPS), default=tuple(GROUPS))
    add('--device', type=torch.device, default='cuda')
    add('--start', type=float, default=time.time(), help=argparse.SUPPRESS)
    add('--until', type=float, help=argparse.SUPPRESS)
    add('--skip', type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


class Report:
    """Writes results as they come.

    Args:
        folder (Path): Where to.
        start (float): When the clock started.
    """

    def __init__(self, folder: Path, start: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.start = folder, start

    def add(self, name: str, text: str, **data: Any) -> None:
        """Write a result: a line of text, and numbers."""
        now = time.time() - self.start
        line = f'[{now:5.0f} s] {name}: {text}'
        print(line, flush=True)
        self._append('results.txt', line)
        found = dict(name=name, seconds=now, text=text, **data)
        self._append('results.jsonl', json.dumps(found, default=str))

    def log(self, title: str, text: str) -> None:
        """Keep a log or a traceback."""
        self._append('errors.log', f'==== {title}\n{text}')

    def _append(self, name: str, text: str) -> None:
        with open(self.folder / name, 'a', encoding='utf-8') as file:
            file.write(text.rstrip() + '\n')


def attempt(
    report: Report, name: str, seconds: float, part: Callable[[], None]
) -> bool:
    """Run a part for some seconds at most; return whether it succeeded.

    After them it is interrupted, as by Ctrl-C: what takes turns then gives
    the turns so far.
    """
    if seconds < 5:
        report.add(name, 'skipped: no time is left', status='skipped')
        return False
    began = time.time()
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.alarm(int(seconds))
    try:
        part()
        return True
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        signal.alarm(0)
        took = time.time() - began
        over = isinstance(error, KeyboardInterrupt)
        why = f'{type(error).__name__}: {" ".join(str(error).split())}'[:300]
        text = 'its time is over' if over else f'FAILED: {why}'
        report.add(name, f'{text} ({took:.0f} s)', status='failed')
        report.log(name, traceback.format_exc())
        return False
    finally:
        signal.alarm(0)
        gc.collect()
        if torch.cuda.is_initialized():
            with suppress(RuntimeError):
                torch.cuda.empty_cache()


def half_of(device: torch.device) -> torch.dtype:
    """Return the half precision that autocast is used with on a device."""
    return torch.float16 if device.type == 'cuda' else torch.bfloat16


def autocast(device: torch.device, amp: bool) -> Any:
    """Return autocast in half precision, or a context without effect."""
    if not amp:
        return nullcontext()
    return torch.autocast(device.type, dtype=half_of(device))


# checks

CHANNELS, CLASSES, BATCH = 32, 10, 4
TOLERANCES = {False: 1e-4, True: 5e-2}
# Gradients of means are small for float16, those of some losses are not.
LOSS_SCALE = 64.0
# From parts and inputs to the loss and the output.
Forward = Callable[[nn.Module, Tensor, Tensor], Tuple[Tensor, Tensor]]


def transfer_of(
    variant: str, encoder: str = 'BottleneckEncoder', **kwargs: Any
) -> nn.Module:
    """Build a transfer between maps of ``CHANNELS`` channels by PKD."""
    from mmfmkt.models import flows
    from mmfmkt.models.losses import PKDLoss

    if variant != 'direct':
        kwargs['field'] = flows.VelocityField(
            getattr(flows, encoder)(CHANNELS, zero_init=False),
            flows.RectifiedFlow(),
        )
    return flows.VARIANTS[variant](metric=PKDLoss(), **kwargs)


def train_transfer(
    transfer: nn.Module, source: Tensor, target: Tensor, num_steps: int = 4
) -> Tuple[Tensor, Tensor]:
    """Return the total loss and the output of a transfer."""
    losses, output = transfer(source, target, num_steps)
    return sum(x for name, x in losses.items() if 'loss' in name), output


def train_logits(
    transfer: nn.Module, source: Tensor, target: Tensor
) -> Tuple[Tensor, Tensor]:
    """Return the total loss and the logits of a transfer with a head."""
    losses, output = transfer(
        source, target, 4, head=lambda x: (transfer.head(x), {})
    )
    return sum(x for name, x in losses.items() if 'loss' in name), output


def use_metric(
    metric: nn.Module, source: Tensor, target: Tensor
) -> Tuple[Tensor, Tensor]:
    """Return the distillation loss, also, detached, as the output."""
    labels = torch.arange(len(source), device=source.device) % CLASSES
    loss = metric(source, target, labels if metric.needs_labels else None)
    return loss, loss.detach()


def read_boxes(maps: Tensor) -> Tuple[Tensor, Tensor]:
    """Read logits and boxes in maps, for metrics that compare those."""
    places = maps.flatten(2).mT
    center, size = places[..., :2], places[..., 2:4].exp()
    return places[..., 4:], torch.cat([center - size, center + size], -1)


def cases() -> Iterator[Tuple[str, Callable[[], nn.Module], Forward, tuple]]:
    """Yield name, builder, forward and shape of what is checked."""
    from mmfmkt.models import flows, losses

    maps, logits = (BATCH, CHANNELS, 12, 18), (BATCH, CLASSES)
    for variant in flows.VARIANTS:
        yield (
            f'variant {variant}',
            partial(transfer_of, variant),
            train_transfer,
            maps,
        )
    yield (
        'variant fmkt, with_cp',
        partial(transfer_of, 'fmkt', with_cp=True),
        train_transfer,
        maps,
    )
    for encoder in flows.__all__:
        if encoder.endswith('Encoder') and encoder != 'MetaEncoder':
            build = partial(transfer_of, 'fmkt', encoder)
            yield f'encoder {encoder}', build, train_transfer, maps
    for name in losses.__all__:
        kind = getattr(losses, name)
        if name.endswith('Loss') and not name.startswith('Base'):

            def build(kind=kind):
                metric = kind()
                if metric.needs_reader:
                    metric.reader = read_boxes
                return metric

            shape = maps if 'maps' in kind.spaces else logits
            yield f'metric {name}', build, use_metric, shape

    def build_classifier():
        field = flows.VelocityField(
            flows.MLPEncoder(CHANNELS, zero_init=False), flows.RectifiedFlow()
        )
        transfer = flows.FMKT(field, losses.DISTLoss())
        transfer.head = nn.Linear(CHANNELS, CLASSES)
        return transfer

    yield 'logits', build_classifier, train_logits, (BATCH, CHANNELS)


def evaluate(
    parts: nn.Module,
    forward: Forward,
    inputs: Tuple[Tensor, Tensor],
    device: torch.device,
    dtype: torch.dtype,
    amp: bool = False,
) -> Dict[str, Tensor]:
    """Return loss, output and gradients of parts on a device, in float64."""
    parts = deepcopy(parts).to(device, dtype)
    source, target = (x.to(device) for x in inputs)
    if not amp:
        source, target = source.to(dtype), target.to(dtype)
    source.requires_grad_()
    with autocast(device, amp):
        loss, output = forward(parts, source, target)
    total = loss.to(torch.promote_types(loss.dtype, torch.float32))
    total = total + output.to(total.dtype).square().mean()
    (total * LOSS_SCALE).backward()
    grads = [
        p.grad.flatten() for p in parts.parameters() if p.grad is not None
    ]
    found = dict(loss=loss, output=output, gradient=source.grad)
    if grads:
        found['weights'] = torch.cat(grads)
    return {k: v.detach().double().cpu() for k, v in found.items()}


def check_correctness(report: Report, device: torch.device, amp: bool) -> None:
    """Compare a device with the CPU in float64, case by case."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    tolerance, rows, bad = TOLERANCES[amp], [], []
    for name, build, forward, shape in cases():
        torch.manual_seed(0)
        try:
            parts = build()
            inputs = torch.randn(2, *shape)
            target_shape = (BATCH, CLASSES) if name == 'logits' else shape
            inputs = [inputs[0], torch.randn(target_shape)]
            if amp:
                # As maps are that a network gives under autocast.
                inputs = [x.to(half_of(device)) for x in inputs]
            run = partial(evaluate, parts, forward, inputs)
            truth = run(torch.device('cpu'), torch.float64)
            found = run(device, torch.float32, amp)
            errors = {
                key: ((found[key] - x).norm() / x.norm()).item()
                for key, x in truth.items()
                if x.norm() > 0
            }
        except Exception as error:
            report.log(f'correctness of {name}', traceback.format_exc())
            errors = dict(failed=f'{type(error).__name__}: {error}'[:200])
        rows.append(dict(name=name, **errors))
        # Not a number is not good.
        if 'failed' in errors or not max(errors.values()) <= tolerance:
            bad.append(f'{name} {errors}')
    good = [x for x in rows if 'failed' not in x]
    worst = max(
        (v, row['name'], k)
        for row in good
        for k, v in row.items()
        if k != 'name'
    )
    report.add(
        f'correctness, {"AMP" if amp else "float32"}',
        f'{len(rows) - len(bad)} of {len(rows)} within {tolerance:g} of CPU '
        f'float64, largest error {worst[0]:.1e} ({worst[1]}, {worst[2]})'
        + ''.join(f'\n    DIFFERS: {x}' for x in bad),
        status='failed' if bad else 'ok',
        rows=rows,
    )


def check_waiting(report: Report, device: torch.device) -> None:
    """See that no transfer waits for the GPU in a training step."""
    if device.type != 'cuda':
        report.add('synchronization', 'skipped: needs a GPU', status='skipped')
        return
    found = {}
    for name, build, forward, shape in cases():
        if name.startswith('metric') or name == 'logits':
            continue
        for amp in (False, True):
            parts = build().to(device)
            source, target = torch.randn(2, *shape, device=device)
            source.requires_grad_()

            def step(args=(parts, source, target), amp=amp, forward=forward):
                with autocast(device, amp):
                    loss, output = forward(*args)
                (loss + output.float().mean()).backward()

            key = f'{name}, {"AMP" if amp else "float32"}'
            step()
            torch.cuda.synchronize()
            try:
                torch.cuda.set_sync_debug_mode('error')
                step()
                found[key] = 'ok'
            except Exception as error:
                report.log(f'synchronization of {key}', traceback.format_exc())
                found[key] = f'{type(error).__name__}: {error}'[:200]
            finally:
                torch.cuda.set_sync_debug_mode('default')
    bad = {k: v for k, v in found.items() if v != 'ok'}
    report.add(
        'synchronization',
        f'{len(found) - len(bad)} of {len(found)} training steps of a '
        'transfer never wait for the GPU'
        + ''.join(f'\n    WAITS: {k}: {v}' for k, v in bad.items()),
        status='failed' if bad else 'ok',
        found=found,
    )


def checks(report: Report, args: argparse.Namespace) -> List[tuple]:
    """Return name, seconds and function of each part."""
    device = args.device
    return [
        (
            'correctness, float32',
            40,
            partial(check_correctness, report, device, False),
        ),
        (
            'correctness, AMP',
            40,
            partial(check_correctness, report, device, True),
        ),
        ('synchronization', 30, partial(check_waiting, report, device)),
    ]


# costs


def import_benchmark() -> Any:
    """Import run.py, whose measures then build each network once."""
    import run

    build, built = run.networks.build, {}

    def build_once(config, variant, encoder, device, **flow):
        key = repr((config.model, variant, encoder, device, flow))
        if key not in built:
            built[key] = build(config, variant, encoder, device, **flow)
        return built[key]

    run.networks.build = build_once
    return run


class Costs:
    """Measures of run.py, on large images.

    Args:
        report (Report): Where results go.
        args (argparse.Namespace): The command line.
    """

    def __init__(self, report: Report, args: argparse.Namespace) -> None:
        self.report, self.device = report, args.device
        self.gpu = args.device.type == 'cuda'
        self.run = import_benchmark()

    def options(
        self, what: str, batch_size: int, amp: bool, *more: str
    ) -> argparse.Namespace:
        """Parse a command line of run.py."""
        size = ('1333', '800') if self.gpu else ('128', '96')
        if not self.gpu:
            batch_size = min(batch_size, 2)
        sys.argv = [
            *('run.py', what, '--device', str(self.device)),
            *('--image-size', *size, '--batch-size', str(batch_size)),
            *('--variants', 'fmkt', *(['--amp'] if amp else [])),
            *more,
            *('--cfg-options', *NETWORKS),
        ]
        return self.run.parse_args()

    def rows(self, name: str, options: argparse.Namespace) -> None:
        """Measure, and report the rows."""
        began = time.time()
        compiling = torch._dynamo.utils.counters
        if options.compile:
            # Graphs of other sizes and precisions would count as well.
            torch._dynamo.reset()
            compiling.clear()
        rows = self.run.MEASURES[options.what][0](options)
        took = time.time() - began
        data = dict(rows=rows, command=' '.join(sys.argv), took=took)
        if options.compile:
            data['compiling'] = {k: dict(v) for k, v in compiling.items()}
        lines = [
            f'\n    {row["name"]:42} {row["ratio"]:.3f} '
            f'({row["low"]:.3f} to {row["high"]:.3f})  '
            f'{row["value"]:9.2f} {row["unit"]}'
            for row in rows
        ]
        turns = len(rows[0].get('times', ()))
        text = f'{turns} turns, {took:.0f} s'
        if options.compile:
            breaks = sum(compiling['graph_break'].values())
            graphs = compiling['stats'].get('unique_graphs', 0)
            text += f', {graphs} graphs, {breaks} graph breaks'
        self.report.add(name, text + ''.join(lines), status='ok', **data)
        if options.what == 'training':
            self.share(name, rows)

    def share(self, name: str, rows: List[dict]) -> None:
        """Report what share of a training step the teacher takes."""
        ms = {row['name']: row['value'] for row in rows}
        steps = {k: v for k, v in ms.items() if k.startswith('fmkt')}
        shares = {k: ms['teacher'] / v for k, v in steps.items()}
        self.report.add(
            f'{name}: teacher',
            f'{ms["teacher"]:.1f} ms beside {ms["plain"]:.1f} ms of the plain '
            'step; ' + ', '.join(f'{v:.1%} of {k}' for k, v in shares.items()),
            status='ok',
            shares=shares,
        )

    def measure(
        self,
        what: str,
        batch_size: int,
        amp: bool,
        *more: str,
        encoder: str = 'BottleneckEncoder',
    ) -> None:
        """Measure ratios of time."""
        turns = dict(training=10, inference=12)[what]
        turns = turns if batch_size > 2 else 2 * turns
        options = self.options(
            what,
            batch_size,
            amp,
            *('--repeats', str(turns if self.gpu else 1)),
            *('--encoders', encoder, '--inference-steps', '1', '4'),
            *more,
        )
        name = f'{what}, batch {batch_size}, {"AMP" if amp else "float32"}'
        self.rows(f'{name}, {encoder} {" ".join(more)}'.rstrip(), options)

    def compare_compiled(self, amp: bool) -> None:
        """Compare the losses of the flow, compiled and not."""
        run = self.run
        options = self.options(
            'training',
            2,
            amp,
            *('--encoders', 'BottleneckEncoder', '--compile'),
        )
        losses = {}
        for name, _, _, model in run.distillers(options):
            torch.manual_seed(1)
            batch = run.networks.noise(model, 2, options.image_size)
            with torch.no_grad(), run.precision(options):
                found = model(batch[0], deepcopy(batch[1]), mode='loss')
            losses[name] = {
                k: v.item() for k, v in found.items() if 'flow' in k
            }
        eager, compiled = losses.values()
        apart = max(abs(compiled[k] / v - 1) for k, v in eager.items())
        self.report.add(
            f'compiled against eager, {"AMP" if amp else "float32"}',
            f'losses of the flow differ by {apart:.1e} at most',
            status='ok',
            losses=losses,
        )

    def memory(self, batch_size: int, encoder: str) -> None:
        """Measure what a training step keeps, and its peak on a GPU."""
        base = ('--encoders', encoder, '--num-steps')
        name = f'memory, batch {batch_size}, AMP, {encoder}'
        every = self.options('memory', batch_size, True, *base, '1', '4', '16')
        if self.gpu:
            self.peaks(f'peak {name}', every)
        self.rows(f'saved {name}', every)
        cp = self.options('memory', batch_size, True, *base, '16', '--with-cp')
        if self.gpu:
            self.peaks(f'peak {name}, with_cp', cp)
        self.rows(f'saved {name}, with_cp', cp)

    def peaks(self, name: str, options: argparse.Namespace) -> None:
        """Report the peak memory of training steps, above the weights."""
        run, device = self.run, self.device
        direct = run.metric_alone(options)
        batch = run.networks.noise(
            direct, options.batch_size, options.image_size
        )
        models = {'metric alone': direct}
        models.update((x[0], x[3]) for x in run.distillers(options))
        found = {}
        for label, model in {'plain': direct.student, **models}.items():
            for _ in range(2):
                gc.collect()
                torch.cuda.empty_cache()
                torch.cuda.synchronize(device)
                torch.cuda.reset_peak_memory_stats(device)
                before = torch.cuda.memory_allocated(device)
                with run.precision(options):
                    loss = run.networks.stepper(model, batch)()
                run.networks.backward(model, loss)
                torch.cuda.synchronize(device)
                peak = torch.cuda.max_memory_allocated(device)
                del loss
            found[label] = (peak - before) / 2**30
        below = found['metric alone']
        self.report.add(
            name,
            'above the weights'
            + ''.join(
                f'\n    {k:42} {v / below:.3f}  {v:9.2f} GiB'
                for k, v in found.items()
            ),
            status='ok',
            gibibytes=found,
        )


def costs(report: Report, args: argparse.Namespace) -> List[tuple]:
    """Return name, seconds and function of each part, most wanted first."""
    measure = Costs(report, args)
    conv = dict(encoder='ConvEncoder')
    plan: List[Tuple[int, Callable, tuple, dict]] = [
        (60, measure.measure, ('training', 16, True), {}),
        (45, measure.measure, ('training', 16, False), {}),
        (20, measure.measure, ('inference', 16, True), {}),
        (20, measure.measure, ('inference', 16, False), {}),
        (90, measure.measure, ('training', 16, True, '--compile'), {}),
        (20, measure.measure, ('training', 2, True), {}),
        (20, measure.measure, ('inference', 2, True), {}),
        (75, measure.measure, ('training', 2, True, '--compile'), {}),
        (20, measure.measure, ('training', 2, False), {}),
        (20, measure.measure, ('inference', 2, False), {}),
        (60, measure.memory, (16, 'BottleneckEncoder'), {}),
        (30, measure.measure, ('training', 16, True), conv),
        (20, measure.measure, ('inference', 16, True), conv),
        (30, measure.measure, ('training', 16, False), conv),
        (20, measure.measure, ('inference', 16, False), conv),
        (45, measure.measure, ('inference', 2, True, '--compile'), {}),
        (45, measure.measure, ('inference', 16, True, '--compile'), {}),
        (60, measure.compare_compiled, (False,), {}),
        (60, measure.measure, ('training', 2, False, '--compile'), {}),
        (60, measure.measure, ('training', 16, False, '--compile'), {}),
        (20, measure.measure, ('training', 2, True), conv),
        (20, measure.measure, ('inference', 2, True), conv),
    ]
    return [
        (
            f'{function.__name__} {positional} {keywords or ""}'.rstrip(),
            seconds,
            partial(function, *positional, **keywords),
        )
        for seconds, function, positional, keywords in plan
    ]


# runs

CONFIG = 'configs/mmpretrain/cifar10_folder/fmkt_resnet20_resnet8.py'
EPOCHS = 10


def draw_images(folder: Path, each: int) -> None:
    """Draw images of the classes, noise around a color of each."""
    import numpy as np
    from PIL import Image

    draws = np.random.default_rng(0)
    for split in ('train', 'test'):
        for label in range(CLASSES):
            place = folder / split / f'class{label}'
            place.mkdir(parents=True)
            color = draws.integers(64, 192, 3)
            for i in range(each):
                noise = draws.normal(color, 32, (32, 32, 3)).clip(0, 255)
                Image.fromarray(noise.astype('uint8')).save(place / f'{i}.png')


class Training:
    """A run of tools/train.py in a process of its own.

    Args:
        root (Path): Folder of the repository.
        folder (Path): Where data and work folders are.
        name (str): Name of its work folder.
        options (list[str]): More options of the tool.
        settings (list[str]): More ``--cfg-options``.
        launch (bool): Whether torchrun launches it.
    """

    # All of them, so that none is left behind.
    started: List['Training'] = []

    def __init__(
        self,
        root: Path,
        folder: Path,
        name: str,
        options: List[str],
        settings: Sequence[str] = (),
        launch: bool = False,
    ) -> None:
        self.work_dir, self.log = folder / name, folder / f'{name}.log'
        self.late = False
        front = ['-m', 'torch.distributed.run', '--standalone']
        front = [*front, '--nproc_per_node', '1'] if launch else []
        data = [
            f'{split}_dataloader.dataset.data_root={folder}/data'
            for split in ('train', 'val', 'test')
        ]
        self.command = [
            *(sys.executable, *front, str(root / 'tools/train.py')),
            *(str(root / CONFIG), '--work-dir', str(self.work_dir)),
            *(['--launcher', 'pytorch'] if launch else []),
            *options,
            '--cfg-options',
            *data,
            'model.teacher.checkpoint=None',
            'train_dataloader.batch_size=32',
            f'train_cfg.max_epochs={EPOCHS}',
            f'train_cfg.val_interval={EPOCHS}',
            f'param_scheduler.total_steps={EPOCHS}',
            'default_hooks.logger.interval=5',
            f'default_hooks.checkpoint.max_keep_ckpts={EPOCHS}',
            'randomness.seed=0',
            *settings,
        ]
        with open(self.log, 'ab') as log:
            self.process = subprocess.Popen(
                self.command,
                stdout=log,
                stderr=log,
                cwd=folder,
                start_new_session=True,
                env=dict(os.environ, CUBLAS_WORKSPACE_CONFIG=':4096:8'),
            )
        self.started.append(self)

    def checkpoint(self, epoch: int) -> Path:
        """Return the path of the checkpoint of an epoch."""
        return self.work_dir / f'epoch_{epoch}.pth'

    def wait(self, until: float) -> int:
        """Wait for its end, and kill it if that does not come."""
        try:
            code = self.process.wait(max(until - time.time(), 1))
        except subprocess.TimeoutExpired:
            self.kill()
            code, self.late = -1, True
        return code

    def kill(self) -> None:
        """Kill all of its processes by SIGKILL."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def kill_after(self, epoch: int, until: float) -> bool:
        """Kill it behind an epoch; return whether it was still running."""
        while time.time() < until and self.process.poll() is None:
            if self.checkpoint(epoch).is_file():
                self.kill()
                break
            time.sleep(0.01)
        return self.process.poll() == -signal.SIGKILL

    def read_log(self) -> str:
        """Return what it has printed."""
        return self.log.read_text(errors='replace')

    def last_words(self) -> str:
        """Return the last line of its log, or that of its error."""
        if self.late:
            return 'its time was over'
        lines = self.read_log().strip().splitlines()
        # torchrun writes its own lines behind the tool's.
        errors = [x for x in lines if x.lower().startswith('error')]
        errors += [x for x in lines if 'Error' in x]
        line = errors[0] if errors else lines[-1] if lines else 'no output'
        return ' '.join(line.split())[:300]


def weights_of(path: Path) -> Dict[str, Tensor]:
    """Return the weights in a checkpoint."""
    return torch.load(path, 'cpu', weights_only=False)['state_dict']


def difference(one: Path, other: Path) -> str:
    """Say how far the weights of two checkpoints are apart."""
    a, b = weights_of(one), weights_of(other)
    if a.keys() != b.keys():
        return f'of other names: {sorted(a.keys() ^ b.keys())[:4]}'
    if all(torch.equal(a[k], b[k]) for k in a):
        return 'equal in every bit'
    floats = [k for k in a if a[k].is_floating_point()]
    apart = max((a[k] - b[k]).abs().max().item() for k in floats)
    size = max(a[k].abs().max().item() for k in floats)
    return f'apart by {apart:.1e} at most (largest weight {size:.1e})'


def train_classifier(
    report: Report, root: Path, folder: Path, until: float, gpu: bool
) -> None:
    """Train undisturbed, killed and resumed, under DDP and under FSDP."""
    run = partial(Training, root, folder)
    amp, deterministic = ['--amp'], True
    settings = ['randomness.deterministic=True']
    whole = run('whole', amp, settings)
    if not gpu:
        # One at a time where cores are few.
        whole.wait(until)
    killed = run('killed', amp, settings)
    if gpu:
        others = start_others(run, settings, lambda x: x)
    hit = killed.kill_after(EPOCHS // 2, until)
    resumed = run('killed', [*amp, '--resume'], settings)
    codes = [whole.wait(until), resumed.wait(until)]
    if codes[0] and 'deterministic' in whole.read_log():
        # An operator has no such kernel: results may then differ.
        report.log('classifier, deterministic', whole.read_log()[-20000:])
        deterministic = False
        whole, killed = run('whole_again', amp), run('killed_again', amp)
        hit = killed.kill_after(EPOCHS // 2, until)
        resumed = run('killed_again', [*amp, '--resume'])
        codes = [whole.wait(until), resumed.wait(until)]
    if not gpu:
        others = start_others(run, settings, lambda x: x.wait(until))
    name = 'classifier, tools/train.py --amp, SIGKILL and --resume'
    if any(codes):
        bad = whole if codes[0] else resumed
        report.add(name, f'FAILED: {bad.last_words()}', status='failed')
        report.log(name, bad.read_log()[-20000:])
    else:
        apart = difference(
            whole.checkpoint(EPOCHS), resumed.checkpoint(EPOCHS)
        )
        when = 'killed' if hit else 'NOT killed, it had ended'
        report.add(
            name,
            f'{when} behind epoch {EPOCHS // 2} of {EPOCHS}; final weights '
            f'and those of the undisturbed run: {apart}'
            + ('' if deterministic else ' (no deterministic algorithms)'),
            status='ok',
            killed=hit,
            difference=apart,
        )
    for title, training in others.items():
        code = training.wait(until)
        last = training.checkpoint(EPOCHS)
        if code or not last.exists():
            report.add(
                title, f'NOT trained: {training.last_words()}', status='failed'
            )
            report.log(title, training.read_log()[-20000:])
            continue
        text = f'trained {EPOCHS} epochs'
        if last.is_file() and not codes[0]:
            apart = difference(whole.checkpoint(EPOCHS), last)
            text += f'; final weights and those of a single process: {apart}'
        report.add(title, text, status='ok')


def start_others(
    run: Callable[..., Training],
    settings: List[str],
    then: Callable[[Training], Any],
) -> Dict[str, Training]:
    """Start the trainings under DDP and FSDP.

    Args:
        run (Callable): Starts a training.
        settings (list[str]): ``--cfg-options``.
        then (Callable): What is done with each before the next one starts.
    """
    fsdp = [
        'runner_type=FlexibleRunner',
        'strategy.type=FSDPStrategy',
        'strategy.state_dict_cfg=full',
    ]
    ddp = run('ddp', ['--amp'], settings, launch=True)
    then(ddp)
    sharded = run('fsdp', [], [*settings, *fsdp], launch=True)
    then(sharded)
    return {'DDP, torchrun': ddp, 'FSDP': sharded}


def runs(report: Report, args: argparse.Namespace) -> List[tuple]:
    """Return name, seconds and function of the only part."""
    root = next(x for x in HERE.parents if (x / 'setup.py').is_file())
    gpu = args.device.type == 'cuda'

    def part():
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            draw_images(folder / 'data', 64 if gpu else 16)
            # Something is left for the comparisons.
            until = args.until - 5
            try:
                train_classifier(report, root, folder, until, gpu)
            finally:
                for training in Training.started:
                    training.kill()

    return [('classifier, DDP and FSDP', 600, part)]


def run_group(report: Report, args: argparse.Namespace) -> None:
    """Run the parts of a group in this process."""
    if args.device.type == 'cuda' and args.groups[0] != 'runs':
        torch.zeros(1, device=args.device)
    parts = globals()[args.groups[0]](report, args)
    for index, (name, seconds, part) in enumerate(parts):
        if index < args.skip:
            continue
        left = args.until - time.time()
        if attempt(report, name, min(seconds, left), part):
            continue
        try:
            if torch.cuda.is_initialized():
                torch.cuda.synchronize()
        except RuntimeError:
            os._exit(GPU_LOST + index + 1)


def machine(device: torch.device) -> Dict[str, Any]:
    """Return what the results were measured on."""
    import torchvision

    found = dict(
        python=platform.python_version(),
        torch=torch.__version__,
        torchvision=torchvision.__version__,
        cores=os.cpu_count(),
        device=str(device),
    )
    if device.type == 'cuda':
        query = 'name,memory.total,driver_version'
        with suppress(OSError, subprocess.SubprocessError):
            found['gpu'] = subprocess.run(
                [
                    'nvidia-smi',
                    f'--query-gpu={query}',
                    '--format=csv,noheader',
                ],
                capture_output=True,
                text=True,
                timeout=20,
            ).stdout.strip()
        found['cuda'] = torch.version.cuda
        found['cudnn'] = torch.backends.cudnn.version()
        found['TF32 of convolutions'] = torch.backends.cudnn.allow_tf32
        found['of products'] = torch.backends.cuda.matmul.allow_tf32
    return found


def start_group(
    report: Report,
    args: argparse.Namespace,
    name: str,
    until: float,
    skip: int,
) -> Optional[int]:
    """Run a group in a process of its own; return how that ended."""
    command = [
        *(sys.executable, str(Path(__file__).resolve()), str(args.out)),
        *('--groups', name, '--device', str(args.device)),
        *('--start', str(args.start), '--until', str(until)),
        *('--skip', str(skip)),
    ]
    with open(args.out / 'errors.log', 'ab') as log:
        process = subprocess.Popen(command, stderr=log, start_new_session=True)
        try:
            return process.wait(max(until - time.time(), 1) + 4)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            report.add(name, 'stopped: its time is over', status='failed')
            return None


def main() -> None:
    args = parse_args()
    report = Report(args.out.resolve(), args.start)
    if args.until is not None:
        run_group(report, args)
        return
    found = machine(args.device)
    report.add('machine', ', '.join(f'{k} {v}' for k, v in found.items()))
    share = args.minutes * 60 / 360
    end = args.start + args.minutes * 60 - 5
    for name in args.groups:
        limit, _ = GROUPS[name]
        later = args.groups[args.groups.index(name) + 1 :]
        kept = sum(GROUPS[x][1] for x in later) * share
        until = min(time.time() + limit * share, end - kept)
        skip = 0
        while until - time.time() > 10:
            code = start_group(report, args, name, until, skip)
            if code is None or not code:
                break
            if not GPU_LOST < code < 200:
                report.add(name, f'ended with code {code}', status='failed')
                break
            skip = code - GPU_LOST
            report.add(name, 'the GPU was lost: in a new process, the rest')
        else:
            report.add(name, 'skipped: no time is left', status='skipped')
    report.add('end', f'of {args.minutes:g} minutes')


if __name__ == '__main__':
    main()
