"""Measure the cost of distillation relative to a lower bound.

    python tools/dev/benchmark/run.py training --device cuda --amp
    python tools/dev/benchmark/run.py inference --inference-steps 1 4 8
    python tools/dev/benchmark/run.py memory --num-steps 1 4 16
    python tools/dev/benchmark/run.py flow --num-steps 8

training: time of a training step without optimizer, relative to a step of the
baseline student plus the teacher's forward. inference: latency of the deployed
student, relative to the baseline student. memory: activation memory of a
training step, relative to distillation without a flow. flow: forward and
backward of one flow, relative to the passes of its encoder, and to a reference
implementation (reference_implementation.py). Timings are interleaved in one
process (interleaved_timing.py); weights and images are random, so nothing is
downloaded. docs/cost.md has reference values.
"""

import argparse
import itertools
import json
import sys
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Tuple

import torch
from torch import nn

from mmfmkt.cli.errors import exit_on_error
from mmfmkt.cli.options import add_cfg_options, int_at_least, make_parser
from mmfmkt.models import flows
from mmfmkt.models.losses import PKDLoss
from mmfmkt.utils.configs import read_config
from mmfmkt.utils.interleaved_timing import time_interleaved

sys.path.insert(0, str(Path(__file__).resolve().parent))

import interleaved_timing as timing  # noqa: E402
import networks  # noqa: E402
import reference_implementation as reference  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]
DEFAULT_CONFIG = ROOT / 'configs/fmkt_retinanet_r101_r50.py'
ENCODERS = [
    x for x in flows.__all__ if x.endswith('Encoder') and x != 'MetaEncoder'
]


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add('what', choices=tuple(MEASURES), help='what to measure')
    add(
        '--config',
        default=str(DEFAULT_CONFIG),
        help='distillation config (default: %(default)s)',
    )
    add(
        '--variants',
        nargs='+',
        default=['fmkt', 'theta'],
        help='variants to measure',
    )
    add(
        '--encoders',
        nargs='+',
        default=['ConvEncoder', 'DepthwiseConvEncoder', 'BottleneckEncoder'],
        choices=ENCODERS,
        help='encoders to measure',
    )
    add(
        '--num-steps',
        nargs='+',
        type=int,
        default=[4],
        metavar='N',
        help='numbers of Euler steps in training',
    )
    add(
        '--inference-steps',
        nargs='+',
        type=int,
        default=[1, 4, 8],
        metavar='K',
        help='numbers of Euler steps of the deployed flow',
    )
    add(
        '--image-size',
        nargs=2,
        type=int,
        default=(512, 320),
        metavar=('W', 'H'),
        help='image size in pixels',
    )
    add(
        '--map-size',
        nargs=3,
        type=int,
        default=(256, 40, 64),
        metavar=('C', 'H', 'W'),
        help='size of the feature map of `flow`',
    )
    add('--batch-size', type=int, default=1, help='images per batch')
    add(
        '--repeats',
        type=int_at_least(1),
        default=10,
        help='number of timed rounds',
    )
    add('--device', default='cpu', type=torch.device, help='device of PyTorch')
    add('--amp', action='store_true', help='measure under autocast')
    add(
        '--with-cp',
        action='store_true',
        help='additionally measure with flow.with_cp=True',
    )
    add(
        '--compile',
        action='store_true',
        help='additionally measure with flow.compile=True',
    )
    add(
        '--sync-check',
        action='store_true',
        help='fail if an operation synchronizes CPU and GPU',
    )
    add('--out', help='JSON file to write')
    add_cfg_options(parser)
    args = parser.parse_args(argv)
    if args.sync_check and (args.what, args.device.type) != ('flow', 'cuda'):
        parser.error('--sync-check needs `flow` and --device cuda')
    if args.what == 'flow' and (args.amp or args.with_cp or args.compile):
        parser.error('`flow` measures without --amp, --with-cp and --compile')
    return args


def distillers(
    args: argparse.Namespace,
) -> Iterator[Tuple[str, str, int, nn.Module]]:
    """Yield label, encoder, N and distiller of each requested setting."""
    config = read_config(args.config, args.cfg_options)
    flow_options: Dict[str, dict] = {'': {}}
    if args.with_cp:
        flow_options[' with_cp'] = dict(with_cp=True)
    if args.compile:
        flow_options[' compiled'] = dict(compile=True)
    for variant, encoder, n, label in itertools.product(
        args.variants, args.encoders, args.num_steps, flow_options
    ):
        options = dict(num_steps=n, **flow_options[label])
        model = networks.build(
            config, variant, encoder, args.device, **options
        )
        yield f'{variant} {encoder} N={n}{label}', encoder, n, model.train()


def build_without_flow(args: argparse.Namespace) -> nn.Module:
    """Build the distiller of the variant ``direct``, which has no flow."""
    config = read_config(args.config, args.cfg_options)
    return networks.build(config, 'direct', None, args.device).train()


def measure_training(args: argparse.Namespace) -> List[dict]:
    """Time training steps without optimizer."""
    direct = build_without_flow(args)
    batch = networks.noise(direct, args.batch_size, args.image_size)

    def step(model):
        with networks.autocast(args.device, args.amp):
            loss = networks.training_forward(model, batch)()
        networks.backward(model, loss)

    def run_teacher():
        with networks.autocast(args.device, args.amp):
            direct.read_teacher(*batch)

    functions = dict(
        student=partial(step, direct.student),
        teacher=run_teacher,
        **{'without flow': partial(step, direct)},
    )
    lower_bounds = {}
    for name, encoder, n, model in distillers(args):
        functions[name] = partial(step, model)
        passes_name = f'passes of {encoder} N={n}'
        if passes_name not in functions:
            functions[passes_name] = networks.encoder_passes(
                model, batch, n, args.amp
            )
            lower_bounds[passes_name] = f'lower bound {encoder} N={n}'
    times = time_interleaved(functions, args.repeats)
    for passes_name, lower_bound in lower_bounds.items():
        parts = (times['student'], times['teacher'], times.pop(passes_name))
        times[lower_bound] = [sum(seconds) for seconds in zip(*parts)]
    baseline = ('student', 'teacher')
    return [timing.timing_row(name, times, baseline) for name in times]


def measure_inference(args: argparse.Namespace) -> List[dict]:
    """Time predictions of the deployed student."""
    # N does not affect the deployed flow.
    functions, args.num_steps = {}, args.num_steps[:1]
    batch = None

    def predict(model, steps):
        if steps is not None:
            model.inference_steps = steps
        with torch.no_grad(), networks.autocast(args.device, args.amp):
            model(batch[0], deepcopy(batch[1]), mode='predict')

    for name, _, _, model in distillers(args):
        model.eval()
        if batch is None:
            batch = networks.noise(model, args.batch_size, args.image_size)
            functions['student'] = partial(predict, model.student, None)
        for k in args.inference_steps:
            label = name.replace(f'N={args.num_steps[0]}', f'K={k}')
            functions[label] = partial(predict, model, k)
    times = time_interleaved(functions, args.repeats)
    return [timing.timing_row(name, times, ['student']) for name in times]


def measure_memory(args: argparse.Namespace) -> List[dict]:
    """Measure the activation memory of training steps."""
    direct = build_without_flow(args)
    batch = networks.noise(direct, args.batch_size, args.image_size)

    def activations(model):
        excluded = [*model.parameters(), batch[0]]
        with networks.autocast(args.device, args.amp):
            forward = networks.training_forward(model, batch)
            return timing.activation_bytes(forward, excluded)

    baseline = activations(direct)
    rows = [timing.memory_row('without flow', baseline, baseline)]
    for name, _, _, model in distillers(args):
        rows.append(timing.memory_row(name, activations(model), baseline))
    return rows


def measure_flow(args: argparse.Namespace) -> List[dict]:
    """Time forward and backward of one flow, and measure its activations."""
    channels, height, width = args.map_size
    shape = (args.batch_size, channels, height, width)
    source = torch.randn(shape, device=args.device, requires_grad=True)
    target = torch.randn(shape, device=args.device)
    functions: Dict[str, Callable] = {}
    labels, memory_rows = [], []
    for encoder, n in itertools.product(args.encoders, args.num_steps):
        field = flows.VelocityField(
            getattr(flows, encoder)(channels), flows.RectifiedFlow()
        )
        transfer = flows.FMKT(field, PKDLoss()).to(args.device)
        reference_encoder = reference.ReferenceEncoder(field.encoder)

        def flow(transfer=transfer, n=n):
            loss_dict, output = transfer(source, target, n)
            return loss_dict['loss_flow'], output

        run_reference = partial(
            reference.train, reference_encoder, source, target, n
        )
        label = f'{encoder} N={n}'
        labels.append(label)
        functions[f'encoder {label}'] = partial(
            networks.encoder_step, field.encoder, source, n
        )
        functions[f'reference {label}'] = partial(
            forward_backward, run_reference
        )
        functions[f'flow {label}'] = partial(forward_backward, flow)
        excluded = [
            *field.parameters(),
            *reference_encoder.parameters(),
            source,
            target,
        ]
        baseline, size = (
            timing.activation_bytes(x, excluded) for x in (run_reference, flow)
        )
        name = f'flow {label}: activations / reference'
        memory_rows.append(timing.memory_row(name, size, baseline))
        if args.sync_check:
            check_synchronization(functions[f'flow {label}'])
    times = time_interleaved(functions, args.repeats)
    timing_rows = []
    for label, denominator in itertools.product(
        labels, ('encoder', 'reference')
    ):
        row = timing.timing_row(
            f'flow {label}', times, [f'{denominator} {label}']
        )
        row['name'] += f' / {denominator}'
        timing_rows.append(row)
    return timing_rows + memory_rows


def forward_backward(forward: Callable) -> None:
    """Run forward, and backward of the sum of loss and mean output."""
    loss, output = forward()
    (loss + output.mean()).backward()


def check_synchronization(function: Callable) -> None:
    """Raise an error if a function synchronizes CPU and GPU."""
    function()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode('error')
    try:
        function()
    finally:
        torch.cuda.set_sync_debug_mode('default')


# Function and title of each measurement.
MEASURES = dict(
    training=(measure_training, 'training step / (student step + teacher)'),
    inference=(measure_inference, 'deployed student / baseline student'),
    memory=(measure_memory, 'activation memory / without flow'),
    flow=(measure_flow, 'flow / encoder passes, and flow / reference'),
)


def main() -> None:
    args = parse_args()
    measure, title = MEASURES[args.what]
    report = timing.build_report(title, measure(args), args.device)
    timing.print_report(report)
    if args.out:
        text = json.dumps(report, indent=1)
        Path(args.out).write_text(text, encoding='utf-8')


if __name__ == '__main__':
    with exit_on_error():
        main()
