"""Exports to ONNX compute the same in ONNX Runtime."""

import re

import pytest
import torch
from helpers import run
from tiny import classification, detr, distiller

pytest.importorskip('mmdet')
onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')
pytestmark = pytest.mark.slow

from mmengine.config import Config  # noqa: E402
from mmengine.utils import digit_version  # noqa: E402

from mmfmkt.apis.onnx import export_onnx, largest_difference  # noqa: E402
from mmfmkt.models.distillers.networks import build_network  # noqa: E402
from mmfmkt.registry import MODELS  # noqa: E402
from mmfmkt.utils import ConfigError  # noqa: E402

ENCODERS = ('BottleneckEncoder', 'MLPEncoder')


def build(model):
    """A model whose flow is not the identity that it starts as."""
    torch.manual_seed(0)
    model = MODELS.build(model).eval()
    for parameter in model.flows.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.mark.parametrize('encoder', ENCODERS)
def test_a_detector_and_its_flow_are_exported_to_one_file(encoder, tmp_path):
    flow = dict(encoder=dict(type=encoder))
    model = build(distiller('fmkt', flow=flow, teacher=None))
    path = tmp_path / 'student.onnx'
    outputs = export_onnx(model, path, (96, 64))
    assert [x.name for x in tmp_path.iterdir()] == ['student.onnx']
    onnx.checker.check_model(str(path))
    images = torch.randn(1, 3, 64, 96)
    differences = largest_difference(model, path, images)
    assert list(differences) == list(outputs) and len(outputs) == 10
    assert max(differences.values()) < 1e-4
    # K is that of the export.
    model.inference_steps = 5
    assert max(largest_difference(model, path, images).values()) > 1e-4


@pytest.mark.parametrize('variant', ('fmkt', 'theta'))
def test_exported_classifiers_return_logits(variant, tmp_path):
    pytest.importorskip('mmpretrain')
    model = build(classification(variant))
    outputs = export_onnx(model, tmp_path / 'x.onnx', (32, 32), batch_size=2)
    assert outputs == {'output': [2, 5]}
    images = torch.randn(2, 3, 32, 32)
    difference = largest_difference(model, tmp_path / 'x.onnx', images)
    assert difference['output'] < 1e-5


def test_query_based_detectors_are_exported(tmp_path):
    model = build_network(detr(), 'mmdet').eval()
    path = tmp_path / 'x.onnx'
    outputs = export_onnx(model, path, (64, 64))
    assert list(outputs) == ['output_0', 'output_1']
    differences = largest_difference(model, path, torch.randn(1, 3, 64, 64))
    assert max(differences.values()) < 1e-4


def test_the_tool_exports_a_distillation_and_a_baseline_student(tmp_path):
    model = distiller('theta')
    config, weights = tmp_path / 'theta.py', tmp_path / 'theta.pth'
    Config(dict(model=model, default_scope='mmdet')).dump(config)
    torch.save(dict(state_dict=build(model).state_dict()), weights)
    size = ('--image-size', 96, 64)
    output = run('tools/export_onnx.py', config, weights, *size)
    found = re.findall(r'output_\d_\d: .* differs by (\S+) in', output)
    assert len(found) == 10 and max(map(float, found)) < 1e-4
    names = {x.name for x in onnx.load(tmp_path / 'theta.onnx').graph.node}
    assert names and not any('flows' in x for x in names)
    refused = run(
        'tools/export_onnx.py',
        config,
        weights,
        *size,
        '--inference-steps',
        2,
        fails=True,
    )
    assert 'the deployed network has no flow' in refused


class DataDependent(torch.nn.Module):
    """Network whose control flow depends on the values of the images."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)

    def forward(self, images, mode='tensor'):
        maps = self.conv(images)
        return (maps.nonzero().float() if maps.sum() > 0 else maps,)


@pytest.mark.skipif(
    digit_version(torch.__version__) < digit_version('2.6'),
    reason='traces the network, with its choices for one image',
)
def test_errors_of_the_export_name_the_cause(tmp_path):
    with pytest.raises(ConfigError, match='cannot export DataDepend') as error:
        export_onnx(DataDependent().eval(), tmp_path / 'a.onnx', (16, 16))
    assert 'data-dependent' in str(error.value)
