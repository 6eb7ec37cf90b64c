"""Flows of classifiers are chosen by the FLOPs that deployment adds."""

import re

import pytest
from mmengine.config import Config
from tiny import resnet, vit

pytest.importorskip('mmpretrain')

from mmfmkt.apis.choose_flow import candidates, choose_flow  # noqa: E402
from mmfmkt.apis.describe import MAX_COST  # noqa: E402


def choose(model, variant='fmkt', **flow):
    lines = choose_flow(
        Config(dict(model=model, default_scope='mmpretrain')),
        'fmkt_logits',
        variant,
        flow,
    )
    return flow, lines


def costs(lines):
    """Return the cost of the choice and those of the next larger ones."""
    chosen = re.search(r'K = \d+: \+([\d.]+)% FLOPs', lines[-2])
    larger = re.findall(r'K = \d+: \+([\d.]+)%', lines[-1])
    return [float(x) / 100 for x in (chosen[1], *larger)]


@pytest.mark.parametrize('width', [4, 16])
def test_the_chosen_flow_is_the_largest_that_adds_at_most_five_percent(width):
    flow, lines = choose(resnet(width))
    assert flow['encoder']['type'] == 'BottleneckEncoder'
    (chosen, *larger) = costs(lines)
    assert 0 < chosen <= MAX_COST < min(larger)
    # Equal inputs, equal decisions.
    assert choose(resnet(width)) == (flow, lines)


def test_explicit_flow_options_may_exceed_the_limit_of_cost():
    flow, lines = choose(
        resnet(), encoder=dict(type='ConvEncoder'), inference_steps=4
    )
    assert flow == dict(encoder=dict(type='ConvEncoder'), inference_steps=4)
    assert costs(lines)[0] > MAX_COST


def test_features_without_spatial_dimensions_get_an_mlp_encoder():
    flow, lines = choose(vit())
    assert flow['encoder'] == dict(type='MLPEncoder')
    assert any('MLPEncoder, since' in x for x in lines)


def test_a_flow_that_is_not_deployed_keeps_its_preset():
    assert choose(resnet(), variant='theta') == ({}, [])


def test_candidates_are_narrower_than_the_feature():
    widths = [x.get('width') for x in candidates(None, 128)]
    assert widths == [16, 32, 64, None]
    assert candidates(dict(type='MLPEncoder'), 8) == [dict(type='MLPEncoder')]
    assert candidates(None, 8)[0]['width'] == 8
