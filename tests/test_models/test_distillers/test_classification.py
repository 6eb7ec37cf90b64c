"""Distillation of classifiers, with tiny networks of MMPretrain."""

from copy import deepcopy

import pytest
import torch
from tiny import classification, image_batch, resnet, swin, vit

pytest.importorskip('mmpretrain')

from mmengine.logging import MessageHub  # noqa: E402
from mmpretrain.structures import (  # noqa: E402
    DataSample,
    MultiTaskDataSample,
)

from mmfmkt.models.flows import (
    VARIANTS,  # noqa: E402
    EulerSampler,
)
from mmfmkt.models.losses import KDLoss  # noqa: E402
from mmfmkt.registry import MODELS  # noqa: E402

AT_HEAD = [x for x in VARIANTS if x != 'parallel']
PAIRS = dict(
    CNNs=(resnet, lambda: resnet(8)),
    ViT_under_CNN=(vit, lambda: resnet(8)),
    CNN_under_ViT=(resnet, vit),
    ViTs=(vit, vit),
    Swin_under_CNN=(swin, lambda: resnet(8)),
)


def build(*args, **kwargs):
    torch.manual_seed(0)
    return MODELS.build(classification(*args, **kwargs))


def encoder_for(student):
    vectors = student()['backbone']['type'] == 'VisionTransformer'
    return dict(type='MLPEncoder' if vectors else 'ConvEncoder')


def losses_of(model, **kwargs):
    data = model.data_preprocessor(image_batch(**kwargs), True)
    return model(**data, mode='loss')


def scores_of(model):
    model.eval()
    with torch.no_grad():
        samples = model.test_step(image_batch())
    return torch.stack([sample.pred_score for sample in samples])


def randomize_flows(model):
    """Set flows, which start as the identity, to random weights."""
    for parameter in model.flows.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


@pytest.mark.parametrize('variant', AT_HEAD)
@pytest.mark.parametrize('pair', PAIRS)
def test_every_pair_trains_saves_and_predicts(pair, variant):
    student, teacher = PAIRS[pair]
    settings = dict(
        student=student(),
        teacher=None if variant == 'online' else teacher(),
        flow=dict(encoder=encoder_for(student)),
    )
    model = build(variant, **settings)
    total, log = model.parse_losses(losses_of(model))
    total.backward()
    assert total.isfinite() and 'head.loss_task' in log
    assert all(p.grad is not None for p in model.parameters())
    randomize_flows(model)
    scores = scores_of(model)
    torch.testing.assert_close(scores.sum(1), torch.ones(4))
    bare = MODELS.build(
        dict(classification(variant, **settings), teacher=None)
    )
    bare.load_state_dict(model.state_dict())
    assert torch.equal(scores_of(bare), scores)
    student_scores = scores_of(model.student)
    assert torch.equal(student_scores, scores) != model.deploys_flow


def test_losses_are_named_by_tap_and_term():
    names = {variant: set(losses_of(build(variant))) for variant in AT_HEAD}
    assert names == dict(
        fmkt={'head.loss_flow', 'head.loss_task'},
        theta={
            'head.loss_flow',
            'head.loss_student',
            'head.loss_branch',
            'head.loss_task',
        },
        online={'head.loss_flow', 'head.loss_task'},
        direct={'head.loss_direct', 'head.loss_task'},
    )


def test_prediction_is_the_mean_of_the_logits_of_the_steps():
    model = randomize_flows(build(report_steps=(1, 2, 8))).eval()
    data = model.data_preprocessor(image_batch())
    with torch.no_grad():
        (feature,) = model.student.extract_feat(data['inputs'], 'backbone')
        sampler = EulerSampler(model.head_transfer.flow.field, feature, 2)
        estimates = [step.estimate for step in sampler]
        logits = torch.stack(
            [model.student.head(model.student.neck((x,))) for x in estimates]
        ).mean(0)
        torch.testing.assert_close(model(data['inputs']), logits)
        samples = model(**data, mode='predict')
    scores = torch.stack([x.pred_score for x in samples])
    torch.testing.assert_close(scores, logits.softmax(1))
    assert torch.equal(samples[0].pred_label[0], logits[0].argmax())
    torch.testing.assert_close(samples[0].pred_score_k2, samples[0].pred_score)
    assert not torch.equal(samples[0].pred_score_k8, samples[0].pred_score)


def test_the_teacher_may_be_a_student_with_a_flow(tmp_path):
    config = classification('online')
    teacher = randomize_flows(MODELS.build(deepcopy(config)))
    torch.save(teacher.state_dict(), tmp_path / 'teacher.pth')
    settings = classification('theta', teacher=config)
    settings['teacher']['checkpoint'] = str(tmp_path / 'teacher.pth')
    model = MODELS.build(settings)
    data = model.data_preprocessor(image_batch(), True)
    logits = model.read_teacher(data['inputs'], data['data_samples'])['head']
    with torch.no_grad():
        assert torch.equal(logits, model.teacher(data['inputs']))
        assert not torch.equal(logits, model.teacher.student(data['inputs']))


def test_taps_may_have_different_numbers_of_steps():
    taps = [
        dict(tap='backbone.layer4'),
        dict(tap='head', flow=dict(inference_steps=3)),
    ]
    model = randomize_flows(build(taps=taps)).eval()
    assert model.inference_steps == 2
    data = model.data_preprocessor(image_batch(), False)
    with torch.no_grad():
        logits = model(data['inputs'])
        (sample, *_) = model.predict(**data)
    assert torch.allclose(sample.pred_score, logits[0].softmax(0))


def test_the_backbone_runs_once_for_all_reported_steps():
    model, calls = build(report_steps=(1, 2, 4, 8)).eval(), []
    model.student.backbone.register_forward_hook(lambda *args: calls.append(1))
    scores_of(model)
    assert len(calls) == 1


def test_the_task_loss_is_the_mean_of_the_heads_loss_over_steps():
    student = resnet()
    student['head']['loss'] = dict(
        type='LabelSmoothLoss', label_smooth_val=0.3
    )
    model = build(student=student)
    data = model.data_preprocessor(image_batch(), True)
    model.eval()  # Batch norm is to see the same twice.
    losses = model(**data, mode='loss')
    with torch.no_grad():
        (feature,) = model.student.extract_feat(data['inputs'], 'backbone')
        steps = [
            model.student.head.loss(
                model.student.neck((step.estimate,)), data['data_samples']
            )['loss']
            for step in EulerSampler(
                model.head_transfer.flow.field, feature, 3
            )
        ]
    torch.testing.assert_close(losses['head.loss_task'], sum(steps) / 3)


def test_student_and_teacher_get_the_same_augmented_batch():
    student = resnet(
        train_cfg=dict(
            augments=[
                dict(type='Mixup', alpha=1.0),
                dict(type='CutMix', alpha=1.0),
            ]
        )
    )
    model = build(student=student, teacher=vit())
    inputs = {}
    model.teacher.backbone.register_forward_pre_hook(
        lambda module, args: inputs.update(teacher=args[0])
    )
    model.student.backbone.register_forward_pre_hook(
        lambda module, args: inputs.update(student=args[0])
    )
    data = model.data_preprocessor(image_batch(), True)
    assert 'gt_score' in data['data_samples'][0]
    losses = model(**data, mode='loss')
    assert all(x.isfinite().all() for x in losses.values())
    student, teacher = (
        model.student.data_preprocessor,
        model.teacher.data_preprocessor,
    )
    pixels = inputs['student'] * student.std + student.mean
    # The teacher takes RGB and the student BGR.
    torch.testing.assert_close(
        (inputs['teacher'] * teacher.std + teacher.mean).flip(1),
        pixels,
        rtol=1e-4,
        atol=1e-2,
    )


def test_dkd_gets_hard_or_soft_labels():
    for variant in ('fmkt', 'theta', 'direct'):
        model = build(variant, flow=dict(metric=dict(type='DKDLoss')))
        assert all(x.isfinite() for x in losses_of(model).values())


def test_dkd_warms_up_by_the_epoch_of_the_run():
    # The hub of another test may contain an epoch.
    hub = MessageHub.get_instance('warm-up')
    metric = dict(type='DKDLoss', warmup_epochs=4)
    model = build('fmkt', flow=dict(metric=metric))
    full = losses_of(model)['head.loss_flow']
    try:
        for epoch, share in ((0, 0.25), (2, 0.75), (3, 1.0), (9, 1.0)):
            hub.update_info('epoch', epoch)
            loss = losses_of(model)['head.loss_flow']
            torch.testing.assert_close(loss, share * full)
    finally:
        hub.runtime_info.pop('epoch')


def test_backbone_stages_train_alone_and_together_with_the_head():
    taps = [
        dict(tap='head'),
        dict(
            tap='backbone.layer3',
            flow=dict(metric=dict(type='PKDLoss'), inference_steps=3),
        ),
    ]
    for variant in ('fmkt', 'theta', 'direct', 'online'):
        model = build(variant, taps=taps)
        losses = losses_of(model)
        assert any(x.startswith('backbone.layer3.0.loss') for x in losses)
        model.parse_losses(losses)[0].backward()
        assert all(p.grad is not None for p in model.parameters())
        scores_of(model)
    alone = build(
        tap='backbone.layer3', flow=dict(metric=dict(type='PKDLoss'))
    )
    # The total of MMEngine has the name 'loss', as MMPretrain's task loss.
    losses = losses_of(alone)
    assert set(losses) == {'backbone.layer3.0.loss_flow', 'loss_task'}
    total, logged = alone.parse_losses(losses)
    assert torch.equal(logged['loss'], total)
    before = scores_of(alone)
    assert not torch.equal(scores_of(randomize_flows(alone)), before)


def test_the_defaults_of_the_head_apply_to_no_other_tap():
    model = build('theta', taps=[dict(tap='head'), dict(tap='backbone')])
    head, (stage,) = model.head_transfer, model.flows['backbone'].values()
    (head,) = head.values()
    settings = [
        (type(x.metric).__name__, x.loss_weight) for x in (head, stage)
    ]
    assert settings == [('KDLoss', 1.0), ('PKDLoss', 10.0)]


def test_parallel_variant_trains_at_a_backbone_stage():
    model = build(
        'parallel',
        teacher=resnet(4),
        tap='backbone.layer4',
        flow=dict(metric=dict(type='MSELoss')),
    )
    model.parse_losses(losses_of(model))[0].backward()


def test_online_variant_with_loss_weight_zero_trains_by_the_task_loss():
    model = build('online', flow=dict(loss_weight=0.0))
    losses = losses_of(randomize_flows(model))
    assert losses['head.loss_flow'] == 0 < losses['head.loss_task']


def test_transfer_weight_zero_leaves_the_task_loss():
    model = build()
    model.transfer_weight = 0.0
    losses = losses_of(model)
    assert losses['head.loss_flow'] == 0 < losses['head.loss_task']
    model.parse_losses(losses)[0].backward()
    assert all(p.grad is not None for p in model.parameters())


def test_transfer_losses_are_float32_and_finite_under_autocast():
    model = build()
    data = model.data_preprocessor(image_batch(), True)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = model(**data, mode='loss')
    assert all(x.isfinite() for x in losses.values())
    assert losses['head.loss_flow'].dtype == torch.float32


def test_a_top_level_data_preprocessor_is_used():
    student = resnet()
    top_level = student.pop('data_preprocessor')
    model = build(student=student, data_preprocessor=top_level)
    assert model.data_preprocessor.mean.flatten().tolist() == top_level['mean']


def with_head(**head):
    """A ResNet with another head."""
    return resnet() | dict(head=dict(head, in_channels=32))


def deit():
    """A DeiT with a distillation token."""
    model = vit()
    model['backbone']['type'] = 'DistilledVisionTransformer'
    model['head']['type'] = 'DeiTClsHead'
    return model


def test_a_teacher_may_have_two_tokens():
    model = build(teacher=deit())
    data = model.data_preprocessor(image_batch(), True)
    targets = model.read_teacher(data['inputs'], data['data_samples'])
    logits = model.teacher(data['inputs'])
    assert torch.equal(targets['head'], logits) and logits.dim() == 2
    assert losses_of(model)['head.loss_flow'] > 0


def with_maps_in_the_neck():
    """A ResNet whose neck outputs maps before it pools them."""
    model = resnet()
    model['backbone']['out_indices'] = (0, 1, 2, 3)
    fuse = dict(
        type='HRFuseScales', in_channels=(4, 8, 16, 32), out_channels=32
    )
    model['neck'] = [fuse, model['neck']]
    return model


TASK = dict(type='LinearClsHead', num_classes=5)
BAD = {
    'tap of the neck beside that of the head': (
        dict(
            student=with_maps_in_the_neck(),
            teacher=with_maps_in_the_neck(),
            taps=[
                dict(tap='head'),
                dict(tap='neck.0', flow=dict(metric=dict(type='PKDLoss'))),
            ],
        ),
        "other taps must be in the backbone, got 'neck.0'",
    ),
    'multi-label head': (
        dict(student=with_head(type='MultiLabelLinearClsHead', num_classes=5)),
        'MultiLabelLinearClsHead of the student does not output',
    ),
    'multi-label teacher': (
        dict(teacher=with_head(type='MultiLabelLinearClsHead', num_classes=5)),
        'MultiLabelLinearClsHead of the teacher does not output',
    ),
    'multi-task head': (
        dict(
            student=with_head(
                type='MultiTaskHead', task_heads=dict(a=TASK, b=TASK)
            )
        ),
        'MultiTaskHead of the student does not output',
    ),
    'head with two tokens': (
        dict(student=deit()),
        'is 2 tensors; tap a module that',
    ),
    'pair decoupling without a flow': (
        dict(variant='direct', flow=dict(dirac_ratio=0.5)),
        "in the variant 'direct' no flow",
    ),
    'encoder of maps for a vector': (
        dict(student=vit()),
        'ConvEncoder takes feature',
    ),
    'distillation loss of maps': (
        dict(flow=dict(metric=dict(type='PKDLoss'))),
        'PKDLoss compares maps',
    ),
    'parallel at the head': (dict(variant='parallel'), 'of equal shape'),
    'no head': (
        dict(student=resnet(4) | dict(head=None)),
        "the missing head of the student does not output; .*tap='backbone'",
    ),
    'inconsistent channels': (
        dict(
            student=resnet(4)
            | dict(head=dict(resnet()['head'], in_channels=7))
        ),
        'student fails on dummy inputs',
    ),
    'report_steps of zero': (
        dict(report_steps=(0,)),
        r'model.report_steps\[0\] .* equal to 1',
    ),
}


@pytest.mark.parametrize('name', BAD)
def test_invalid_settings_raise_a_one_line_error_at_build(name):
    settings, sentence = BAD[name]
    with pytest.raises(ValueError, match=sentence) as error:
        build(**settings)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('head', ('LeViTClsHead', 'EfficientFormerClsHead'))
def test_heads_without_a_training_loss_predict(head):
    model = build(student=with_head(type=head, num_classes=5))
    assert len(model.eval().test_step(image_batch())) == 4
    with pytest.raises(NotImplementedError, match='support t'):
        losses_of(model.train())


def test_compared_logits_have_no_margin():
    model = build(
        'direct', student=with_head(type='ArcFaceClsHead', num_classes=5)
    )
    data = model.data_preprocessor(image_batch(), True)
    losses = model(**data, mode='loss')
    with torch.no_grad():
        student_logits, teacher_logits = (
            network(data['inputs'], mode='tensor')
            for network in (model.student, model.teacher)
        )
    torch.testing.assert_close(
        losses['head.loss_direct'], KDLoss()(student_logits, teacher_logits)
    )
    expected = model.student(**data, mode='loss')['loss']
    torch.testing.assert_close(losses['head.loss_task'], expected)


def test_multi_task_heads_train_at_a_feature_tap():
    student = with_head(type='MultiTaskHead', task_heads=dict(a=TASK, b=TASK))
    model = build(
        student=student, tap='backbone', flow=dict(metric=dict(type='PKDLoss'))
    )
    data = image_batch()
    samples = [MultiTaskDataSample() for _ in data['data_samples']]
    for sample, single in zip(samples, data['data_samples']):
        for task in 'ab':
            sample.set_field(single, task)
    data['data_samples'] = samples
    data = model.data_preprocessor(data, True)
    losses = model(**data, mode='loss')
    assert {'a_loss', 'b_loss', 'backbone.0.loss_flow'} <= set(losses)


def test_the_flow_does_not_advance_the_global_random_state():
    model = build(flow=dict(dirac_ratio=0.0, num_steps=(1, 2)))
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    losses_of(model)
    assert torch.equal(torch.rand(3), expected)


def test_pair_decoupling_changes_only_the_loss_of_the_flow():
    settings = dict(
        flow=dict(metric=dict(type='DKDLoss'), num_steps=2, direct_weight=1.0)
    )
    coupled = losses_of(build('theta', **settings))
    settings['flow']['dirac_ratio'] = 0.0
    model = build('theta', **settings)
    decoupled = losses_of(model)
    for part in ('direct', 'student', 'task', 'flow'):
        is_equal = torch.equal(
            coupled[f'head.loss_{part}'], decoupled[f'head.loss_{part}']
        )
        assert is_equal == (part != 'flow')


@pytest.mark.slow
@pytest.mark.parametrize(
    'backbone, channels, side',
    [
        (dict(type='LeNet5', num_classes=5), 1, 32),
        (dict(type='VGG', depth=11, num_classes=5), 3, 224),
    ],
)
def test_networks_with_a_fixed_image_size_are_probed(backbone, channels, side):
    network = dict(
        type='ImageClassifier', backbone=backbone, head=dict(type='ClsHead')
    )
    model = build('direct', student=network, teacher=network)
    with torch.no_grad():
        logits = model(torch.zeros(2, channels, side, side))
    assert logits.shape == (2, 5)


def test_unlabeled_samples_can_be_predicted():
    model = build().eval()
    data = image_batch()
    data['data_samples'] = [DataSample() for _ in data['inputs']]
    assert len(model.test_step(data)) == 4
