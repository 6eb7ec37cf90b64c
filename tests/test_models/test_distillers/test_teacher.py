"""The frozen teacher: isolation from the student, weights and checks."""

from copy import deepcopy

import pytest
import torch
from mmengine.config import Config
from mmengine.model import ExponentialMovingAverage
from mmengine.runner import CheckpointLoader
from tiny import batch, distiller, packaged, retinanet

pytest.importorskip('mmdet')

from mmfmkt.models.distillers.teacher_config import build_teacher  # noqa: E402
from mmfmkt.registry import MODELS  # noqa: E402


def build(*args, **kwargs):
    torch.manual_seed(0)
    return MODELS.build(distiller(*args, **kwargs))


def losses_of(model):
    data = model.data_preprocessor(batch(), True)
    return model(**data, mode='loss')


@pytest.fixture(scope='module', params=('fmkt', 'theta', 'direct'))
def model(request):
    return build(request.param)


def test_the_teacher_is_not_in_parameters_or_state_dict(model):
    ids = (
        {id(x) for x in model.parameters()}
        | {id(x) for x in model.buffers()}
        | {id(x) for x in model.modules()}
    )
    for tensor in (*model.teacher.parameters(), *model.teacher.buffers()):
        assert id(tensor) not in ids
    assert id(model.teacher) not in ids
    assert all(
        name in model.student.state_dict() or name.startswith('flows.')
        for name in model.state_dict()
    )


def test_the_teacher_stays_frozen_and_in_eval_mode(model):
    model.train()
    assert model.student.training
    assert not any(m.training for m in model.teacher.modules())
    before = deepcopy(model.teacher.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    total = model.parse_losses(losses_of(model))[0]
    total.backward()
    optimizer.step()
    assert all(p.grad is None for p in model.teacher.parameters())
    for name, tensor in model.teacher.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_the_teacher_follows_type_conversions_and_copies_share_it():
    model = build().double()
    assert next(model.teacher.parameters()).dtype == torch.float64
    model.float()
    assert next(model.teacher.parameters()).dtype == torch.float32
    average = ExponentialMovingAverage(model)
    assert average.module.teacher is model.teacher
    assert average.module.student is not model.student
    average.update_parameters(model)


def test_the_teachers_preprocessor_follows_the_distiller_to_a_device():
    model = build().to('meta')
    assert model.teacher.data_preprocessor.device == torch.device('meta')
    assert model.teacher_holder.input_adapter.gray.is_meta


def test_the_teacher_can_run_in_another_dtype():
    features = {}
    for dtype in (None, 'float32', 'bfloat16'):
        teacher = dict(config=retinanet(24, 16), checkpoint=None, dtype=dtype)
        torch.manual_seed(0)
        model = MODELS.build(dict(distiller(), teacher=teacher))
        data = model.data_preprocessor(batch(), True)
        targets = model.read_teacher(data['inputs'], data['data_samples'])
        features[dtype] = targets['neck'][0]
        assert model.parse_losses(losses_of(model))[0].isfinite()
        with torch.autocast('cpu', dtype=torch.bfloat16):
            targets = model.read_teacher(data['inputs'], data['data_samples'])
        lower = torch.bfloat16 if dtype is None else features[dtype].dtype
        assert targets['neck'][0].dtype == lower
    assert torch.equal(features[None], features['float32'])
    assert features['bfloat16'].dtype == torch.bfloat16
    torch.testing.assert_close(
        features['bfloat16'].float(), features[None], rtol=0.05, atol=0.05
    )
    teacher['dtype'] = 'half'
    with pytest.raises(ValueError, match="teacher.dtype must be 'float32', "):
        MODELS.build(dict(distiller(), teacher=teacher))


def test_only_untapped_parts_of_the_teacher_are_compiled():
    for tap, compiled in (('neck', {'backbone'}), ('backbone', {'neck'})):
        teacher = dict(config=retinanet(), checkpoint=None, compile=True)
        teacher['channels_last'] = True
        model = MODELS.build(
            dict(distiller(tap=tap, levels=(1,)), teacher=teacher)
        )
        assert compiled == {
            name
            for name, module in model.teacher.named_modules()
            if module._compiled_call_impl is not None
        }
        weight = model.teacher.backbone.layer1[0].conv1.weight
        assert weight.is_contiguous(memory_format=torch.channels_last)


def test_inherited_modules_start_with_the_teachers_weights():
    teacher = retinanet(16, 16)
    teacher.bbox_head.num_classes = 7
    settings = distiller(teacher=teacher)
    settings['teacher']['inherit'] = ['bbox_head', 'neck.fpn_convs.0']
    model = MODELS.build(settings)
    model.init_weights()
    teacher_weights = model.teacher.state_dict()
    for name, tensor in model.student.state_dict().items():
        if name.startswith(('bbox_head.', 'neck.fpn_convs.0.')):
            expected = teacher_weights[name]
            # The number of classes differs.
            has_equal_shape = 'retina_cls' not in name
            assert has_equal_shape == (tensor.shape == expected.shape)
            assert not has_equal_shape or torch.equal(tensor, expected)
    # The weights are copied: training does not change the teacher.
    with torch.no_grad():
        model.student.bbox_head.retina_reg.weight.zero_()
    assert model.teacher.bbox_head.retina_reg.weight.any()


@pytest.mark.parametrize(
    'inherit, sentence',
    [
        (['nek'], "inherit names 'nek', but"),
        (
            ['neck.lateral_convs.0'],
            "inherit names 'neck.lateral_convs.0', but",
        ),
        ('neck', "inherit must be a list, got 'neck'"),
    ],
)
def test_modules_that_cannot_be_inherited_raise_an_error(inherit, sentence):
    settings = distiller()
    settings['teacher']['inherit'] = inherit
    with pytest.raises(ValueError, match=sentence):
        MODELS.build(settings)


def test_transfer_weight_scales_losses_and_zero_skips_the_teacher():
    full = losses_of(build())
    for factor in (0.0, 0.5):
        model, calls = build(), []
        model.teacher.backbone.register_forward_hook(
            lambda *args, calls=calls: calls.append(1)
        )
        model.transfer_weight = factor
        losses = losses_of(model)
        assert bool(calls) == bool(factor)
        torch.testing.assert_close(
            losses['neck.1.loss_flow'], factor * full['neck.1.loss_flow']
        )
        model.parse_losses(losses)[0].backward()
        assert all(p.grad is not None for p in model.parameters())


def test_pretrained_weights_are_loaded_once(tmp_path, monkeypatch):
    network = MODELS.build(dict(retinanet(), _scope_='mmdet'))
    torch.save(network.backbone.state_dict(), tmp_path / 'backbone.pth')
    student = retinanet()
    student.backbone.init_cfg = dict(
        type='Pretrained', checkpoint=str(tmp_path / 'backbone.pth')
    )
    paths = []
    load = CheckpointLoader.load_checkpoint
    monkeypatch.setattr(
        CheckpointLoader,
        'load_checkpoint',
        lambda path, *args, **kwargs: paths.append(path)
        or load(path, *args, **kwargs),
    )
    model = build(student=student)
    assert not paths
    model.init_weights()
    assert paths == [str(tmp_path / 'backbone.pth')]
    for name, x in network.backbone.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[name], x)


def test_a_missing_teacher_checkpoint_raises_an_error():
    cfg = distiller()
    cfg['teacher']['checkpoint'] = 'no/such.pth'
    with pytest.raises(
        ValueError, match='checkpoint no/such.pth cannot be read'
    ):
        MODELS.build(cfg)


def test_a_file_that_is_not_a_checkpoint_raises_an_error(tmp_path):
    path = tmp_path / 'text.pth'
    path.write_text('not weights')
    cfg = distiller()
    cfg['teacher']['checkpoint'] = str(path)
    with pytest.raises(ValueError, match='text.pth cannot be read'):
        MODELS.build(cfg)


@pytest.mark.parametrize(
    'name, change',
    [
        (
            'other widths',
            lambda state: {
                k: x[:1] if x.dim() else x for k, x in state.items()
            },
        ),
        (
            'other parts',
            lambda state: {
                k.replace('neck', 'necklace'): x for k, x in state.items()
            },
        ),
    ],
)
def test_a_checkpoint_of_another_network_raises_an_error(
    name, change, tmp_path
):
    network = MODELS.build(dict(retinanet(24, 16), _scope_='mmdet'))
    path = str(tmp_path / 'foreign.pth')
    torch.save(dict(state_dict=change(network.state_dict())), path)
    cfg = distiller()
    cfg['teacher']['checkpoint'] = path
    with pytest.raises(
        ValueError, match='does not fit model.teacher.config'
    ) as error:
        MODELS.build(cfg)
    assert '\n' not in str(error.value)


def test_a_teacher_checkpoint_is_loaded(tmp_path):
    network = MODELS.build(dict(retinanet(24, 16), _scope_='mmdet'))
    path = str(tmp_path / 'teacher.pth')
    torch.save(dict(state_dict=network.state_dict()), path)
    cfg = distiller()
    cfg['teacher']['checkpoint'] = path
    teacher = MODELS.build(cfg).teacher
    for name, tensor in network.state_dict().items():
        assert torch.equal(teacher.state_dict()[name], tensor)


def test_a_teacher_with_random_weights_has_no_uninitialized_parameter():
    model = Config.fromfile(
        packaged('deformable_detr/deformable-detr_r50_16xb2-50e_coco.py')
    ).model
    model.encoder.num_layers = model.decoder.num_layers = 1
    teacher = build_teacher(dict(model, _scope_='mmdet'), 'mmdet', None)
    # MMDetection creates this parameter uninitialized.
    assert 0.9 < teacher.level_embed.std() < 1.1
    assert not any(x.requires_grad for x in teacher.parameters())


def test_the_teacher_moves_to_the_device_of_the_images():
    model = build('fmkt')
    # FSDP moves parameters without calling to() of the distiller.
    data = model.data_preprocessor(batch(), True)
    images = data['inputs'].to('meta')
    targets = model.read_teacher(images, data['data_samples'])
    assert all(x.is_meta for x in model.teacher.state_dict().values())
    assert all(x.is_meta for tap in targets.values() for x in tap.values())
