"""A teacher with another preprocessor computes its own features."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import DefaultScope
from tiny import batch, packaged

pytest.importorskip('mmdet')

from mmfmkt.models.distillers.networks import without_weights  # noqa: E402
from mmfmkt.registry import MODELS  # noqa: E402

# Student, teacher; the convention that the teacher has and the student not.
PAIRS = {
    'BGR under RGB': (
        'retinanet/retinanet_r18_fpn_1x_coco.py',
        'rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
    ),
    'BGR of unit scale under RGB': (
        'atss/atss_r50_fpn_1x_coco.py',
        'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
    ),
    'normalised under raw, resized batches': (
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
def test_its_features_are_those_it_has_alone(name, run_progress):
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
    # Two shapes in a batch: each network fills up in its own way. (Where
    # both are resized, the edge of an image is of both: see test_teacher_view)
    one, other = batch(1, 128, 96), batch(1, 64, 192)
    if resized:
        one = batch(1, 64, 192, seed=1)
    images = one['inputs'] + other['inputs']
    samples = one['data_samples'] + other['data_samples']

    data = model.data_preprocessor(
        dict(inputs=images, data_samples=samples), True
    )
    heard = []
    handle = model.teacher.neck.register_forward_hook(
        lambda module, args, output: heard.append(output)
    )
    model(**data, mode='loss')
    handle.remove()

    padded = alone.data_preprocessor(dict(inputs=images, data_samples=None))
    inputs = padded['inputs']
    if resized:
        inputs = F.interpolate(inputs, size=(96, 160), mode='bilinear')
    with torch.no_grad():
        expected = alone.extract_feat(inputs)
    differences = [(a - b).abs().max() for a, b in zip(heard[0], expected)]
    scales = [x.abs().max() for x in expected]
    print(
        f'{name}: largest difference {max(differences):.1e}, '
        f'largest feature {max(scales):.1e}'
    )
    # Rounding of the pixels alone.
    assert max(differences) < 1e-5 * max(scales)
