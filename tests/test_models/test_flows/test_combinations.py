"""Legal combinations of the method's parts train, save and deploy.

Built as configs have them built.
"""

import io
import itertools

import pytest
import torch
from flow_parts import CountingHead, run, total_of

from mmfmkt.models.distillers.builder import (
    FeaturePair,
    build_transfer,
    complete_flow,
)
from mmfmkt.models.flows import VARIANTS
from mmfmkt.utils import ConfigError

SCHEDULES = ('RectifiedFlow', 'VPODE', 'SubVPODE', 'VEODE')
ENCODERS = (
    'BottleneckEncoder',
    'ConvEncoder',
    'DepthwiseConvEncoder',
    'MLPEncoder',
    'TransformerEncoder',
    'ConvNeXtEncoder',
)
METRICS = ('KDLoss', 'DKDLoss', 'DISTLoss', 'PKDLoss', 'MSELoss', 'CWDLoss')
PREDICTIONS = ('velocity', 'target')
COMPARED = ('targets', 'velocities')
SPACES = ('maps', 'unlike maps', 'logits of maps', 'logits of vectors')
BATCH, CHANNELS, CLASSES = 3, 6, 4
# Schedule, encoder and prediction play no part where there is no flow.
NO_FLOW = (SCHEDULES[0], 'MLPEncoder', PREDICTIONS[0])
ALL = [
    x
    for x in itertools.product(
        SPACES, VARIANTS, SCHEDULES, ENCODERS, METRICS, PREDICTIONS, COMPARED
    )
    if x[1] != 'direct' or (x[2], x[3], x[5]) == NO_FLOW
]


def covering(combinations):
    """Yield a few combinations that cover all pairs of parts of all."""

    def pairs(combination):
        return set(itertools.combinations(enumerate(combination), 2))

    missing = set().union(*map(pairs, combinations))
    for combination in combinations:
        if pairs(combination) & missing:
            missing -= pairs(combination)
            yield combination


def legal(space, variant, schedule, encoder, metric, prediction, compare):
    """Independent list of the supported combinations."""
    logits = space.startswith('logits')
    if space == 'logits of vectors' and encoder != 'MLPEncoder':
        return False
    if metric in ('KDLoss', 'DKDLoss', 'DISTLoss') and not logits:
        return False
    if metric in ('PKDLoss', 'CWDLoss') and logits:
        return False
    if variant == 'parallel' and space != 'maps':
        return False
    if compare == 'velocities':
        # PKD ignores scale, and rectified flows start at velocity zero.
        return (
            variant in ('fmkt', 'theta', 'parallel')
            and (metric, schedule) != ('PKDLoss', 'RectifiedFlow')
            and space == 'maps'
        )
    return True


def build(space, variant, schedule, encoder, metric, prediction, compare):
    narrow = {}
    if encoder == 'TransformerEncoder':
        narrow = dict(num_heads=2, head_dim=4)
    flow = complete_flow(
        dict(
            encoder=dict(type=encoder, **narrow),
            schedule=dict(type=schedule),
            metric=dict(type=metric),
            prediction=prediction,
            compare=compare,
        )
    )
    logits = space.startswith('logits')
    target = CLASSES if logits or space == 'unlike maps' else CHANNELS
    if variant == 'online' and not logits:
        target = CHANNELS
    ends = FeaturePair(
        CHANNELS,
        target,
        space == 'logits of vectors',
        'logits' if logits else 'maps',
    )
    return build_transfer(variant, ends, flow, 1.0, flow.encoder)


def exercise(combination):
    """Forward, backward, state-dict round trip, and K = 1, 3, 8."""
    space = combination[0]
    transfer = build(*combination)
    logits = space.startswith('logits')
    shape = (BATCH, CHANNELS, 4, 3)
    source = torch.randn(shape[:2] if space.endswith('vectors') else shape)
    source.requires_grad_()
    head, labels, target = None, None, torch.randn(shape)
    if space == 'unlike maps':
        target = torch.randn(BATCH, CLASSES, 2, 5)
    if logits:
        head, labels = CountingHead(CHANNELS, CLASSES), torch.tensor([0, 3, 1])
        head.labels, target = labels, torch.randn(BATCH, CLASSES)

    target = target if transfer.needs_teacher else None
    losses, output = run(transfer, source, target, 2, labels, head)
    total = total_of(losses, output)
    total.backward()
    assert total.isfinite() and source.grad.isfinite().all()
    for parameter in transfer.parameters():
        assert parameter.grad.isfinite().all()
        # Leave the identity.
        torch.nn.init.normal_(parameter, std=0.1)

    saved = io.BytesIO()
    torch.save(transfer.state_dict(), saved)
    saved.seek(0)
    again = build(*combination)
    again.load_state_dict(torch.load(saved))
    if not logits and not transfer.deploys_flow:
        return
    for steps in (1, 3, 8):
        with torch.no_grad():
            first, second = (
                x.logits(source, [steps], head.logits)[steps]
                if logits
                else x.sample(source, steps)
                for x in (transfer, again)
            )
        assert first.shape == ((BATCH, CLASSES) if logits else shape)
        assert first.isfinite().all() and torch.equal(first, second)


@pytest.mark.slow
@pytest.mark.parametrize('variant', VARIANTS)
@pytest.mark.parametrize('space', SPACES)
def test_every_legal_pair_of_parts_works(space, variant):
    torch.manual_seed(0)
    combinations = [x for x in ALL if x[:2] == (space, variant) and legal(*x)]
    for combination in covering(combinations) if combinations else ():
        exercise(combination)


@pytest.mark.slow
def test_every_other_combination_is_refused_in_one_line():
    for combination in ALL:
        if not legal(*combination):
            with pytest.raises(ConfigError) as error:
                build(*combination)
            assert '\n' not in str(error.value)
