"""Two data-parallel processes against one process with the whole batch.

``pytest -rP`` prints the differences of the gradients.
"""

import itertools
from functools import partial

import pytest
import torch
import torch.distributed as dist
from helpers import run_ranks
from tiny import (
    batch,
    classification,
    distiller,
    image_batch,
    resnet,
    retinanet,
)

pytest.importorskip('mmdet')
pytest.importorskip('mmpretrain')
pytestmark = pytest.mark.slow

from mmengine.logging import MessageHub  # noqa: E402
from mmengine.model import (  # noqa: E402
    ExponentialMovingAverage,
    MMDistributedDataParallel,
)
from mmengine.optim import OptimWrapper  # noqa: E402

from mmfmkt.registry import MODELS  # noqa: E402

BATCH_SIZE, ITERATIONS = 4, 20
# Losses that use statistics of the batch; with `sync`, of all processes.
BATCH_STATISTICS_LOSSES = ('PKDLoss', 'DISTLoss')
MAP_LOSSES = (
    dict(type='PKDLoss', sync=True),
    dict(type='PKDLoss'),
    dict(type='CWDLoss'),
    dict(type='MSELoss'),
)
LOGIT_LOSSES = (
    dict(type='KDLoss'),
    dict(type='DKDLoss'),
    dict(type='DISTLoss', sync=True),
    dict(type='DISTLoss'),
)
CASES = [
    *itertools.product(
        ('fmkt', 'theta', 'online', 'parallel', 'direct'), MAP_LOSSES
    ),
    *itertools.product(('fmkt', 'theta', 'online', 'direct'), LOGIT_LOSSES),
]


def name_of(value):
    """Return the name of a variant or distillation loss."""
    if isinstance(value, str):
        return value
    return f'{value["type"]}{", sync" * ("sync" in value)}'


def build(variant, metric, **flow):
    """Build a distiller, with equal weights in each process."""
    is_detector = metric in MAP_LOSSES
    network, compose = (
        (retinanet(), distiller)
        if is_detector
        else (resnet(8), classification)
    )
    # With batch norm, statistics would differ by process.
    network['backbone']['norm_cfg'] = dict(type='GN', num_groups=4)
    teacher = None if variant == 'online' else network
    flow = dict(dict(metric=dict(metric), num_steps=2), **flow)
    torch.manual_seed(0)
    model = MODELS.build(compose(variant, network, teacher, flow=flow))
    model.init_weights()
    # Zero-initialized flows have zero gradients in most layers.
    with torch.no_grad():
        for parameter in model.flows.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model.double()


def data_parallel(model):
    """Wrap a model as the tools do, without a search for unused parameters."""
    return MMDistributedDataParallel(
        model, device_ids=None, broadcast_buffers=False
    )


def gradients(model, data, is_detector):
    """Return the gradients of the losses, by parameter."""
    inner = getattr(model, 'module', model)
    inputs = inner.data_preprocessor(data, True)
    inputs['inputs'] = inputs['inputs'].double()
    torch.manual_seed(1)
    total = 0
    for name, loss in model(**inputs, mode='loss').items():
        # Task losses of detectors are means over boxes, not over samples.
        weight = 0 if is_detector and '.' not in name else 1
        for x in loss if isinstance(loss, (list, tuple)) else [loss]:
            if x.requires_grad:
                total = total + weight * x
    total.backward()
    return {
        name: parameter.grad
        for name, parameter in inner.named_parameters()
        if parameter.grad is not None
    }


def difference_of_gradients(variant, metric):
    """Return the largest difference, relative to the largest gradient."""
    dist.init_process_group('gloo')
    is_detector = metric in MAP_LOSSES
    data = (batch if is_detector else image_batch)(BATCH_SIZE)
    half = BATCH_SIZE // 2
    start = dist.get_rank() * half
    half_batch = {key: x[start : start + half] for key, x in data.items()}
    parallel_model = data_parallel(build(variant, metric))
    two_processes = gradients(parallel_model, half_batch, is_detector)
    model = build(variant, metric)
    for part in model.modules():
        if hasattr(part, 'sync'):
            part.sync = False  # one process has the whole batch
    one_process = gradients(model, data, is_detector)
    largest = max(x.abs().max() for x in one_process.values())
    return max(
        ((x - two_processes[name]).abs().max() / largest).item()
        for name, x in one_process.items()
    )


@pytest.mark.parametrize('variant, metric', CASES, ids=name_of)
def test_two_processes_have_the_gradients_of_one(variant, metric):
    for difference in run_ranks(
        partial(difference_of_gradients, variant, metric)
    ):
        print(f'largest difference {difference:.1e}')
        of_batch = metric['type'] in BATCH_STATISTICS_LOSSES
        differs = of_batch and 'sync' not in metric
        assert (difference > 1e-6) if differs else (difference < 1e-11)


def has_equal_weights_after_training(variant, metric):
    """Train; return whether both processes have equal weights."""
    dist.init_process_group('gloo')
    rank = dist.get_rank()
    options = dict(num_steps=(1, 2, 4))
    if variant in ('fmkt', 'theta'):
        options['dirac_ratio'] = 0.5
    model = data_parallel(build(variant, metric, **options).float())
    average = ExponentialMovingAverage(model.module)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    wrapper = OptimWrapper(optimizer, accumulative_counts=2)
    wrapper.initialize_count_status(model, 0, ITERATIONS)
    hub = MessageHub.get_current_instance()
    read_batch = batch if metric in MAP_LOSSES else image_batch
    for iteration in range(ITERATIONS):
        hub.update_info('iter', iteration)
        # The seed differs by rank, as with diff_rank_seed.
        torch.manual_seed(100 * iteration + rank)
        data = read_batch(BATCH_SIZE, seed=10 * iteration + rank)
        model.train_step(data, optim_wrapper=wrapper)
        average.update_parameters(model.module)
    state = [*model.module.parameters(), *average.module.parameters()]
    weights = torch.cat([x.detach().double().reshape(-1) for x in state])
    gathered = [torch.empty_like(weights) for _ in range(2)]
    dist.all_gather(gathered, weights)
    return torch.equal(*gathered)


@pytest.mark.parametrize(
    'variant, metric', [x for x in CASES if 'sync' in x[1]], ids=name_of
)
def test_processes_with_other_images_have_equal_weights(variant, metric):
    equal = partial(has_equal_weights_after_training, variant, metric)
    assert all(run_ranks(equal))
