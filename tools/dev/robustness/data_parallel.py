"""Compare the gradients of two processes with those of one.

    python tools/dev/robustness/data_parallel.py

Prints for each variant and distillation loss: the largest difference, relative
to the largest gradient, between one process with a whole batch and two
processes with half of the batch each; and whether both processes have equal
weights after 20 iterations with random numbers of steps, pair decoupling,
gradient accumulation and a moving average of the weights.
"""

import argparse
import os
import tempfile
from copy import deepcopy
from typing import Any, Dict, Iterator, List, NamedTuple

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.model import ExponentialMovingAverage, MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope
from mmpretrain.structures import DataSample

from mmfmkt.cli.errors import exit_on_error
from mmfmkt.cli.options import add_debug, make_parser
from mmfmkt.registry import MODELS
from mmfmkt.utils import ConfigError

WHOLE = 4
ITERATIONS = 20
GROUPS = dict(type='GN', num_groups=4)


class Case(NamedTuple):
    """Distillation to compare.

    Attributes:
        name (str): Name in the output.
        model (dict): Config of the distiller.
        image (tuple): Height and width of the images.
    """

    name: str
    model: dict
    image: tuple


def detectors() -> Iterator[Case]:
    """Yield each variant with each distillation loss of feature maps."""
    student = Config.fromfile(
        Config._get_cfg_path('mmdet::_base_/models/retinanet_r50_fpn.py', '')[
            0
        ]
    ).model
    student.backbone.update(
        depth=18,
        base_channels=8,
        stem_channels=8,
        frozen_stages=-1,
        # Group norm: with batch norm, statistics would differ by process.
        norm_cfg=GROUPS,
        norm_eval=False,
        init_cfg=None,
    )
    student.neck.update(in_channels=[8, 16, 32, 64], out_channels=16)
    student.bbox_head.update(
        num_classes=4, in_channels=16, feat_channels=16, stacked_convs=1
    )
    for metric in (
        dict(type='PKDLoss', sync=True),
        dict(type='PKDLoss'),
        dict(type='CWDLoss'),
        dict(type='MSELoss'),
    ):
        for variant in ('fmkt', 'theta', 'online', 'parallel', 'direct'):
            teacher = dict(config=student.to_dict(), checkpoint=None)
            yield Case(
                f'{variant}, {metric["type"]}'
                + (', sync' if metric.get('sync') else ''),
                dict(
                    type='mmfmkt.DetectionDistiller',
                    student=student.to_dict(),
                    teacher=None if variant == 'online' else teacher,
                    variant=variant,
                    levels=(0, 1, 2),
                    flow=dict(metric=metric, num_steps=2),
                ),
                (64, 96),
            )


def classifiers() -> Iterator[Case]:
    """Yield each variant with each distillation loss of logits."""
    network = dict(
        type='ImageClassifier',
        backbone=dict(
            type='ResNet_CIFAR',
            depth=18,
            base_channels=8,
            stem_channels=8,
            norm_cfg=GROUPS,
        ),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(
            type='LinearClsHead',
            num_classes=5,
            in_channels=64,
            loss=dict(type='CrossEntropyLoss'),
        ),
        data_preprocessor=dict(num_classes=5),
    )
    for metric in (
        dict(type='KDLoss'),
        dict(type='DKDLoss'),
        dict(type='DISTLoss', sync=True),
        dict(type='DISTLoss'),
    ):
        for variant in ('fmkt', 'theta', 'online', 'direct'):
            yield Case(
                f'{variant}, {metric["type"]}'
                + (', sync' if metric.get('sync') else ''),
                dict(
                    type='mmfmkt.ClassificationDistiller',
                    student=network,
                    teacher=None
                    if variant == 'online'
                    else dict(config=network, checkpoint=None),
                    variant=variant,
                    flow=dict(metric=metric, num_steps=2),
                ),
                (32, 32),
            )


def build(case: Case, **flow: Any) -> torch.nn.Module:
    """Build a model with equal weights in each process."""
    torch.manual_seed(0)
    cfg = deepcopy(case.model)
    cfg['flow'] = {**cfg['flow'], **flow}
    with DefaultScope.overwrite_default_scope('mmengine'):
        model = MODELS.build(cfg)
    model.init_weights()
    # Zero-initialized flows have zero gradients in most layers.
    with torch.no_grad():
        for parameter in model.flows.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model.double()


def batch(case: Case, seed: int = 0) -> Dict[str, list]:
    """Return a whole batch, equal in each process."""
    height, width = case.image
    generator = torch.Generator().manual_seed(seed)
    if 'Detection' in case.model['type']:
        data = demo_mm_inputs(
            WHOLE, [(3, height, width)] * WHOLE, num_classes=4
        )
        samples = data['data_samples']
    else:
        samples = [DataSample().set_gt_label(i % 5) for i in range(WHOLE)]
    images = torch.rand(WHOLE, 3, height, width, generator=generator)
    return dict(inputs=list((255 * images).byte()), data_samples=samples)


def gradients(
    model: torch.nn.Module, data: dict, detects: bool
) -> Dict[str, torch.Tensor]:
    """Return the gradients of the distillation losses, by parameter."""
    inner = getattr(model, 'module', model)
    inputs = inner.data_preprocessor(data, True)
    inputs['inputs'] = inputs['inputs'].double()
    losses = model(**inputs, mode='loss')
    total = 0
    for name, loss in losses.items():
        # Task losses of detectors are means over boxes, not over samples.
        weight = 0 if detects and '.' not in name else 1
        for x in loss if isinstance(loss, (list, tuple)) else [loss]:
            if x.requires_grad:
                total = total + weight * x
    total.backward()
    return {
        name: parameter.grad.clone()
        for name, parameter in inner.named_parameters()
        if parameter.grad is not None
    }


def compare(rank: int, case: Case) -> float:
    """Return the largest difference of gradients, relative to the largest."""
    detects = 'Detection' in case.model['type']
    data = batch(case)
    half = {
        key: x[rank * WHOLE // 2 : (rank + 1) * WHOLE // 2]
        for key, x in data.items()
    }
    torch.manual_seed(1)
    together = gradients(wrap(build(case)), half, detects)
    model = build(case)
    for part in model.modules():
        if hasattr(part, 'sync'):
            part.sync = False  # one process has the whole batch
    torch.manual_seed(1)
    alone = gradients(model, data, detects)
    largest = max(x.abs().max() for x in alone.values())
    return max(
        ((alone[name] - together[name]).abs().max() / largest).item()
        for name in alone
    )


def wrap(model: torch.nn.Module) -> torch.nn.Module:
    """Data parallelism as the tools have it; no unused parameters."""
    return MMDistributedDataParallel(
        model, device_ids=None, broadcast_buffers=False
    )


def train(rank: int, case: Case) -> bool:
    """Whether both processes have the same weights after some iterations."""
    pairs = case.model['variant'] in ('fmkt', 'theta')
    options = dict(
        num_steps=(1, 2, 4), **(dict(dirac_ratio=0.5) if pairs else {})
    )
    model = wrap(build(case, **options).float())
    average = ExponentialMovingAverage(model.module)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    wrapper = OptimWrapper(optimizer, accumulative_counts=2)
    wrapper.initialize_count_status(model, 0, ITERATIONS)
    hub = MessageHub.get_current_instance()
    for iteration in range(ITERATIONS):
        hub.update_info('iter', iteration)
        # Ranks are seeded apart, as diff_rank_seed does.
        torch.manual_seed(100 * iteration + rank)
        data = batch(case, seed=10 * iteration + rank)
        model.train_step(data, optim_wrapper=wrapper)
        average.update_parameters(model.module)
    state = [*model.module.parameters(), *average.module.parameters()]
    mine = torch.cat([x.detach().double().reshape(-1) for x in state])
    parts = [torch.empty_like(mine) for _ in range(2)]
    dist.all_gather(parts, mine)
    return torch.equal(*parts)


def work(rank: int, names: List[str], folder: str) -> None:
    """What one of the two processes does."""
    os.environ.update(RANK=str(rank), WORLD_SIZE='2', LOCAL_RANK=str(rank))
    torch.set_num_threads(1)
    dist.init_process_group(
        'gloo', f'file://{folder}/meet', rank=rank, world_size=2
    )
    MMLogger.get_current_instance().setLevel('WARNING')
    if not rank:
        print(f'variant, metric: gradients, weights after {ITERATIONS}')
    for case in cases(names):
        difference, equal = compare(rank, case), train(rank, case)
        said = 'equal' if equal else 'not equal'
        if not rank:
            print(f'{case.name}: {difference:.1e}, {said}', flush=True)
    dist.destroy_process_group()


def cases(words: List[str]) -> List[Case]:
    """Those whose name has one of the words; all where there is none."""
    found = [*detectors(), *classifiers()]
    return [
        x for x in found if not words or any(word in x.name for word in words)
    ]


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument(
        'names',
        nargs='*',
        metavar='WORD',
        help='only those whose name has it, such as theta or PKDLoss',
    )
    add_debug(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if not cases(args.names):
        raise ConfigError(f'No variant or metric has {args.names} in it.')
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(work, (args.names, folder), nprocs=2)


if __name__ == '__main__':
    with exit_on_error():
        main()
