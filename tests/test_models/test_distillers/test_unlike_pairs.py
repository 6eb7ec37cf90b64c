"""Features of a teacher with another normalization than the student."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import DefaultScope
from tiny import batch, packaged

pytest.importorskip('mmdet')

from mmfmkt.models.distillers.networks import without_weights  # noqa: E402
from mmfmkt.registry import MODELS  # noqa: E402

# Student and teacher, by their normalizations.
PAIRS = {
    'RGB student, BGR teacher': (
        'retinanet/retinanet_r18_fpn_1x_coco.py',
        'rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
    ),
    'RGB student, BGR teacher of unit scale': (
        'atss/atss_r50_fpn_1x_coco.py',
        'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
    ),
    'resized raw images, normalized teacher': (
        'yolox/yolox_tiny_8xb8-300e_coco.py',
        'retinanet/retinanet_r18_fpn_1x_coco.py',
    ),
}


def model_section(name):
    model = Config.fromfile(packaged(name)).model
    without_weights(model)
    return model


@pytest.mark.slow
@pytest.mark.parametrize('name', PAIRS)
def test_teacher_features_equal_those_without_a_student(name, run_progress):
    student, teacher = (model_section(path) for path in PAIRS[name])
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        alone = MODELS.build(teacher).eval()
        model = MODELS.build(
            dict(
                type='mmfmkt.DetectionDistiller',
                student=student,
                teacher=dict(config=teacher.to_dict(), checkpoint=None),
                levels=(0,),
            )
        )
    alone.load_state_dict(model.teacher.state_dict())
    resized = getattr(student.data_preprocessor, 'batch_augments', None)
    if resized:
        model.data_preprocessor.batch_augments[0]._input_size = (96, 160)
    # Two shapes in a batch, so that each network pads. Resizing would mix the
    # edge of an image with the padding: see test_teacher_input.
    one, other = batch(1, 128, 96), batch(1, 64, 192)
    if resized:
        one = batch(1, 64, 192, seed=1)
    images = one['inputs'] + other['inputs']
    samples = one['data_samples'] + other['data_samples']

    data = model.data_preprocessor(
        dict(inputs=images, data_samples=samples), True
    )
    features = []
    handle = model.teacher.neck.register_forward_hook(
        lambda module, args, output: features.append(output)
    )
    model(**data, mode='loss')
    handle.remove()

    padded = alone.data_preprocessor(dict(inputs=images, data_samples=None))
    inputs = padded['inputs']
    if resized:
        inputs = F.interpolate(inputs, size=(96, 160), mode='bilinear')
    with torch.no_grad():
        expected = alone.extract_feat(inputs)
    differences = [(a - b).abs().max() for a, b in zip(features[0], expected)]
    scales = [x.abs().max() for x in expected]
    print(
        f'{name}: largest difference {max(differences):.1e}, '
        f'largest feature {max(scales):.1e}'
    )
    # Only the pixels are rounded differently.
    assert max(differences) < 1e-5 * max(scales)
