"""Converted checkpoints compute what the published networks compute."""

import argparse

import published
import pytest
import torch
import torch.nn.functional as F
from helpers import run
from mmengine.config import Config

from mmfmkt.apis import classifier_config, convert_checkpoint
from mmfmkt.apis.convert import NETWORKS, convert_state
from mmfmkt.registry import MODELS
from mmfmkt.utils import ConfigError

FAMILIES = (
    'resnet8',
    'resnet8x4',
    'wrn_16_1',
    'vgg8',
    'MobileNetV2',
    'ShuffleV1',
    'ShuffleV2',
)


@pytest.fixture
def images():
    # float64, as the difference of two float32 results grows with depth.
    random = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, 32, 32, generator=random, dtype=torch.float64)


@pytest.fixture
def resnet8(images):
    return published.publish('resnet8', images)[0]


def test_tests_cover_all_convertible_networks():
    assert set(published.NETWORKS) == set(NETWORKS)


@pytest.mark.parametrize('name', NETWORKS)
def test_the_converted_network_gives_the_same_logits(name, images):
    source, logits = published.publish(name, images)
    state = convert_state(source, name)
    assert len(state) == len(source)
    backbone = MODELS.build(classifier_config(name, 10)['backbone'])
    backbone.eval().double()
    backbone.load_state_dict(
        {
            key.removeprefix('backbone.'): x
            for key, x in state.items()
            if key.startswith('backbone.')
        }
    )
    with torch.no_grad():
        (x,) = backbone(images)
    converted = F.linear(
        x.mean((2, 3)), state['head.fc.weight'], state['head.fc.bias']
    )
    # Images are told apart, so that equality says something.
    assert (logits[0] - logits[1]).abs().max() > 0.1
    torch.testing.assert_close(converted, logits, atol=1e-9, rtol=0)


@pytest.mark.parametrize('name', FAMILIES)
def test_the_written_config_and_weights_are_an_image_classifier(
    name, images, tmp_path
):
    pretrain = pytest.importorskip('mmpretrain.registry')
    source, logits = published.publish(name, images, num_classes=7)
    torch.save(dict(model=source, epoch=240), tmp_path / 'src.pth')
    path = convert_checkpoint(
        tmp_path / 'src.pth', tmp_path / 'new/dst.pth', name
    )
    assert [x.name for x in path.parent.iterdir()] == ['dst.pth']
    loaded = torch.load(path)
    cfg = Config.fromstring(loaded['meta']['cfg'], '.py')
    assert cfg.custom_imports.imports == ['mmfmkt']
    model = pretrain.MODELS.build(dict(cfg.model, _scope_='mmpretrain'))
    model.eval().double()
    model.load_state_dict(loaded['state_dict'], strict=True)
    with torch.no_grad():
        converted = model(images)
    torch.testing.assert_close(converted, logits, atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    'wrap',
    [
        dict,
        lambda state: dict(model=state),
        lambda state: dict(state_dict=state),
        lambda state: dict(
            model=state, opt=argparse.Namespace(model='resnet8')
        ),
        lambda state: {f'module.{name}': x for name, x in state.items()},
    ],
)
def test_usual_wrappers_of_state_dicts_are_removed(wrap, resnet8, tmp_path):
    torch.save(wrap(resnet8), tmp_path / 'src.pth')
    path = convert_checkpoint(
        str(tmp_path / 'src.pth'), str(tmp_path / 'dst.pth'), 'resnet8'
    )
    state = torch.load(path)['state_dict']
    assert len(state) == len(resnet8)
    assert torch.equal(state['head.fc.weight'], resnet8['fc.weight'])


def test_num_batches_tracked_may_be_missing(resnet8):
    old = {
        name: x
        for name, x in resnet8.items()
        if 'num_batches_tracked' not in name
    }
    before = list(old)
    state = convert_state(old, 'resnet8')
    assert list(old) == before
    assert len(state) == len(resnet8)
    assert state['backbone.stem.1.num_batches_tracked'] == 0


def change(state, **changes):
    """Add tensors, or take those out that are None."""
    changes = {name.replace('__', '.'): x for name, x in changes.items()}
    return {
        name: x for name, x in {**state, **changes}.items() if x is not None
    }


@pytest.mark.parametrize(
    'changes, message',
    [
        (
            dict(layer2__0__bn1__running_var=None),
            'Missing .*"backbone.stages.1.0.bn1.running_var"',
        ),
        (dict(fc__weight=None), 'Missing .*"head.fc.weight"'),
        (dict(fc__bias=None), 'Missing .*"head.fc.bias"'),
        (
            dict(conv1__bias=torch.zeros(16)),
            'Unexpected .*"backbone.stem.0.bias"',
        ),
        (
            dict(conv1__weight=torch.zeros(8, 3, 3, 3)),
            r'mismatch for backbone.stem.0.weight: .*\[8, 3, 3, 3\]',
        ),
        (
            dict(bn1__weight=torch.zeros(2)),
            r'mismatch for backbone.stem.1.weight: .*\[2\]',
        ),
        (
            dict(fc__weight=torch.zeros(9, 64)),
            'mismatch for head.fc.weight',
        ),
        (dict(own=torch.zeros(2)), 'Unexpected .*"own"'),
    ],
)
def test_tensors_of_unexpected_shape_are_reported_by_name(
    changes, message, resnet8
):
    with pytest.raises(ConfigError, match=message):
        convert_state(change(resnet8, **changes), 'resnet8')


@pytest.mark.parametrize(
    'name', ['resnet14', 'resnet8x4', 'vgg8', 'ShuffleV1']
)
def test_checkpoints_of_another_network_are_refused(name, resnet8):
    with pytest.raises(ConfigError, match=f'--model: .* not fit {name!r}'):
        convert_state(resnet8, name)


def test_checkpoints_of_a_deeper_network_are_refused(images):
    resnet14, _ = published.publish('resnet14', images)
    with pytest.raises(ConfigError, match='Unexpected .*stages.0.1.bn1.bias'):
        convert_state(resnet14, 'resnet8')


@pytest.mark.parametrize(
    'content, message',
    [
        (dict(epoch=3), 'no state dict'),
        (dict(model=dict()), 'no state dict'),
        (dict(own=torch.zeros(1)), 'Unexpected .*"own"'),
        ([1, 2], 'no state dict'),
        (b'no checkpoint', 'cannot be read'),
        (b'', 'cannot be read'),
        (None, 'cannot be read'),
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused(content, message, tmp_path):
    src = tmp_path / 'src.pth'
    if isinstance(content, bytes):
        src.write_bytes(content)
    elif content is not None:
        torch.save(content, src)
    with pytest.raises(ConfigError, match=message):
        convert_checkpoint(src, tmp_path / 'dst.pth', 'resnet8')
    assert not (tmp_path / 'dst.pth').exists()


def test_an_unknown_network_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(ConfigError, match='--model must be one of resnet8, '):
        convert_checkpoint('no.pth', tmp_path / 'dst.pth', 'resnet9')


@pytest.mark.slow
def test_the_tool_converts_a_checkpoint(resnet8, tmp_path):
    src, dst = tmp_path / 'src.pth', tmp_path / 'dst.pth'
    torch.save(resnet8, src)
    log = run('tools/convert_checkpoint.py', src, dst, '--model', 'resnet8')
    assert f'checkpoint: {dst}' in log and dst.is_file()
