"""Compare the gradients of two processes with those of one.

    python tools/dev/robustness/data_parallel.py

For each variant and distillation loss, print:

- the largest difference of gradients between one process with a whole batch
  and two processes with half of the batch each, relative to the largest
  gradient;
- whether both processes have equal weights after 20 iterations with random
  numbers of steps, pair decoupling, gradient accumulation and a moving average
  of the weights.
"""

import argparse
import itertools
import os
import tempfile
from copy import deepcopy
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Tuple

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from mmdet.testing import demo_mm_inputs
from mmengine.hub import get_config
from mmengine.logging import MessageHub, MMLogger
from mmengine.model import ExponentialMovingAverage, MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope
from mmpretrain.structures import DataSample

from mmfmkt.cli.errors import exit_on_error
from mmfmkt.cli.options import add_debug, make_parser
from mmfmkt.registry import MODELS
from mmfmkt.utils import ConfigError

# Number of images in a batch, which two processes share.
BATCH_SIZE = 4
ITERATIONS = 20
GROUP_NORM = dict(type='GN', num_groups=4)


class Case(NamedTuple):
    """Distillation whose gradients and weights are compared.

    Attributes:
        name (str): Name in the output.
        model (dict): Config of the distiller.
    """

    name: str
    model: dict

    @property
    def is_detector(self) -> bool:
        """Whether the student is a detector."""
        return 'Detection' in self.model['type']

    @property
    def image_size(self) -> Tuple[int, int]:
        """Height and width of the images."""
        return (64, 96) if self.is_detector else (32, 32)


def distillations(
    variants: Sequence[str],
    metrics: Sequence[dict],
    network: dict,
    **settings: Any,
) -> Iterator[Case]:
    """Yield each variant with each distillation loss."""
    teacher = dict(config=network, checkpoint=None)
    for metric, variant in itertools.product(metrics, variants):
        sync = ', sync' if metric.get('sync') else ''
        model = dict(
            settings,
            student=network,
            teacher=None if variant == 'online' else teacher,
            variant=variant,
            flow=dict(metric=metric, num_steps=2),
        )
        yield Case(f'{variant}, {metric["type"]}{sync}', model)


def detectors() -> Iterator[Case]:
    """Yield each variant with each distillation loss of feature maps."""
    network = get_config('mmdet::_base_/models/retinanet_r50_fpn.py').model
    network.backbone.update(
        depth=18,
        base_channels=8,
        stem_channels=8,
        frozen_stages=-1,
        # Group norm: with batch norm, statistics would differ by process.
        norm_cfg=GROUP_NORM,
        norm_eval=False,
        init_cfg=None,
    )
    network.neck.update(in_channels=[8, 16, 32, 64], out_channels=16)
    network.bbox_head.update(
        num_classes=4, in_channels=16, feat_channels=16, stacked_convs=1
    )
    return distillations(
        ('fmkt', 'theta', 'online', 'parallel', 'direct'),
        (
            dict(type='PKDLoss', sync=True),
            dict(type='PKDLoss'),
            dict(type='CWDLoss'),
            dict(type='MSELoss'),
        ),
        network.to_dict(),
        type='mmfmkt.DetectionDistiller',
        levels=(0, 1, 2),
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
            norm_cfg=GROUP_NORM,
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
    return distillations(
        ('fmkt', 'theta', 'online', 'direct'),
        (
            dict(type='KDLoss'),
            dict(type='DKDLoss'),
            dict(type='DISTLoss', sync=True),
            dict(type='DISTLoss'),
        ),
        network,
        type='mmfmkt.ClassificationDistiller',
    )


def build(case: Case, **flow: Any) -> torch.nn.Module:
    """Build a distiller, with equal weights in each process."""
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
    height, width = case.image_size
    generator = torch.Generator().manual_seed(seed)
    if case.is_detector:
        data = demo_mm_inputs(
            BATCH_SIZE, [(3, height, width)] * BATCH_SIZE, num_classes=4
        )
        samples = data['data_samples']
    else:
        samples = [DataSample().set_gt_label(i % 5) for i in range(BATCH_SIZE)]
    images = torch.rand(BATCH_SIZE, 3, height, width, generator=generator)
    return dict(inputs=list((255 * images).byte()), data_samples=samples)


def gradients(
    model: torch.nn.Module, data: dict, is_detector: bool
) -> Dict[str, torch.Tensor]:
    """Return the gradients of the losses, by parameter.

    Task losses of detectors are left out.
    """
    inner = getattr(model, 'module', model)
    inputs = inner.data_preprocessor(data, True)
    inputs['inputs'] = inputs['inputs'].double()
    losses = model(**inputs, mode='loss')
    total = 0
    for name, loss in losses.items():
        # Task losses of detectors are means over boxes, not over samples.
        weight = 0 if is_detector and '.' not in name else 1
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
    data = batch(case)
    half_batch = {
        key: x[rank * BATCH_SIZE // 2 : (rank + 1) * BATCH_SIZE // 2]
        for key, x in data.items()
    }
    torch.manual_seed(1)
    two_processes = gradients(
        data_parallel(build(case)), half_batch, case.is_detector
    )
    model = build(case)
    for part in model.modules():
        if hasattr(part, 'sync'):
            part.sync = False  # one process has the whole batch
    torch.manual_seed(1)
    one_process = gradients(model, data, case.is_detector)
    largest = max(x.abs().max() for x in one_process.values())
    return max(
        (
            (one_process[name] - two_processes[name]).abs().max() / largest
        ).item()
        for name in one_process
    )


def data_parallel(model: torch.nn.Module) -> torch.nn.Module:
    """Wrap a model as the tools do, without a search for unused parameters."""
    return MMDistributedDataParallel(
        model, device_ids=None, broadcast_buffers=False
    )


def train(rank: int, case: Case) -> bool:
    """Train; return whether both processes have equal weights afterwards."""
    options: Dict[str, Any] = dict(num_steps=(1, 2, 4))
    if case.model['variant'] in ('fmkt', 'theta'):
        options['dirac_ratio'] = 0.5
    model = data_parallel(build(case, **options).float())
    average = ExponentialMovingAverage(model.module)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    wrapper = OptimWrapper(optimizer, accumulative_counts=2)
    wrapper.initialize_count_status(model, 0, ITERATIONS)
    hub = MessageHub.get_current_instance()
    for iteration in range(ITERATIONS):
        hub.update_info('iter', iteration)
        # The seed differs by rank, as with diff_rank_seed.
        torch.manual_seed(100 * iteration + rank)
        data = batch(case, seed=10 * iteration + rank)
        model.train_step(data, optim_wrapper=wrapper)
        average.update_parameters(model.module)
    state = [*model.module.parameters(), *average.module.parameters()]
    weights = torch.cat([x.detach().double().reshape(-1) for x in state])
    gathered = [torch.empty_like(weights) for _ in range(2)]
    dist.all_gather(gathered, weights)
    return torch.equal(*gathered)


def run_process(rank: int, names: List[str], folder: str) -> None:
    """Run one of the two processes."""
    os.environ.update(RANK=str(rank), WORLD_SIZE='2', LOCAL_RANK=str(rank))
    torch.set_num_threads(1)
    dist.init_process_group(
        'gloo', f'file://{folder}/rendezvous', rank=rank, world_size=2
    )
    MMLogger.get_current_instance().setLevel('WARNING')
    if not rank:
        print(
            'variant, distillation loss: largest difference of gradients, '
            f'weights after {ITERATIONS} iterations'
        )
    for case in cases(names):
        difference, equal = compare(rank, case), train(rank, case)
        weights = 'equal' if equal else 'not equal'
        if not rank:
            print(f'{case.name}: {difference:.1e}, {weights}', flush=True)
    dist.destroy_process_group()


def cases(words: List[str]) -> List[Case]:
    """Return the cases with one of the words in their names."""
    return [
        case
        for case in [*detectors(), *classifiers()]
        if not words or any(word in case.name for word in words)
    ]


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument(
        'names',
        nargs='*',
        metavar='WORD',
        help='run only cases with this word in their names, such as theta',
    )
    add_debug(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if not cases(args.names):
        raise ConfigError(
            f'WORD: no case name contains one of {args.names}; names have '
            'the form VARIANT, LOSS.'
        )
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(run_process, (args.names, folder), nprocs=2)


if __name__ == '__main__':
    with exit_on_error():
        main()
