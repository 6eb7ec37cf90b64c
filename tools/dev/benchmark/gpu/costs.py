"""Time and memory of detectors on large images, measured by run.py."""

import gc
import time
from argparse import Namespace
from functools import partial
from typing import Any, Callable, Dict, List, Tuple

import run
import torch
from checks import check_correctness
from report import Part, Report
from torch import nn

# GFL, whose losses need no operator of mmcv.
NETWORKS = (
    'model.student=mmdet::gfl/gfl_r50_fpn_1x_coco.py',
    'model.teacher.config=mmdet::gfl/gfl_r101_fpn_ms-2x_coco.py',
)
BOTTLENECK = '--encoders BottleneckEncoder'
CONV = '--encoders ConvEncoder'
# Limit in seconds, measurement, batch size and options of run.py, the most
# important first; compilations, which take minutes, follow eager measurements.
PLAN: Tuple[Tuple[float, str, int, str], ...] = (
    (90, 'training', 16, f'{BOTTLENECK} --amp'),
    (30, 'inference', 16, f'{BOTTLENECK} --amp'),
    (30, 'training', 2, f'{BOTTLENECK} --amp'),
    (30, 'inference', 2, f'{BOTTLENECK} --amp'),
    (60, 'training', 16, f'{CONV} --amp'),
    (30, 'inference', 16, f'{CONV} --amp'),
    (60, 'training', 16, BOTTLENECK),
    (30, 'inference', 16, BOTTLENECK),
    (45, 'memory', 16, f'{BOTTLENECK} --amp --num-steps 1 4 16'),
    (30, 'memory', 16, f'{BOTTLENECK} --amp --num-steps 16 --with-cp'),
    (30, 'training', 2, f'{CONV} --amp'),
    (30, 'inference', 2, f'{CONV} --amp'),
    (30, 'training', 2, BOTTLENECK),
    (30, 'inference', 2, BOTTLENECK),
    # The first compilation has empty caches.
    (180, 'training', 2, f'{BOTTLENECK} --amp --compile'),
    (45, 'inference', 2, f'{BOTTLENECK} --amp --compile'),
    (45, 'inference', 16, f'{BOTTLENECK} --amp --compile'),
    (120, 'training', 16, f'{BOTTLENECK} --amp --compile'),
    (60, 'training', 16, CONV),
    (30, 'inference', 16, CONV),
)


def cached(build: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """Return a builder that builds a network once for equal arguments."""
    built: Dict[str, nn.Module] = {}

    def build_once(config: Any, *args: Any, **flow: Any) -> nn.Module:
        key = repr((config.model, args, flow))
        if key not in built:
            built[key] = build(config, *args, **flow)
        return built[key]

    return build_once


run.networks.build = cached(run.networks.build)


def measure(
    report: Report,
    device: torch.device,
    measurement: str,
    batch_size: int,
    options: str,
) -> None:
    """Run a measurement of run.py.

    Images have 1333x800 pixels on a GPU, 128x96 on a CPU.
    """
    command = [measurement, *options.split(), '--variants', 'fmkt']
    command += ['--inference-steps', '1', '4', '--cfg-options', *NETWORKS]
    args = run.parse_args(command)
    args.device, args.image_size, args.repeats = device, (128, 96), 1
    args.batch_size = min(batch_size, 2)
    if device.type == 'cuda':
        args.image_size, args.batch_size = (1333, 800), batch_size
        args.repeats = 12 if batch_size > 2 else 60
    torch.backends.cudnn.allow_tf32 = True
    # Count graphs of this measurement only, not of earlier ones.
    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    name = part_name(measurement, batch_size, options)
    if measurement == 'memory' and device.type == 'cuda':
        measure_peaks(report, f'{name}, peak', args)
    start = time.time()
    rows = run.MEASURES[measurement][0](args)
    text = f'{time.time() - start:.0f} s'
    if 'times' in rows[0]:
        text = f'{len(rows[0]["times"])} rounds, {text}'
    if args.compile:
        graphs = counters['stats'].get('unique_graphs', 0)
        breaks = sum(counters['graph_break'].values())
        text += f', {graphs} graphs, {breaks} graph breaks'
    for row in rows:
        text += (
            f'\n    {row["name"]:42} {row["ratio"]:.3f} ({row["low"]:.3f} to '
            f'{row["high"]:.3f})  {row["value"]:9.2f} {row["unit"]}'
        )
    report.add(name, text, status='ok', rows=rows, command=command)


def part_name(measurement: str, batch_size: int, options: str) -> str:
    """Return the name of a measurement in the report: its options without
    `--encoders`."""
    return f'{measurement}, batch {batch_size}, {options.split(" ", 1)[1]}'


def measure_peaks(report: Report, name: str, args: Namespace) -> None:
    """Report the peak memory of training steps, above the weights."""
    direct, device = run.build_without_flow(args), args.device
    batch = run.networks.noise(direct, args.batch_size, args.image_size)
    models = {'student': direct.student, 'without flow': direct}
    models.update((label, model) for label, *_, model in run.distillers(args))
    peaks = {}
    for label, model in models.items():
        # The first step allocates memory that later steps reuse.
        for _ in range(2):
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
            with run.networks.autocast(device, args.amp):
                loss = run.networks.training_forward(model, batch)()
            run.networks.backward(model, loss)
            del loss
            peak = torch.cuda.max_memory_allocated(device)
        peaks[label] = (peak - before) / 2**30
    text = ''.join(
        f'\n    {label:42} {x / peaks["without flow"]:.3f}  {x:9.2f} GiB'
        for label, x in peaks.items()
    )
    report.add(name, f'above the weights{text}', gibibytes=peaks)


def parts(report: Report, device: torch.device, deadline: float) -> List[Part]:
    """Return the parts of this group, the most important first.

    The deadline is not used.
    """
    measurements: List[Part] = [
        (
            part_name(*command),
            limit,
            partial(measure, report, device, *command),
        )
        for limit, *command in PLAN
    ]
    if device.type == 'cuda':
        check = partial(check_correctness, report, device, False, True)
        compiled = next(i for i, x in enumerate(PLAN) if '--compile' in x[-1])
        measurements.insert(compiled, ('correctness, compiled', 60, check))
    return measurements
