"""Distillation of detectors, with tiny networks of MMDetection."""

from copy import deepcopy
from types import SimpleNamespace as Namespace

import pytest
import torch
from tiny import batch, detr, distiller, faster_rcnn, retinanet

pytest.importorskip('mmdet')

from mmdet.engine.hooks import NumClassCheckHook  # noqa: E402
from mmengine.logging import MessageHub  # noqa: E402

from mmfmkt.models.distillers.levels import (  # noqa: E402
    LevelSpec,
    pair_levels,
)
from mmfmkt.models.losses import PKDLoss  # noqa: E402
from mmfmkt.registry import MODELS  # noqa: E402
from mmfmkt.utils import ConfigError  # noqa: E402


def build(*args, **kwargs):
    torch.manual_seed(0)
    return MODELS.build(distiller(*args, **kwargs))


def losses_of(model, **kwargs):
    data = model.data_preprocessor(batch(**kwargs), True)
    return model(**data, mode='loss')


@pytest.mark.parametrize('variant', ('fmkt', 'theta', 'direct'))
def test_mmdetections_check_of_the_number_of_classes_passes(variant):
    model = build(variant)
    classes = ('class',) * model.bbox_head.num_classes
    dataset = Namespace(metainfo=dict(classes=classes))
    runner = Namespace(
        model=model, train_dataloader=Namespace(dataset=dataset)
    )
    NumClassCheckHook().before_train_epoch(runner)


def boxes_of(model):
    model.eval()
    with torch.no_grad():
        return torch.cat(
            [
                sample.pred_instances.bboxes
                for sample in model.test_step(batch())
            ]
        )


def randomize_flows(model):
    """Set flows, which start as the identity, to random weights."""
    for parameter in model.flows.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


@pytest.fixture(scope='module', params=('fmkt', 'theta', 'direct'))
def model(request):
    return build(request.param)


def test_every_parameter_gets_a_gradient():
    # Data parallelism waits for the gradients of all parameters.
    model = build('fmkt')
    model.parse_losses(losses_of(model))[0].backward()
    assert all(p.grad is not None for p in model.parameters())


def test_losses_are_named_by_tap_level_and_part(model):
    losses = losses_of(model)
    parts = dict(
        fmkt=['loss_flow'],
        theta=['loss_flow', 'loss_student'],
        direct=['loss_direct'],
    )[model.variant]
    expected = {f'neck.{level}.{p}' for level in range(3) for p in parts}
    assert expected | {'loss_cls', 'loss_bbox'} == set(losses)


def test_metric_of_mean_is_logged_every_tenth_iteration():
    model, hub = build(), MessageHub.get_current_instance()
    name = 'neck.0.metric_of_mean'
    try:
        for iteration in (8, 9, 10, 19):
            hub.update_info('iter', iteration)
            losses = losses_of(model)
            assert (name in losses) == (iteration in (9, 19))
            total, logged = model.parse_losses(losses)
            # It is logged, but not added to the loss.
            parts = [v for k, v in logged.items() if 'loss_' in k]
            torch.testing.assert_close(total, sum(parts))
    finally:
        hub.pop_info('iter')


@pytest.mark.slow
def test_only_fmkt_changes_predictions_and_depends_on_k():
    for variant in ('fmkt', 'theta', 'direct'):
        model = randomize_flows(build(variant))
        boxes = [boxes_of(model)]
        for steps in (1, 8):
            model.inference_steps = steps
            boxes.append(boxes_of(model))
        expected = boxes_of(model.student)
        is_equal = [
            x.shape == expected.shape and torch.equal(x, expected)
            for x in boxes
        ]
        assert not any(is_equal) if variant == 'fmkt' else all(is_equal)


def test_a_new_flow_does_not_change_predictions():
    model = build('fmkt')
    assert torch.equal(boxes_of(model), boxes_of(model.student))


def test_methods_that_trackers_call_run_the_flow():
    model = randomize_flows(build('fmkt')).eval()
    data = model.data_preprocessor(batch(1), False)
    with torch.no_grad():
        expected = model(**data, mode='predict')[0].pred_instances
        for network, is_equal in ((model, True), (model.student, False)):
            found = network.predict(*data.values())[0].pred_instances
            assert torch.equal(found.scores, expected.scores) == is_equal
            features = network.extract_feat(data['inputs'])
            deployed = model.flows['neck'].sample(
                model.student.extract_feat(data['inputs'])
            )
            assert torch.equal(features[0], deployed[0]) == is_equal


def test_the_teacher_may_be_a_student_with_a_flow(tmp_path):
    config = distiller('online')
    teacher = randomize_flows(MODELS.build(deepcopy(config)))
    torch.save(teacher.state_dict(), tmp_path / 'teacher.pth')
    settings = distiller('theta', teacher=config)
    settings['teacher']['checkpoint'] = str(tmp_path / 'teacher.pth')
    model = MODELS.build(settings)
    data = model.data_preprocessor(batch(), True)
    maps = model.read_teacher(data['inputs'], data['data_samples'])['neck']
    with torch.no_grad():
        deployed = model.teacher.extract_feat(data['inputs'])
    assert all(torch.equal(maps[level], deployed[level]) for level in maps)


def test_loss_weight_can_differ_between_levels():
    losses = losses_of(build(flow=dict(loss_weight=[1.0, 0.0, 2.0])))
    one = losses_of(build(flow=dict(loss_weight=1.0)))
    for level, weight in enumerate((1, 0, 2)):
        name = f'neck.{level}.loss_flow'
        torch.testing.assert_close(losses[name], weight * one[name])


def test_only_the_given_levels_are_transferred():
    model = build(levels=(1,))
    assert list(model.flows['neck']) == ['1']
    names = [x for x in losses_of(model) if x.startswith('neck')]
    assert names == ['neck.1.loss_flow']


@pytest.mark.slow
def test_each_of_several_taps_has_its_own_settings():
    taps = [
        dict(tap='neck', levels=(0, 2)),
        dict(
            tap='backbone',
            levels=(3,),
            flow=dict(
                encoder=dict(type='MLPEncoder'),
                metric=dict(type='MSELoss'),
                num_steps=3,
                inference_steps=5,
                loss_weight=2.0,
            ),
        ),
        dict(tap='backbone.layer2', flow=dict(schedule=dict(type='VPODE'))),
    ]
    model = randomize_flows(build(taps=taps))
    losses = losses_of(model)
    assert {x for x in losses if x.endswith('loss_flow')} == {
        f'{tap}.loss_flow'
        for tap in ('neck.0', 'neck.2', 'backbone.3', 'backbone.layer2.0')
    }
    model.parse_losses(losses)[0].backward()
    assert all(p.grad is not None for p in model.flows.parameters())
    neck, backbone, layer = model.flows.values()
    assert (neck.inference_steps, backbone.inference_steps) == (2, 5)
    assert backbone.step_count.draw() == 3
    assert type(layer['0'].field.schedule).__name__ == 'VPODE'
    before = boxes_of(model)
    bare = MODELS.build(dict(distiller(taps=taps), teacher=None))
    bare.load_state_dict(model.state_dict())
    assert torch.equal(boxes_of(bare), before)


def test_class_maps_of_a_dense_head_train_together_with_the_neck():
    taps = [
        dict(tap='neck', levels=(0, 1)),
        dict(
            tap='bbox_head[0]',
            levels=(0, 2),
            flow=dict(metric=dict(type='CWDLoss')),
        ),
        dict(tap='bbox_head[1]', levels=(0,), flow=dict(num_steps=2)),
    ]
    model = build(taps=taps)
    data = model.data_preprocessor(batch(), True)
    losses = model(**data, mode='loss')
    assert {x for x in losses if x.endswith('loss_flow')} == {
        f'{tap}.loss_flow'
        for tap in (
            'neck.0',
            'neck.1',
            # MLflow accepts no brackets.
            'bbox_head.0.0',
            'bbox_head.0.2',
            'bbox_head.1.0',
        )
    }
    model.parse_losses(losses)[0].backward()
    assert all(p.grad is not None for p in model.parameters())
    # The targets are the outputs of the teacher's head.
    with torch.no_grad():
        features = model.teacher.extract_feat(data['inputs'])
        scores, boxes = model.teacher.bbox_head(features)
    targets = model.read_teacher(data['inputs'], data['data_samples'])
    assert torch.equal(targets['bbox_head[0]'][2], scores[2])
    assert torch.equal(targets['bbox_head[1]'][0], boxes[0])
    # The deployed student uses both flows.
    before = boxes_of(model)
    torch.nn.init.normal_(
        model.flows['bbox_head[1]']['0'].field.encoder.layers[-1].weight
    )
    assert not torch.equal(boxes_of(model), before)
    bare = MODELS.build(dict(distiller(taps=taps), teacher=None))
    bare.load_state_dict(model.state_dict())
    assert torch.equal(boxes_of(bare), boxes_of(model))


def test_student_attributes_are_available_on_the_distiller(model):
    assert model.bbox_head is model.student.bbox_head
    assert not hasattr(model, 'roi_head')
    with pytest.raises(AttributeError, match="DetectionDistiller.*'roi_head'"):
        print(model.roi_head)
    # YOLOXModeSwitchHook sets attributes this way.
    model.bbox_head.use_l1 = True
    assert deepcopy(model).student.bbox_head.use_l1


def test_online_distillation_trains_and_predicts_without_a_teacher():
    model = build('online', flow=dict(num_steps=3))
    assert model.teacher is None
    losses = losses_of(model)
    # The flow starts as the identity.
    assert losses['neck.0.loss_flow'] < 1e-6
    randomize_flows(model)
    losses = losses_of(model)
    assert losses['neck.0.loss_flow'] > 0
    model.parse_losses(losses)[0].backward()
    assert all(p.grad is not None for p in model.parameters())
    assert not torch.equal(boxes_of(model), boxes_of(model.student))


@pytest.mark.parametrize(
    'variant, setting',
    [
        ('fmkt', dict(ensemble_weight=0.5)),
        ('direct', dict(compare='velocities')),
        ('online', dict(direct_weight=1.0)),
        ('parallel', dict(ensemble_weight=0.5)),
    ],
)
def test_settings_of_another_variant_raise_an_error(variant, setting):
    with pytest.raises(ConfigError, match='has no such term'):
        build(variant, flow=setting)


@pytest.mark.parametrize('variant', ('fmkt', 'direct', 'online'))
def test_every_variant_accepts_a_weight_of_zero_for_a_term_it_lacks(variant):
    terms = dict(ensemble_weight=0.0, direct_weight=0.0)
    build(variant, flow=terms)


def test_one_output_of_a_neck_trains_without_labels():
    model = build('theta', tap='neck[1]', levels=None, task_loss=False)
    losses = losses_of(model)
    assert set(losses) == {f'neck.1.0.loss_{x}' for x in ('flow', 'student')}
    model.parse_losses(losses)[0].backward()
    trained = {n for n, p in model.named_parameters() if p.grad is not None}
    assert {x.split('.')[0] for x in trained} == {'backbone', 'neck', 'flows'}


@pytest.mark.slow
def test_pair_decoupling_changes_only_the_loss_of_the_flow():
    flow = dict(direct_weight=1.0, num_steps=2)
    coupled = losses_of(build('theta', flow=flow), size=4)
    decoupled = losses_of(
        build('theta', flow=dict(flow, dirac_ratio=0.0)), size=4
    )
    for part in ('loss_flow', 'loss_direct', 'loss_student'):
        name = f'neck.0.{part}'
        is_equal = torch.equal(coupled[name], decoupled[name])
        assert is_equal == (part != 'loss_flow')


@pytest.mark.parametrize(
    'preprocessor',
    [
        dict(
            mean=[103.53, 116.28, 123.675],
            std=[1.0, 1.0, 1.0],
            bgr_to_rgb=False,
        ),
        dict(pad_size_divisor=64),
    ],
)
def test_the_teacher_gets_images_as_its_preprocessor_makes_them(preprocessor):
    teacher = retinanet(24, 16)
    teacher.data_preprocessor = dict(teacher.data_preprocessor, **preprocessor)
    model = build(teacher=teacher)
    inputs = []
    model.teacher.backbone.register_forward_pre_hook(
        lambda module, args: inputs.append(args[0])
    )
    losses_of(model)
    alone = MODELS.build(dict(teacher.data_preprocessor, _scope_='mmdet'))
    expected = alone(batch(), False)['inputs']
    height, width = inputs[0].shape[-2:]
    torch.testing.assert_close(
        inputs[0], expected[..., :height, :width], rtol=0, atol=1e-5
    )


def test_features_of_a_teacher_with_more_padding_are_cropped():
    teacher = retinanet(16, 16)
    teacher.data_preprocessor = dict(
        teacher.data_preprocessor, pad_size_divisor=128
    )
    model = build(teacher=teacher)
    losses = losses_of(model)
    images = model.data_preprocessor(batch(), True)
    with torch.no_grad():
        model.student.train()
        student_maps = model.student.extract_feat(images['inputs'])
        teacher_maps = model.teacher.extract_feat(
            model.teacher_holder.input_adapter(
                images['inputs'], images['data_samples']
            )
        )
    for level in range(3):
        height, width = student_maps[level].shape[-2:]
        assert teacher_maps[level].shape[-1] > width
        torch.testing.assert_close(
            losses[f'neck.{level}.loss_flow'],
            PKDLoss()(
                student_maps[level], teacher_maps[level][..., :height, :width]
            ),
        )


def test_checkpoints_of_the_baseline_student_can_be_loaded():
    model, student = build(), MODELS.build(dict(retinanet(), _scope_='mmdet'))
    missing, unexpected = model.load_state_dict(
        student.state_dict(), strict=False
    )
    assert not unexpected
    assert all(name.startswith('flows.') for name in missing)
    for name, tensor in student.state_dict().items():
        assert torch.equal(model.student.state_dict()[name], tensor)


def test_a_training_checkpoint_predicts_equally_without_a_teacher():
    model = randomize_flows(build())
    bare = MODELS.build(dict(distiller(), teacher=None))
    bare.load_state_dict(model.state_dict())
    assert torch.equal(boxes_of(bare), boxes_of(model))
    with pytest.raises(ValueError, match='set model.teacher'):
        losses_of(bare)


def test_losses_stay_float32_and_finite_in_mixed_precision(model):
    data = model.data_preprocessor(batch(), True)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = model(**data, mode='loss')
    for name, loss in losses.items():
        if name.startswith('neck'):
            assert loss.dtype == torch.float32 and loss.isfinite()


def test_a_two_stage_detector_trains_and_predicts():
    network = faster_rcnn()
    model = build(student=network, teacher=network, levels=(0, 1, 2, 3))
    losses = losses_of(model)
    assert {'loss_rpn_cls', 'loss_bbox', 'neck.3.loss_flow'} <= set(losses)
    assert len(model.test_step(batch())) == 2


BAD = {
    'unknown tap': (
        dict(tap='nek'),
        "model.tap 'nek' matches no module .*mean 'neck'",
    ),
    'tap that does not run': (
        dict(tap='bbox_head.loss_cls'),
        "'bbox_head.loss_cls' must run once .* 0 times",
    ),
    'unknown encoder': (
        dict(flow=dict(encoder=dict(type='ConvEncodr'))),
        "'ConvEncodr' is not registered .*ConvEncoder",
    ),
    'encoder with an unknown argument': (
        dict(flow=dict(encoder=dict(type='ConvEncoder', depth=3))),
        "ConvEncoder.*'depth'",
    ),
    'level out of range': (
        dict(levels=(0, 7)),
        'model.levels has level 7.* the levels 0 to 4',
    ),
    'duplicate level': (dict(levels=(1, 1)), 'distinct values'),
    'unknown variant': (
        dict(variant='thetta'),
        "model.variant must be 'fmkt', 'theta'",
    ),
    'online with a teacher': (
        dict(variant='online', teacher=retinanet()),
        'model.teacher to None',
    ),
    'distillation loss of logits on maps': (
        dict(flow=dict(metric=dict(type='KDLoss'))),
        'KDLoss compares logits, but the target of this tap is maps',
    ),
    'parallel variant with different channels': (
        dict(variant='parallel'),
        'features of equal shape',
    ),
    'velocities of different channels': (
        dict(flow=dict(compare='velocities')),
        'features of equal shape',
    ),
    'velocities without a flow': (
        dict(
            variant='direct',
            student=retinanet(24, 8),
            flow=dict(compare='velocities'),
        ),
        "the variant 'direct' has no such term",
    ),
    'unknown prediction': (
        dict(flow=dict(prediction='noise')),
        'prediction must be one of velocity, target',
    ),
    'schedule with an invalid value': (
        dict(flow=dict(schedule=dict(type='VEODE', sigma_max=0.0))),
        'sigma_max must be greater than 0, got 0.0',
    ),
    'duplicate tap': (
        dict(taps=[dict(tap='neck'), dict(tap='neck')]),
        'model.taps must have one or more distinct values',
    ),
    'output index out of range': (
        dict(tap='bbox_head[2]'),
        'selects output 2 of a module',
    ),
    'output index of a module without maps': (
        dict(tap='bbox_head.retina_cls[0]'),
        "tap the neck instead of 'bbox_head.retina_cls.0.'",
    ),
    'tap without a name': (
        dict(taps=[dict(levels=(1,))]),
        "needs the key 'tap'",
    ),
    'encoder with other channels': (
        dict(flow=dict(encoder=dict(type='ConvEncoder', channels=99))),
        'encoder.channels is 99, but .* 16 channels',
    ),
    'unknown flow key': (dict(flow=dict(step=3)), "no key 'step'.*num_steps"),
    'zero steps': (
        dict(flow=dict(num_steps=0)),
        'num_steps must be .*, got 0',
    ),
    'zero steps at inference': (
        dict(flow=dict(inference_steps=0)),
        'inference_steps must be .*, got 0',
    ),
    'dirac ratio': (
        dict(flow=dict(dirac_ratio=2)),
        'dirac_ratio must be .* 1, got 2',
    ),
    'pair decoupling without a flow': (
        dict(variant='direct', flow=dict(dirac_ratio=0.5)),
        "in the variant 'direct' no flow",
    ),
    'pair decoupling without a teacher': (
        dict(variant='online', flow=dict(dirac_ratio=0.5)),
        "in the variant 'online' no flow",
    ),
    'wrong number of loss weights': (
        dict(flow=dict(loss_weight=[1, 2])),
        '2 values for 3 levels',
    ),
    'missing config file': (
        dict(student='nowhere.py'),
        "model.student 'nowhere.py' does not exist",
    ),
    'dict without a type': (dict(student=dict(depth=18)), 'holds no model'),
}


@pytest.mark.parametrize('name', BAD)
def test_invalid_settings_raise_a_one_line_error_at_build(name):
    settings, sentence = BAD[name]
    with pytest.raises(ValueError, match=sentence) as error:
        build(**settings)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    'network, tap, sentence',
    [
        (detr, 'encoder', "'encoder' must output a feature map"),
        (
            detr,
            'decoder',
            "'decoder' must output one map for .* but outputs 1 for 2",
        ),
        (
            faster_rcnn,
            'roi_head.bbox_head[0]',
            "tap the neck instead of 'roi_head.bbox_head.0.'",
        ),
        (
            faster_rcnn,
            'roi_head.bbox_head',
            "'roi_head.bbox_head' must output a feature map",
        ),
        (
            faster_rcnn,
            'roi_head',
            "'roi_head' must run once for a batch, but ran 0 times",
        ),
    ],
)
def test_taps_behind_the_neck_without_maps_are_refused(network, tap, sentence):
    network = network()
    with pytest.raises(ValueError, match=sentence) as error:
        build(student=network, teacher=network.to_dict(), tap=tap, levels=None)
    assert '\n' not in str(error.value)


def test_inconsistent_channels_of_a_network_raise_an_error():
    student = retinanet()
    student.neck.in_channels = [8, 16, 32, 63]
    with pytest.raises(ValueError, match='student fails on .*in_channels'):
        build(student=student)


def test_levels_are_matched_by_stride_not_by_index():
    # P2 to P6 in the teacher, P3 to P7 in the student.
    teacher = retinanet(16, 16)
    teacher.neck.update(start_level=0)
    model = build(teacher=teacher, levels=(0, 1, 2, 3))
    losses = losses_of(model)
    data = model.data_preprocessor(batch(), True)
    with torch.no_grad():
        model.student.train()
        student_maps = model.student.extract_feat(data['inputs'])
        teacher_maps = model.teacher.extract_feat(data['inputs'])
    for level in range(4):
        assert student_maps[level].shape == teacher_maps[level + 1].shape
        torch.testing.assert_close(
            losses[f'neck.{level}.loss_flow'],
            PKDLoss()(student_maps[level], teacher_maps[level + 1]),
        )


def test_by_default_levels_of_equal_stride_are_paired():
    # P2 to P6 in the teacher, P3 to P7 in the student.
    teacher = retinanet(24, 16)
    teacher.neck.update(start_level=0, num_outs=5)
    model = build(teacher=teacher, levels=None)
    pairs = {0: 1, 1: 2, 2: 3, 3: 4}
    assert model.teacher_holder.taps == {'neck': ('neck', pairs)}
    assert 'neck.3.loss_flow' in losses_of(model)


def test_requested_levels_are_resampled_to_the_nearest_stride():
    teacher = retinanet(24, 16)
    teacher.neck.update(start_level=0, num_outs=5)
    model = build(teacher=teacher, levels=(3, 4))
    assert model.teacher_holder.taps == {'neck': ('neck', {3: 4, 4: 4})}
    losses = losses_of(model)
    assert losses['neck.4.loss_flow'].isfinite()


@pytest.mark.parametrize(
    'student, teacher, pairs',
    [
        # Of dilated levels, the one of the same index or the last is taken.
        ((8, 16, 16), (4, 8, 16, 16), {0: 1, 1: 3, 2: 2}),
        ((16,), (8, 16, 16, 16), {0: 3}),
        # Without an equal stride, all within a factor of sqrt(2) are paired.
        ((8, 16, 32), (7, 14, 70), {0: 0, 1: 1}),
        ((8, 32), (16,), {0: 0}),
    ],
)
def test_levels_of_the_nearest_strides_are_paired(student, teacher, pairs):
    specs = [
        [LevelSpec(8, x) for x in strides] for strides in (student, teacher)
    ]
    assert pair_levels(None, *specs) == pairs


def test_the_teachers_tap_can_be_another_module():
    teacher = dict(config=retinanet(24, 16), checkpoint=None, tap='backbone')
    model = MODELS.build(dict(distiller(levels=(0, 1)), teacher=teacher))
    assert model.flows['neck']['0'].transform.proj.out_channels == 32
    assert 'neck.1.loss_flow' in losses_of(model)


def test_the_number_of_steps_of_all_taps_is_set_at_once():
    taps = [dict(tap='neck', levels=(0,)), dict(tap='backbone', levels=(1,))]
    model = build('fmkt', taps=taps)
    model.inference_steps = 3
    assert {x.inference_steps for x in model.flows.values()} == {3}


@pytest.mark.parametrize('seeds, is_equal', [((0, 0), True), ((0, 1), False)])
def test_flows_start_alike_with_the_same_seed_only(seeds, is_equal):
    states = []
    for seed in seeds:
        torch.manual_seed(seed)
        states.append(MODELS.build(distiller('fmkt')).flows.state_dict())
    first, second = states
    equal = [torch.equal(x, second[name]) for name, x in first.items()]
    assert all(equal) == is_equal
