"""CrossKD: the teacher's dense head on transferred features."""

import pytest
import torch
from tiny import batch, distiller, packaged, retinanet

pytest.importorskip('mmdet')

from mmdet.models.losses import GIoULoss  # noqa: E402
from mmengine.config import Config  # noqa: E402

from mmfmkt.models.losses import (  # noqa: E402
    CrossKDLoss,
    PKDLoss,
    WeightedSumLoss,
)
from mmfmkt.registry import MODELS  # noqa: E402
from mmfmkt.utils import ConfigError  # noqa: E402

METRIC = dict(type='CrossKDLoss')


def build(variant='fmkt', metric=METRIC, **kwargs):
    torch.manual_seed(0)
    return MODELS.build(distiller(variant, flow=dict(metric=metric), **kwargs))


def dense(name, **head):
    """A packaged detector, with a pyramid of 32 channels."""
    model = Config.fromfile(packaged(name)).model
    model.backbone = retinanet().backbone
    model.neck.update(in_channels=[8, 16, 32, 64], out_channels=32)
    model.bbox_head.update(in_channels=32, feat_channels=32, num_classes=6)
    model.bbox_head.update(head)
    return model


def reference_terms(teacher, level, pred, target, beta=1.0):
    """Return the sums of the published formula for one level of a RetinaNet.

    They are computed by the functions of MMDetection.
    """
    head = teacher.bbox_head

    def align(x, like):
        x, like = (
            m.permute(1, 0, 2, 3).reshape(m.shape[1], -1) for m in (x, like)
        )
        x = (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6)
        x = x * like.std(-1, keepdim=True) + like.mean(-1, keepdim=True)
        channels, count = pred.shape[1], len(pred)
        return x.reshape(channels, count, *pred.shape[2:]).transpose(0, 1)

    def predictions(x):
        scores, boxes = head.forward_single(x)
        boxes = boxes.permute(0, 2, 3, 1).reshape(-1, 4)
        priors = head.prior_generator.grid_priors(
            [x.shape[2:] if i == level else (1, 1) for i in range(5)],
            dtype=x.dtype,
            device=x.device,
        )[level]
        return (
            scores.permute(0, 2, 3, 1).reshape(-1, head.cls_out_channels),
            head.bbox_coder.decode(priors.repeat(len(x), 1), boxes),
        )  # fmt: skip

    p, boxes = predictions(align(pred, target))
    q, true_boxes = predictions(target)
    p, q = p.sigmoid(), q.sigmoid()
    cross_entropy = -(q * p.log() + (1 - q) * (1 - p).log())
    weights = q.max(dim=1)[0]
    scores = ((p - q).abs() ** beta * cross_entropy).sum()
    giou_losses = GIoULoss(reduction='none')(boxes, true_boxes)
    return scores, (weights * giou_losses).sum(), weights.sum().clamp(min=1)


@pytest.mark.parametrize('level', (0, 2))
def test_the_loss_equals_the_published_formula(level):
    torch.manual_seed(1)
    model = build(metric=dict(METRIC, beta=2.0, box_weight=0.5)).double()
    for parameter in model.teacher.bbox_head.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    pred, target = torch.randn(2, 2, 24, 5, 7, dtype=torch.float64).unbind()
    metric = model.flows['neck'][str(level)].metric
    scores, boxes, count = reference_terms(
        model.teacher, level, pred, target, 2.0
    )
    torch.testing.assert_close(
        metric(pred, target), (scores + 0.5 * boxes) / count
    )


def test_levels_of_one_built_loss_have_their_own_heads():
    teacher = dense('atss/atss_r50_fpn_1x_coco.py')
    metrics = METRIC, CrossKDLoss()
    models = [build(metric=x, teacher=teacher) for x in metrics]
    pred, target = torch.randn(2, 2, 32, 5, 7).unbind()
    losses = []
    for model in models:
        for level, scale in enumerate(model.teacher.bbox_head.scales):
            scale.scale.fill_(1.0 + level)
        transfers = model.flows['neck'].values()
        losses.append([x.metric(pred, target) for x in transfers])
    assert losses[0] == losses[1] and len(set(losses[0])) == 3


def test_losses_of_users_in_a_weighted_sum_have_the_teachers_head():
    class HeadLoss(PKDLoss):
        needs_teacher_head = True

    model = build(metric=WeightedSumLoss([HeadLoss(), PKDLoss()]))
    for level, transfer in model.flows['neck'].items():
        loss, _ = transfer.metric.losses
        logits, boxes = loss.teacher_head(torch.randn(1, 24, 5, 7))
        assert boxes.shape == (*logits.shape[:2], 4), level


def test_a_distillation_loss_of_the_maps_is_added():
    with_features = build(metric=dict(METRIC, features=dict(type='PKDLoss')))
    without = build()
    pred, target = torch.randn(2, 2, 24, 5, 7).unbind()
    one, other = (
        x.flows['neck']['0'].metric for x in (with_features, without)
    )
    torch.testing.assert_close(
        one(pred, target), other(pred, target) + PKDLoss()(pred, target)
    )


@pytest.mark.parametrize('variant', ('fmkt', 'theta', 'direct'))
def test_gradients_reach_the_student_but_not_the_teachers_head(variant):
    model = build(variant)
    data = model.data_preprocessor(batch(), True)
    losses = model(**data, mode='loss')
    transfer = sum(x for name, x in losses.items() if 'neck.' in name)
    transfer.backward()
    grads = [p.grad for p in model.student.parameters() if p.grad is not None]
    assert all(grad.isfinite().all() for grad in grads)
    assert model.student.backbone.conv1.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in model.teacher.parameters())
    assert not any('teacher_head' in name for name in model.state_dict())


@pytest.mark.parametrize(
    'name',
    ('atss/atss_r50_fpn_1x_coco.py',
     'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py'),
)  # fmt: skip
def test_the_scale_of_the_level_is_applied(name):
    teacher = dense(name)
    model = build(teacher=teacher)
    for scale in model.teacher.bbox_head.scales:
        torch.nn.init.normal_(scale.scale, 1.0, 0.5)
    maps = [torch.randn(1, 32, 2**i, 2**i) for i in range(6, 1, -1)]
    scores = model.teacher.bbox_head(tuple(maps))[0]
    for level in range(3):
        teacher_head = model.flows['neck'][str(level)].metric.teacher_head
        logits, boxes = teacher_head(maps[level])
        expected = scores[level].permute(0, 2, 3, 1).reshape(1, -1, 6)
        assert torch.equal(logits, expected)
        assert boxes.shape == (*logits.shape[:2], 4)


@pytest.mark.parametrize(
    'kwargs, sentence',
    (
        (dict(tap='backbone'), "set tap to 'neck'"),
        (dict(variant='online'), 'dense head'),
        (
            dict(metric=dict(METRIC, features=dict(type='KDLoss'))),
            'must be a loss of feature maps',
        ),
        (
            dict(metric=dict(METRIC, features=METRIC)),
            'must be a loss of feature maps',
        ),
    ),
)
def test_settings_without_a_suitable_head_raise_an_error(kwargs, sentence):
    with pytest.raises(ConfigError, match=sentence):
        build(**kwargs)


def test_a_head_with_other_boxes_raises_an_error_at_build():
    with pytest.raises(ConfigError, match='GFLHead with other boxes'):
        build(teacher=dense('gfl/gfl_r50_fpn_1x_coco.py'))
