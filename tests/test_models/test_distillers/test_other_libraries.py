"""A detector's teacher may be a classifier's backbone, with patches of another
size than the student's strides, and may see images of another size."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from tiny import batch, distiller, retinanet

pytest.importorskip('mmdet')
pytest.importorskip('mmpretrain')

from mmfmkt.engine.hooks import TeacherCheckHook  # noqa: E402
from mmfmkt.models.distillers.taps import tokens_to_map  # noqa: E402
from mmfmkt.registry import MODELS  # noqa: E402
from mmfmkt.utils import ConfigError  # noqa: E402

DINO = 'mmpretrain::dinov2/vit-small-p14_dinov2-pre_headless.py'
GRID = dict(scale=14 / 16, multiple_of=14)


def build(out_type='featmap', **teacher):
    torch.manual_seed(0)
    settings = dict(
        config=DINO,
        checkpoint=None,
        cfg_options={
            'backbone.out_type': out_type,
            'backbone.arch': dict(
                _delete_=True,
                embed_dims=24,
                num_layers=2,
                num_heads=2,
                feedforward_channels=24,
            ),
        },
        view=GRID,
    )
    model = distiller('theta', levels=(1,), flow=dict(num_steps=1))
    model['teacher'] = {**settings, **teacher}
    return MODELS.build(model)


def inputs_of(model, height=64, width=96):
    raw = batch(height=height, width=width)
    images = torch.stack(raw['inputs']).float()
    return model.data_preprocessor(raw, True), images


def test_patch_teachers_return_the_features_of_their_own_library():
    model = build()
    data, images = inputs_of(model)
    resized = F.interpolate(
        images, (56, 84), mode='bilinear', antialias=True, align_corners=False
    )
    teacher = model.teacher
    own = teacher.extract_feat(
        teacher.data_preprocessor(dict(inputs=resized))['inputs']
    )[-1]
    target = model.read_teacher(**data)['neck'][1]
    assert target.shape == (2, 24, 4, 6)
    torch.testing.assert_close(target, own, rtol=1e-4, atol=1e-4)


def test_patch_grids_match_a_stride_of_the_student_at_any_image_size():
    model = build()
    data, _ = inputs_of(model, 50, 70)
    assert data['inputs'].shape[2:] == (64, 96)
    data['inputs'] = data['inputs'][..., :50, :70]
    # 16 pixels of the student are 14 of the teacher: 4 x 5 patches.
    assert model.read_teacher(**data)['neck'][1].shape[2:] == (4, 5)


def test_tokens_become_maps_without_class_tokens():
    maps, tokens = build('featmap'), build('raw')
    tokens.teacher.load_state_dict(maps.teacher.state_dict())
    data, _ = inputs_of(maps)
    assert torch.equal(
        tokens.read_teacher(**data)['neck'][1],
        maps.read_teacher(**data)['neck'][1],
    )


def test_tokens_beyond_the_patches_are_the_first_ones():
    images, patches = torch.zeros(1, 3, 28, 42), torch.rand(1, 6, 5)
    registers = torch.rand(1, 5, 5)
    found = tokens_to_map(torch.cat([registers, patches], 1), images)
    assert torch.equal(found.flatten(2).transpose(1, 2), patches)
    assert found.shape == (1, 5, 2, 3)


def test_features_are_compared_on_the_grid_of_a_teacher_of_larger_images():
    model = distiller('theta', flow=dict(num_steps=1))
    model['teacher']['view'] = dict(scale=1.5)
    model = MODELS.build(model)
    # Strides 8, 16, 32, ... of the larger image are 5.3, 10.7, 21.3, ... here.
    assert model.teacher_holder.taps['neck'][1] == {0: 1, 1: 2, 2: 3}
    data, _ = inputs_of(model)
    targets = model.read_teacher(**data)['neck']
    assert targets[0].shape[2:] == (6, 10) and targets[1].shape[2:] == (3, 5)
    losses = model(**data, mode='loss')
    losses['neck.0.loss_flow'].backward()


def test_a_weighted_sum_of_losses_is_built_from_a_config():
    metric = dict(
        type='WeightedSumLoss',
        losses=[dict(type='CosineLoss'), dict(type='MSELoss')],
        weights=[0.9, 0.1],
    )
    model = MODELS.build(distiller(flow=dict(metric=metric)))
    assert [type(x).__name__ for x in model.flows.neck['0'].metric.losses] == [
        'CosineLoss',
        'MSELoss',
    ]
    metric['losses'][1] = dict(type='MSELos')
    with pytest.raises(ConfigError, match=r'metric.losses\[1\].*MSELoss'):
        MODELS.build(distiller(flow=dict(metric=metric)))


def test_settings_of_the_view_are_checked():
    with pytest.raises(ConfigError, match='model.teacher.view.*zoom'):
        build(view=dict(zoom=2))
    with pytest.raises(ConfigError, match='model.teacher.view.scale'):
        build(view=dict(scale=0))


def with_classifier(checkpoint=None):
    """Build a detector whose teacher is a classifier with a head."""
    model = distiller('theta', levels=None, flow=dict(num_steps=1))
    model['teacher'] = dict(
        config='mmpretrain::resnet/resnet18_8xb32_in1k.py',
        checkpoint=checkpoint,
    )
    return MODELS.build(model)


def test_a_neck_without_maps_is_not_tapped_in_a_classifier():
    model = with_classifier()
    assert model.teacher_holder.taps == {'neck': ('backbone', {2: 0})}


def test_a_scope_in_the_type_of_a_teacher_is_that_of_its_parts():
    backbone = dict(type='ResNet', depth=18)
    config = dict(type='mmpretrain.ImageClassifier', backbone=backbone)
    model = MODELS.build(
        distiller('theta', levels=None, teacher=config, flow=dict(num_steps=1))
    )
    assert model.teacher_holder.taps == {'neck': ('backbone', {2: 0})}


@pytest.mark.parametrize('scope', ('mmpretrain', None))
def test_a_teacher_without_a_scope_is_of_the_library_that_has_it(scope):
    config = dict(
        type='ImageClassifier',
        backbone=dict(type='VGG', depth=11, out_indices=(3, 4)),
    )
    if scope:
        config['_scope_'] = scope
    model = distiller('theta', tap='backbone')
    model['teacher'] = dict(config=config, checkpoint=None)
    backbone = MODELS.build(model).teacher.backbone
    assert type(backbone).__module__.startswith('mmpretrain.')


def test_tokens_need_images_of_whole_patches():
    model = build('raw', view=None)
    data, _ = inputs_of(model)
    with pytest.raises(ConfigError, match='view.multiple_of.*64x96 pixels'):
        model.read_teacher(**data)


def test_a_classifier_cannot_be_validated_as_a_detector():
    runner = SimpleNamespace(model=with_classifier(), val_loop=object())
    with pytest.raises(ConfigError, match='model.teacher is a classifier'):
        TeacherCheckHook().before_train(runner)


def test_backbone_weights_suffice_for_the_teacher_of_a_detector(tmp_path):
    backbone = MODELS.build(dict(type='mmpretrain.ResNet', depth=18))
    state = {f'backbone.{k}': x for k, x in backbone.state_dict().items()}
    path = str(tmp_path / 'backbone.pth')
    torch.save(state, path)
    loaded = with_classifier(path).teacher.state_dict()
    assert all(torch.equal(loaded[k], x) for k, x in state.items())


def test_a_parallel_flow_needs_equal_strides():
    model = distiller('parallel', levels=(1,))
    model['teacher'].update(config=retinanet(), view=dict(scale=1.5))
    with pytest.raises(ConfigError, match='equal shape'):
        MODELS.build(model)
