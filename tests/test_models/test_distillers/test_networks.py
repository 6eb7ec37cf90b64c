"""Weights of networks: removal from configs, and initialization."""

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModule
from tiny import packaged
from torch import nn

pytest.importorskip('mmdet')

from mmfmkt.models.distillers.networks import (  # noqa: E402
    init_random_weights,
    load_weights,
    without_weights,
)


@pytest.mark.parametrize(
    'name',
    (
        'detectors/htc_r50-rfp_1x_coco.py',
        'pvt/retinanet_pvt-t_fpn_1x_coco.py',
        'retinanet/retinanet_r50_fpn_1x_coco.py',
    ),
)
def test_pretrained_weights_are_removed_at_any_depth(name):
    model = Config.fromfile(packaged(name)).model
    assert '://' in str(model)
    assert without_weights(model) is model
    assert '://' not in str(model)


def test_a_flag_for_pretrained_weights_becomes_false():
    """`mmpretrain.TIMMBackbone` accepts only a bool."""
    timm = dict(
        type='mmpretrain.TIMMBackbone',
        model_name='resnet18',
        pretrained=True,
        checkpoint_path='weights.pth',
    )
    model = without_weights(dict(backbone=timm, head=dict(pretrained='a/b')))
    assert timm['pretrained'] is False and timm['checkpoint_path'] == ''
    assert model['head']['pretrained'] is None


def test_parameters_without_an_initializer_get_finite_values():
    network = BaseModule()
    network.unset = nn.Parameter(torch.full((2, 3), float('nan')))
    network.norm = nn.BatchNorm2d(4)
    init_random_weights(network)
    assert network.unset.isfinite().all() and network.norm.weight.eq(1).all()


class Classifier(nn.Module):
    """Network with the parts that a headless classifier has."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.timm_model = nn.Linear(2, 3)


@pytest.mark.parametrize('prefix', ('', 'backbone.', 'backbone.timm_model.'))
@pytest.mark.parametrize('key', (None, 'state_dict', 'model'))
def test_checkpoints_of_a_backbone_alone_are_loaded(key, prefix, tmp_path):
    expected = {
        name: torch.randn_like(x)
        for name, x in Classifier().state_dict().items()
    }
    state = {name.removeprefix(prefix): x for name, x in expected.items()}
    path = str(tmp_path / 'backbone.pth')
    torch.save({key: state} if key else state, path)
    network = Classifier()
    load_weights(network, path)
    for name, x in network.state_dict().items():
        assert torch.equal(x, expected[name])
