"""Evaluate a checkpoint. The teacher of a distillation is not built.

%(prog)s CONFIG CHECKPOINT
%(prog)s CONFIG CHECKPOINT --cfg-options model.flow.inference_steps=8
"""

import argparse
from copy import deepcopy
from typing import Any, Dict

from mmengine.config import Config, ConfigDict
from mmengine.registry import METRICS
from mmengine.runner import Runner

from mmfmkt.apis.runner import build_runner
from mmfmkt.apis.train import check_fits, checkpoint_guard, verify_load_from
from mmfmkt.models.distillers.networks import drop_teacher
from mmfmkt.utils.error_messages import errors_as_config_errors
from mmfmkt.utils.types import is_mmpretrain_config

from .options import (
    add_flags,
    add_run_arguments,
    load_config,
    make_parser,
    set_loader_defaults,
)


def build_parser(prog: str) -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = make_parser(__doc__, prog=prog)
    parser.add_argument(
        'config', help="config file, or a shipped config 'mmfmkt::...'"
    )
    parser.add_argument('checkpoint', help='path or URL of the checkpoint')
    parser.add_argument('--out', help='pickle file (.pkl) for the predictions')
    parser.add_argument(
        '--show-dir', help='directory for images with predictions'
    )
    parser.add_argument(
        '--wait-time',
        type=float,
        default=2,
        help='display time per image with --show, in seconds',
    )
    add_flags(
        parser,
        {
            '--show': 'show predictions in a window',
            '--tta': 'use test-time augmentation: tta_model and tta_pipeline '
            'of the config, by default horizontal flips',
        },
    )
    add_run_arguments(parser)
    return parser


def use_tta(cfg: Config) -> None:
    """Wrap the model for test-time augmentation.

    A config without ``tta_model`` or ``tta_pipeline`` gets the horizontal
    flips of its library's test.py.
    """
    is_classifier = is_mmpretrain_config(cfg)
    if 'tta_model' not in cfg and is_classifier:
        cfg.tta_model = dict(type='mmpretrain.AverageClsScoreTTA')
    elif 'tta_model' not in cfg:
        cfg.tta_model = dict(
            # MMEngine's registry has it, not MMDetection's.
            type='DetTTAModel',
            tta_cfg=dict(
                nms=dict(type='nms', iou_threshold=0.5), max_per_img=100
            ),
        )
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    if 'tta_pipeline' not in cfg:
        pipeline = deepcopy(dataset.pipeline)
        flip, pack = 'mmdet.RandomFlip', dict(type='mmdet.PackDetInputs')
        if is_classifier:
            flip, pack = 'RandomFlip', pipeline[-1]
        pipeline[-1] = dict(
            type='TestTimeAug',
            transforms=[
                [dict(type=flip, prob=x) for x in (1.0, 0.0)],
                [pack],
            ],
        )
        cfg.tta_pipeline = pipeline
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    dataset.pipeline = cfg.tta_pipeline


def enable_visualization(cfg: Config, args: argparse.Namespace) -> None:
    """Enable the visualization hook with ``--show`` and ``--show-dir``."""
    if is_mmpretrain_config(cfg):
        hook = cfg.default_hooks.visualization
        hook.update(
            enable=True,
            show=args.show,
            out_dir=args.show_dir,
            wait_time=args.wait_time,
        )
    else:
        from mmdet.engine.hooks.utils import trigger_visualization_hook

        trigger_visualization_hook(cfg, args)


def dump_predictions(runner: Runner, path: str) -> None:
    """Add a metric that writes the predictions to a file."""
    is_classifier = is_mmpretrain_config(runner.cfg)
    name = 'mmengine.DumpResults' if is_classifier else 'mmdet.DumpDetResults'
    dump = METRICS.build(dict(type=name, out_file_path=path))
    runner.test_evaluator.metrics.append(dump)


def run(args: argparse.Namespace) -> None:
    """Evaluate a checkpoint, and log the metrics."""
    evaluate(args)


def evaluate(args: argparse.Namespace) -> Dict[str, Any]:
    """Evaluate a checkpoint, and return the metrics."""
    # Without the teacher, it must not replace the config of the training.
    cfg = load_config(args, suffix='_test')
    # The config of a resumed run has resume=True.
    cfg.load_from, cfg.resume = args.checkpoint, False
    if args.show or args.show_dir:
        enable_visualization(cfg, args)
    with checkpoint_guard(cfg):
        checkpoint = verify_load_from(cfg)
        drop_teacher(cfg.model, checkpoint)
        if args.tta:
            use_tta(cfg)
        set_loader_defaults(cfg, cfg.get('test_dataloader'))
        with errors_as_config_errors(cfg):
            runner = build_runner(cfg)
            # Reading `test_loop` builds it, and its evaluator.
            if runner.test_loop is not None and args.out:
                dump_predictions(runner, args.out)
        check_fits(runner.model, checkpoint)
        return runner.test()
