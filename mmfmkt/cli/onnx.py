"""Export a student as ONNX and compare it in ONNX Runtime.

    %(prog)s STUDENT.py STUDENT.pth --image-size 640 480
    %(prog)s CONFIG CHECKPOINT --image-size 640 480 --inference-steps 1

The arguments are config and checkpoint of an exported student or of a
distillation. The K Euler steps of a flow are unrolled, so K is fixed. The
graph maps normalized images to the class and box maps of each level of a
detector, or to the logits of a classifier.
"""

import argparse
from pathlib import Path

import torch

from mmfmkt.apis.inference import load_network
from mmfmkt.apis.onnx import export_onnx, largest_difference
from mmfmkt.models.distillers.probing import input_channels
from mmfmkt.utils import ConfigError
from mmfmkt.utils.configs import read_config

from .options import add_cfg_options, int_at_least, make_parser


def build_parser(prog: str) -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = make_parser(__doc__, prog=prog)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='path or URL of the checkpoint')
    parser.add_argument(
        '--image-size',
        nargs=2,
        type=int_at_least(1),
        metavar=('W', 'H'),
        required=True,
        help='width and height of the input images in pixels, including '
        'padding',
    )
    parser.add_argument(
        '--batch-size',
        type=int_at_least(1),
        default=1,
        help='fixed batch size of the graph (default: 1)',
    )
    parser.add_argument(
        '--inference-steps',
        type=int_at_least(1),
        metavar='K',
        help="number of Euler steps; default: the config's",
    )
    parser.add_argument(
        '--out', help='ONNX file; default: in the folder of the checkpoint'
    )
    parser.add_argument('--opset', type=int, help='ONNX opset version')
    add_cfg_options(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Export a model as ONNX."""
    config = read_config(args.config, args.cfg_options)
    model = load_network(config, args.checkpoint)
    if args.inference_steps is not None:
        if not getattr(model, 'deploys_flow', False):
            raise ConfigError(
                '--inference-steps: the deployed network has no flow.'
            )
        model.inference_steps = args.inference_steps
    name = Path(args.checkpoint.split('://')[-1]).name
    folder = (
        Path() if '://' in args.checkpoint else Path(args.checkpoint).parent
    )
    out = Path(args.out or folder / f'{Path(name).stem}.onnx')
    outputs = export_onnx(
        model, out, tuple(args.image_size), args.batch_size, args.opset
    )
    print(f'{out} ({out.stat().st_size / 2**20:.1f} MiB)')
    width, height = args.image_size
    noise = torch.randn(args.batch_size, input_channels(model), height, width)
    differences = largest_difference(model, out, noise)
    for name, shape in outputs.items():
        print(
            f'{name}: {" x ".join(map(str, shape))}, differs by '
            f'{differences[name]:.2g} in ONNX Runtime (maximum)'
        )
