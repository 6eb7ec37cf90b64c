"""Networks are built from each form of config."""

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModule
from tiny import packaged
from torch import nn

pytest.importorskip('mmdet')

from mmfmkt.models.distillers.networks import (  # noqa: E402
    draw_weights,
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
def test_pretrained_weights_are_found_wherever_they_are(name):
    model = Config.fromfile(packaged(name)).model
    assert '://' in str(model)
    assert without_weights(model) is model
    assert '://' not in str(model)


def test_a_flag_for_pretrained_weights_stays_a_flag():
    """As `mmpretrain.TIMMBackbone` has it, which takes nothing else."""
    timm = dict(
        type='mmpretrain.TIMMBackbone',
        model_name='resnet18',
        pretrained=True,
        checkpoint_path='weights.pth',
    )
    model = without_weights(dict(backbone=timm, head=dict(pretrained='a/b')))
    assert timm['pretrained'] is False and timm['checkpoint_path'] == ''
    assert model['head']['pretrained'] is None


def test_parameters_without_an_initializer_are_drawn():
    network = BaseModule()
    network.unset = nn.Parameter(torch.full((2, 3), float('nan')))
    network.norm = nn.BatchNorm2d(4)
    draw_weights(network)
    assert network.unset.isfinite().all() and network.norm.weight.eq(1).all()
