"""Purpose of the variants, on a task that trains in seconds."""

import pytest
import small_task
import torch

from mmfmkt.datasets import make_shapes
from mmfmkt.models.losses import MSELoss

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    root = make_shapes(
        tmp_path_factory.mktemp('data') / 'shapes',
        num_train=400,
        num_val=200,
        image_size=(96, 96),
        object_size=(0.15, 0.6),
    )
    return [small_task.crops(root, split) for split in ('train', 'val')]


def test_the_averaged_output_of_online_distillation_beats_a_single_step(data):
    train, val = data
    *trained, losses = small_task.train((4, 8, 16), 'online', train)
    (one, nll_one), (eight, nll_eight) = (
        small_task.score(*trained, val, steps) for steps in (1, 8)
    )
    print(
        f'accuracy {one:.3f} and {eight:.3f}, NLL {nll_one:.3f} and '
        f'{nll_eight:.3f} in 1 and 8 steps; {losses}'
    )
    assert eight > 1.5 / small_task.CLASSES
    assert nll_eight < nll_one - 0.005
    assert eight > one - 0.02


def test_parallel_training_has_a_lower_loss_and_a_worse_result(data):
    train, val = data
    teacher, *_ = small_task.train((8, 16, 32), 'direct', train, epochs=6)
    found = {}
    for variant in ('fmkt', 'parallel'):
        features, flow, _, losses = small_task.train(
            (2, 4, 32),
            variant,
            train,
            teacher,
            epochs=5,
            maps=True,
            zero_init=False,
            metric='MSELoss',
        )
        with torch.no_grad():
            deployed = [
                MSELoss()(
                    flow.sample(features(val[0]), steps), teacher(val[0])
                ).item()
                for steps in (1, 8)
            ]
        found[variant] = losses['loss_flow'], *deployed
    print(found)
    serial, parallel = found['fmkt'], found['parallel']
    # The encoder reads the target off the interpolated state ...
    assert parallel[0] < 0.9 * serial[0]
    # ... and at inference, where there is none, steps do not help it.
    assert parallel[2] > 1.05 * serial[2]
    assert serial[2] < serial[1]
