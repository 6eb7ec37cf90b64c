"""Time and memory of detectors on large images, by the measures of run.py."""

import gc
import sys
import time
from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import Any, Callable, List

import torch
from checks import check_correctness
from report import Part, Report

sys.path.append(str(Path(__file__).resolve().parents[1]))

import run  # noqa: E402

# GFL, whose losses need no operator of mmcv.
NETWORKS = [
    'model.student=mmdet::gfl/gfl_r50_fpn_1x_coco.py',
    'model.teacher.config=mmdet::gfl/gfl_r101_fpn_ms-2x_coco.py',
]


def cached(build: Callable) -> Callable:
    """Return a builder that builds equal networks once."""
    built = {}

    def build_once(config: Any, *args: Any, **flow: Any) -> torch.nn.Module:
        key = repr((config.model, args, flow))
        if key not in built:
            built[key] = build(config, *args, **flow)
        return built[key]

    return build_once


run.networks.build = cached(run.networks.build)


def measure(
    report: Report,
    device: torch.device,
    name: str,
    what: str,
    batch_size: int,
    *more: str,
) -> None:
    """Measure by run.py: at 1333x800 on a GPU, tiny on a CPU."""
    gpu = device.type == 'cuda'
    rounds = (12 if batch_size > 2 else 24) if gpu else 1
    sys.argv = [
        *('run.py', what, '--device', str(device), '--variants', 'fmkt'),
        *('--image-size', *(('1333', '800') if gpu else ('128', '96'))),
        *('--batch-size', str(batch_size if gpu else min(batch_size, 2))),
        *('--repeats', str(rounds), '--inference-steps', '1', '4', *more),
        *('--cfg-options', *NETWORKS),
    ]
    options = run.parse_args()
    torch.backends.cudnn.allow_tf32 = True
    # Graphs of other sizes and precisions would count as well.
    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    began = time.time()
    rows = run.MEASURES[what][0](options)
    text = f'{len(rows[0].get("times", ()))} rounds, '
    text += f'{time.time() - began:.0f} s'
    if options.compile:
        graphs = counters['stats'].get('unique_graphs', 0)
        breaks = sum(counters['graph_break'].values())
        text += f', {graphs} graphs, {breaks} graph breaks'
    for row in rows:
        text += (
            f'\n    {row["name"]:42} {row["ratio"]:.3f} ({row["low"]:.3f} to '
            f'{row["high"]:.3f})  {row["value"]:9.2f} {row["unit"]}'
        )
    report.add(name, text, status='ok', rows=rows, argv=sys.argv)
    if what == 'memory' and gpu:
        measure_peaks(report, f'{name}, peak', options)


def measure_peaks(report: Report, name: str, options: Namespace) -> None:
    """Report the peak memory of training steps, above the weights."""
    direct, device = run.build_without_flow(options), options.device
    batch = run.networks.noise(direct, options.batch_size, options.image_size)
    models = {'student': direct.student, 'without flow': direct}
    models.update((x[0], x[3]) for x in run.distillers(options))
    found = {}
    for label, model in models.items():
        # The first step allocates what later ones find.
        for _ in range(2):
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
            with run.precision(options):
                loss = run.networks.training_forward(model, batch)()
            run.networks.backward(model, loss)
            del loss
            peak = torch.cuda.max_memory_allocated(device)
        found[label] = (peak - before) / 2**30
    text = ''.join(
        f'\n    {label:42} {x / found["without flow"]:.3f}  {x:9.2f} GiB'
        for label, x in found.items()
    )
    report.add(name, f'above the weights{text}', gibibytes=found)


def parts(report: Report, device: torch.device, until: float) -> List[Part]:
    """Return the measurements, most wanted first."""
    amp, compiled = '--amp', '--compile'
    bottleneck = ('--encoders', 'BottleneckEncoder')
    conv = ('--encoders', 'ConvEncoder')
    training, inference = 'training', 'inference'
    plan: List[tuple] = [
        (60, training, 16, *bottleneck, amp),
        (20, inference, 16, *bottleneck, amp),
        (20, training, 2, *bottleneck, amp),
        (20, inference, 2, *bottleneck, amp),
        (45, training, 16, *conv, amp),
        (20, inference, 16, *conv, amp),
        (75, training, 2, *bottleneck, amp, compiled),
        (40, training, 16, *bottleneck),
        (20, inference, 16, *bottleneck),
        # Behind batch 2, whose kernels are in the compiler's cache.
        (150, training, 16, *bottleneck, amp, compiled),
        (40, 'memory', 16, *bottleneck, amp, '--num-steps', '1', '4', '16'),
        (30, 'memory', 16, *bottleneck, amp, '--num-steps', '16', '--with-cp'),
        (20, training, 2, *conv, amp),
        (20, inference, 2, *conv, amp),
        (45, inference, 2, *bottleneck, amp, compiled),
        (45, inference, 16, *bottleneck, amp, compiled),
        (20, training, 2, *bottleneck),
        (20, inference, 2, *bottleneck),
        (40, training, 16, *conv),
        (20, inference, 16, *conv),
    ]
    found: List[Part] = []
    for limit, what, batch_size, *more in plan:
        name = f'{what}, batch {batch_size}, {" ".join(more[1:])}'
        args = report, device, name, what, batch_size, *more
        found.append((name, limit, partial(measure, *args)))
    if device.type == 'cuda':
        check = partial(check_correctness, report, device, False, True)
        found.insert(10, ('correctness, compiled', 45, check))
    return found
