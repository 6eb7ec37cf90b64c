"""CIFAR backbones: published sizes, MMPretrain's interface."""

import pytest
import torch

from mmfmkt.registry import MODELS
from mmfmkt.utils import ConfigError

RESNET = ((32, 16, 8), (16, 32, 64))
WIDE = ((32, 16, 8), (64, 128, 256))
WIDTHS = (32, *WIDE[1])
VGG = ((32, 16, 8, 4, 4), (64, 128, 256, 512, 512))

# Name, arguments, parameters with a classifier of 100 classes (as published,
# where RepDistiller's users print them), and sides and widths of the stages
# of 32x32 images.
NETWORKS = [
    ('CIFARResNet', dict(depth=8), 83892, *RESNET),
    ('CIFARResNet', dict(depth=14), 181108, *RESNET),
    ('CIFARResNet', dict(depth=20), 278324, *RESNET),
    ('CIFARResNet', dict(depth=32), 472756, *RESNET),
    ('CIFARResNet', dict(depth=44), 667188, *RESNET),
    ('CIFARResNet', dict(depth=56), 861620, *RESNET),
    ('CIFARResNet', dict(depth=110), 1736564, *RESNET),
    ('CIFARResNet', dict(depth=8, widths=WIDTHS), 1233540, *WIDE),
    ('CIFARResNet', dict(depth=32, widths=WIDTHS), 7433860, *WIDE),
    ('WideResNet', dict(depth=16), 180916, *RESNET),
    (
        'WideResNet',
        dict(depth=16, widen_factor=2),
        703284,
        (32, 16, 8),
        (32, 64, 128),
    ),
    ('WideResNet', dict(depth=40), 569780, *RESNET),
    (
        'WideResNet',
        dict(depth=40, widen_factor=2),
        2255156,
        (32, 16, 8),
        (32, 64, 128),
    ),
    ('CIFARVGG', dict(depth=8), 3965028, *VGG),
    ('CIFARVGG', dict(depth=11), 9277284, *VGG),
    ('CIFARVGG', dict(depth=13), 9462180, *VGG),
    ('CIFARVGG', dict(depth=16), 14774436, *VGG),
    ('CIFARVGG', dict(depth=19), 20086692, *VGG),
    (
        'CIFARMobileNetV2',
        dict(),
        812836,
        (16, 16, 8, 4, 4, 2, 2, 2),
        (8, 12, 16, 32, 48, 80, 160, 1280),
    ),
    ('CIFARShuffleNetV1', dict(), 949258, (16, 8, 4), (240, 480, 960)),
    (
        'CIFARShuffleNetV2',
        dict(),
        1355528,
        (16, 8, 4, 4),
        (116, 232, 464, 1024),
    ),
]
SMALLEST = {
    name: (name, args, *rest) for name, args, *rest in reversed(NETWORKS)
}.values()


def build(name, args, **kwargs):
    return MODELS.build(dict(type=f'mmfmkt.{name}', **args, **kwargs))


@pytest.mark.parametrize('name, args, parameters, sides, widths', NETWORKS)
def test_parameters_are_as_many_as_published(
    name, args, parameters, sides, widths
):
    with torch.device('meta'):
        backbone = build(name, args)
        classifier = torch.nn.Linear(widths[-1], 100)
    assert backbone.stage_channels == widths
    assert parameters == sum(
        p.numel() for part in (backbone, classifier) for p in part.parameters()
    )


@pytest.mark.parametrize('name, args, parameters, sides, widths', NETWORKS)
def test_stages_have_their_sizes(name, args, parameters, sides, widths):
    backbone = build(name, args, out_indices=range(len(sides)))
    with torch.no_grad():
        outs = backbone.eval()(torch.randn(1, 3, 32, 32))
    assert [x.shape for x in outs] == [
        (1, width, side, side) for side, width in zip(sides, widths)
    ]


@pytest.mark.parametrize('name, args, parameters, sides, widths', SMALLEST)
def test_out_indices_select_stages_in_order(
    name, args, parameters, sides, widths
):
    backbone = build(name, args).eval()
    first_and_last = build(name, args, out_indices=[len(sides) - 1, 0]).eval()
    first_and_last.load_state_dict(backbone.state_dict())
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        (last,) = backbone(images)
        outs = first_and_last(images)
    assert [x.shape[1] for x in outs] == [widths[0], widths[-1]]
    assert torch.equal(outs[1], last)


@pytest.mark.parametrize('name, args, parameters, sides, widths', SMALLEST)
def test_gradients_reach_every_parameter(
    name, args, parameters, sides, widths
):
    # With norms in eval mode: a batch norm in training mode removes the bias
    # before it, which then has no gradient.
    backbone = build(name, args).eval()
    backbone.init_weights()
    (x,) = backbone(torch.randn(1, 3, 32, 32))
    (x * torch.randn_like(x)).sum().backward()
    assert all(
        p.grad is not None and p.grad.any() for p in backbone.parameters()
    )


@pytest.mark.parametrize('name, args, parameters, sides, widths', SMALLEST)
def test_the_last_output_has_passed_a_relu(
    name, args, parameters, sides, widths
):
    (x,) = build(name, args)(torch.randn(2, 3, 32, 32))
    assert (x >= 0).all() and (x == 0).any()


@pytest.mark.parametrize('name, args, parameters, sides, widths', SMALLEST)
def test_no_layer_modifies_its_input_in_place(
    name, args, parameters, sides, widths
):
    backbone = build(name, args)
    seen = []
    for module in backbone.modules():
        module.register_forward_hook(
            lambda module, _, out: seen.append((out, out[0].clone()))
        )
    backbone(torch.randn(2, 3, 32, 32))
    assert all(torch.equal(out[0], copy) for out, copy in seen)


@pytest.mark.parametrize(
    'name, args',
    [
        *(('CIFARShuffleNetV1', dict(groups=n)) for n in (1, 2)),
        *(('CIFARShuffleNetV2', dict(net_size=n)) for n in (0.5, 1.5)),
        *(('CIFARMobileNetV2', dict(width_mult=n)) for n in (1.0, 1.4)),
        ('WideResNet', dict(depth=10, widen_factor=4)),
    ],
)
def test_other_depths_and_widths_can_be_built(name, args):
    backbone = build(name, args)
    x = backbone.stem(torch.randn(2, 3, 32, 32))
    for stage, width in zip(backbone.stages, backbone.stage_channels):
        x = stage(x)
        assert x.shape[1] == width


@pytest.mark.parametrize(
    'name, args, key',
    [
        ('CIFARResNet', dict(depth=18), 'depth'),
        ('CIFARResNet', dict(depth=2), 'depth'),
        ('CIFARResNet', dict(depth=8, widths=(16, 32, 64)), 'widths'),
        ('WideResNet', dict(depth=20), 'depth'),
        ('CIFARVGG', dict(depth=12), 'depth'),
        ('CIFARShuffleNetV1', dict(groups=4), 'groups'),
        ('CIFARShuffleNetV2', dict(net_size=2), 'net_size'),
        ('CIFARVGG', dict(depth=8, out_indices=(5,)), 'out_indices'),
        ('CIFARVGG', dict(depth=8, out_indices=(-1,)), 'out_indices'),
        ('CIFARVGG', dict(depth=8, out_indices=()), 'out_indices'),
    ],
)
def test_unknown_architectures_are_refused_by_config_key(name, args, key):
    with pytest.raises(ConfigError, match=rf'^backbone\.{key} of {name} '):
        build(name, args)


def test_convolutions_start_kaiming_normal_by_fan_out():
    backbone = build('CIFARResNet', dict(depth=8, widths=WIDTHS))
    backbone.init_weights()
    weight = backbone.stages[2][0].conv2.weight
    assert weight.std().item() == pytest.approx(
        (2 / (256 * 9)) ** 0.5, rel=0.01
    )
