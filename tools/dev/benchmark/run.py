"""Measures what distillation costs, against what cannot be avoided.

    python tools/dev/benchmark/run.py training --device cuda --amp
    python tools/dev/benchmark/run.py inference --inference-steps 1 4 8
    python tools/dev/benchmark/run.py memory --num-steps 1 4 16
    python tools/dev/benchmark/run.py flow --num-steps 8

training: a training step (no optimizer) over plain step and teacher forward.
inference: the deployed student over the plain one. memory: what autograd
keeps of a training step over that of the metric alone. flow: the flow by
itself, forward and backward, over its encoder's passes, and over a straight
transcription of the method (transcription.py). Rivals take turns in one
process; weights and images are random, so nothing is downloaded. docs/cost.md
has what to expect.
"""

import argparse
import json
import sys
from contextlib import nullcontext
from copy import deepcopy
from functools import partial
from pathlib import Path

import torch
from mmengine.config import Config

from mmfmkt.cli.errors import exit_on_error
from mmfmkt.cli.options import add_cfg_options, make_parser
from mmfmkt.models import flows
from mmfmkt.models.losses import PKDLoss
from mmfmkt.utils import ConfigError

sys.path.insert(0, str(Path(__file__).resolve().parent))

import networks  # noqa: E402
import transcription  # noqa: E402
import turns  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]
FLAGSHIP = ROOT / 'configs/fmkt_retinanet_r101_r50.py'
ENCODERS = [
    x for x in flows.__all__ if x.endswith('Encoder') and x != 'MetaEncoder'
]
KINDS = ('encoder', 'transcription', 'flow')


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add('what', choices=tuple(MEASURES), help='what to measure')
    add('--config', default=str(FLAGSHIP), help='a distillation (%(default)s)')
    add('--variants', nargs='+', default=['fmkt', 'theta'])
    add(
        '--encoders',
        nargs='+',
        default=['ConvEncoder', 'DepthwiseConvEncoder', 'BottleneckEncoder'],
        choices=ENCODERS,
    )
    add('--num-steps', nargs='+', type=int, default=[4], help='N')
    add('--inference-steps', nargs='+', type=int, default=[1, 4, 8], help='K')
    add('--image-size', nargs=2, type=int, default=(512, 320), help='W H')
    add('--map-size', nargs=3, type=int, default=(256, 40, 64), help='C H W')
    add('--batch-size', type=int, default=1)
    add('--repeats', type=int, default=10, help='turns that count')
    add('--device', default='cpu', type=torch.device)
    add('--amp', action='store_true', help='autocast')
    add('--with-cp', action='store_true', help='also with flow.with_cp')
    add('--compile', action='store_true', help='also with flow.compile')
    add('--sync-check', action='store_true', help='flow waits for no GPU')
    add('--out', help='JSON file to write')
    add('--plot', help='picture to write')
    add('--compare', metavar='BASELINE', help='JSON file to compare with')
    add('--tolerance', type=float, default=0.1, help='for --compare')
    add_cfg_options(parser)
    return parser.parse_args()


def options_of(args: argparse.Namespace) -> dict:
    """Settings of the flow to try beside the plain ones, by label."""
    options = {'': {}}
    if args.with_cp:
        options[' with_cp'] = dict(with_cp=True)
    if args.compile:
        options[' compiled'] = dict(compile=True)
    return options


def distillers(args: argparse.Namespace):
    """Yield label, encoder, N and distiller of all that is asked for."""
    config = Config.fromfile(args.config)
    config.merge_from_dict(args.cfg_options or {})
    for variant in args.variants:
        for encoder in args.encoders:
            for n in args.num_steps:
                for label, options in options_of(args).items():
                    built = networks.build(
                        config,
                        variant,
                        encoder,
                        args.device,
                        num_steps=n,
                        **options,
                    )
                    name = f'{variant} {encoder} N={n}{label}'
                    yield name, encoder, n, built.train()


def metric_alone(args: argparse.Namespace) -> torch.nn.Module:
    """The variant without a flow."""
    config = Config.fromfile(args.config)
    config.merge_from_dict(args.cfg_options or {})
    return networks.build(config, 'direct', None, args.device).train()


def precision(args: argparse.Namespace):
    """Autocast, where it is asked for."""
    if not args.amp:
        return nullcontext()
    half = torch.float16 if args.device.type == 'cuda' else torch.bfloat16
    return torch.autocast(args.device.type, dtype=half)


def measure_training(args: argparse.Namespace) -> list:
    direct = metric_alone(args)
    batch = networks.noise(direct, args.batch_size, args.image_size)

    def step(model):
        with precision(args):
            loss = networks.stepper(model, batch)()
        networks.backward(model, loss)

    def teach():
        with precision(args):
            direct.read_teacher(*batch)

    rivals = dict(
        plain=partial(step, direct.student),
        teacher=teach,
        **{'metric alone': partial(step, direct)},
    )
    floors = {}
    for name, encoder, n, model in distillers(args):
        rivals[name] = partial(step, model)
        floor = f'{encoder} N={n} alone'
        if floor not in rivals:
            rivals[floor] = networks.encoder_passes(model, batch, n)
            floors[floor] = f'floor {encoder} N={n}'
    times = turns.take_turns(rivals, args.repeats)
    for alone, floor in floors.items():
        parts = (times['plain'], times['teacher'], times.pop(alone))
        times[floor] = [sum(turn) for turn in zip(*parts)]
    below = ('plain', 'teacher')
    return [turns.row_of_times(name, times, below) for name in times]


def measure_inference(args: argparse.Namespace) -> list:
    rivals, args.num_steps = {}, args.num_steps[:1]
    batch = None

    def predict(model, steps):
        if steps is not None:
            model.inference_steps = steps
        with torch.no_grad(), precision(args):
            model(batch[0], deepcopy(batch[1]), mode='predict')

    for name, _, _, model in distillers(args):
        model.eval()
        if batch is None:
            batch = networks.noise(model, args.batch_size, args.image_size)
            rivals['plain'] = partial(predict, model.student, None)
        for k in args.inference_steps:
            label = name.replace(f'N={args.num_steps[0]}', f'K={k}')
            rivals[label] = partial(predict, model, k)
    times = turns.take_turns(rivals, args.repeats)
    return [turns.row_of_times(name, times, ['plain']) for name in times]


def measure_memory(args: argparse.Namespace) -> list:
    direct = metric_alone(args)
    batch = networks.noise(direct, args.batch_size, args.image_size)

    def kept(model):
        with precision(args):
            forward = networks.stepper(model, batch)
            return turns.saved_bytes(forward, [*model.parameters(), batch[0]])

    below = kept(direct)
    rows = [turns.row_of_bytes('metric alone', below, below)]
    for name, _, _, model in distillers(args):
        rows.append(turns.row_of_bytes(name, kept(model), below))
    return rows


def measure_flow(args: argparse.Namespace) -> list:
    channels, height, width = args.map_size
    shape = (args.batch_size, channels, height, width)
    source = torch.randn(shape, device=args.device, requires_grad=True)
    target = torch.randn(shape, device=args.device)
    rivals, pairs, rows = {}, [], []
    for encoder in args.encoders:
        for n in args.num_steps:
            field = flows.VelocityField(
                getattr(flows, encoder)(channels), flows.RectifiedFlow()
            )
            ours = flows.FMKT(field, PKDLoss()).to(args.device)
            plain = transcription.PlainEncoder(field.encoder)

            def flow(ours=ours, n=n):
                losses, output = ours(source, target, n)
                return losses['loss_flow'], output

            def written(plain=plain, n=n):
                return transcription.train(plain, source, target, n)

            alone = partial(networks.pass_through, field.encoder, source, n)
            names = [f'{x} {encoder} N={n}' for x in KINDS]
            runs = [
                alone,
                *(partial(there_and_back, x) for x in (written, flow)),
            ]
            rivals.update(zip(names, runs))
            pairs.append(names)
            known = [*field.parameters(), *plain.parameters(), source, target]
            kept = [turns.saved_bytes(x, known) for x in (written, flow)]
            rows.append(turns.row_of_bytes(f'{names[2]}: saved', *kept[::-1]))
            if args.sync_check:
                check_waiting(partial(there_and_back, flow))
    times = turns.take_turns(rivals, args.repeats)
    found = []
    for alone, written, flow in pairs:
        for below in (alone, written):
            row = turns.row_of_times(flow, times, [below])
            found.append({**row, 'name': f'{flow} / {below.split()[0]}'})
    return found + rows


def there_and_back(forward) -> None:
    """Forward and backward, of loss and output."""
    loss, output = forward()
    (loss + output.mean()).backward()


def check_waiting(run) -> None:
    """Refuse what waits for the GPU."""
    run()
    torch.cuda.set_sync_debug_mode('error')
    try:
        run()
    finally:
        torch.cuda.set_sync_debug_mode('default')


MEASURES = dict(
    training=(measure_training, 'training step / (plain step + teacher)'),
    inference=(measure_inference, 'deployed / plain student'),
    memory=(measure_memory, 'saved activations / metric alone'),
    flow=(measure_flow, 'flow / encoder passes, and / transcription'),
)


def main() -> None:
    args = parse_args()
    if args.repeats < 1:
        raise ConfigError('--repeats must be 1 or more.')
    if args.compare and not Path(args.compare).is_file():
        raise ConfigError(f'--compare: there is no file {args.compare!r}.')
    measure, title = MEASURES[args.what]
    report = turns.report_of(title, measure(args), args.device)
    turns.show(report)
    if args.out:
        text = json.dumps(report, indent=1)
        Path(args.out).write_text(text, encoding='utf-8')
    if args.plot:
        turns.plot(report, args.plot)
    if args.compare:
        sys.exit(not turns.compare(report, args.compare, args.tolerance))


if __name__ == '__main__':
    with exit_on_error():
        main()
