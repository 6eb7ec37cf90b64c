"""Access to the student by name, as libraries do it."""

from copy import deepcopy

import pytest
import torch
from mmengine.model import revert_sync_batchnorm
from mmengine.runner.checkpoint import get_state_dict, load_state_dict
from tiny import batch, distiller, retinanet
from torch import nn

pytest.importorskip('mmdet')

from mmfmkt.registry import MODELS  # noqa: E402


@pytest.fixture
def model():
    return MODELS.build(distiller(variant='fmkt'))


def names(module):
    return [name for name, _ in module.named_parameters()]


def test_names_are_those_of_the_student_followed_by_the_flows(model):
    expected = names(model.student)
    assert expected == names(MODELS.build(dict(retinanet(), _scope_='mmdet')))
    assert names(model)[: len(expected)] == expected
    assert all(
        name.startswith('flows.') for name in names(model)[len(expected) :]
    )
    for read in (nn.Module.state_dict, get_state_dict):
        state = read(model)
        of_student = [x for x in state if not x.startswith('flows.')]
        assert of_student == list(read(model.student))


def test_attributes_of_the_student_are_set_in_the_student(model):
    head = deepcopy(model.bbox_head)
    model.bbox_head = head
    assert model.student.bbox_head is head is model.bbox_head
    model.test_cfg = dict(nms_pre=7)
    assert model.student.test_cfg == dict(nms_pre=7)
    model.data_preprocessor.batch_augments = 'all'
    assert model.student.data_preprocessor.batch_augments == 'all'
    model.attribute_of_a_hook = 3
    assert not hasattr(model.student, 'attribute_of_a_hook')
    model.transfer_weight = 0.5
    assert not hasattr(model.student, 'transfer_weight')


def test_replaced_layers_are_replaced_in_the_student():
    student = retinanet()
    student.backbone.norm_cfg = dict(type='SyncBN')
    model = MODELS.build(distiller(student=student))
    model.student.extra = nn.SyncBatchNorm(3)
    model._sync_attributes()
    assert any(isinstance(x, nn.SyncBatchNorm) for x in model.modules())
    model = revert_sync_batchnorm(model)
    for network in (model, model.student):
        assert not any(
            isinstance(x, nn.SyncBatchNorm) for x in network.modules()
        )
    assert model.extra is model.student.extra


def test_a_deep_copy_has_its_own_student_and_shares_the_teacher(model):
    copy = deepcopy(model)
    assert copy.student.backbone is copy.backbone
    assert copy.student.backbone is not model.backbone
    assert copy.teacher is model.teacher
    with torch.no_grad():
        next(copy.parameters()).fill_(3)
    assert (next(copy.student.parameters()) == 3).all()
    assert not (next(model.student.parameters()) == 3).any()


def test_modes_and_dtypes_reach_the_student_which_keeps_frozen_stages():
    student = retinanet()
    student.backbone.update(frozen_stages=1, norm_eval=True)
    model = MODELS.build(distiller(student=student)).train()
    assert model.training and model.student.training
    assert not model.student.backbone.bn1.training
    assert not model.student.backbone.layer1.training
    assert model.student.backbone.layer2.training
    assert not any(x.training for x in model.teacher.modules())
    model.double()
    assert {x.dtype for x in model.student.parameters()} == {torch.float64}
    assert {x.dtype for x in model.teacher.parameters()} == {torch.float64}


def test_loading_uses_the_students_method(model):
    """RetinaNet loads the weights of an RPN into its head."""
    state = model.state_dict()
    rpn_state = type(state)(
        (name.replace('bbox_head.', 'rpn_head.'), x + 1)
        for name, x in state.items()
    )
    load_state_dict(model, rpn_state)
    for name, x in model.student.state_dict().items():
        assert torch.equal(
            x, rpn_state[name.replace('bbox_head.', 'rpn_head.')]
        )
    model.load_state_dict(state, strict=True)


def test_the_student_draws_the_same_random_numbers_without_a_wrapper():
    torch.manual_seed(0)
    alone = MODELS.build(dict(retinanet(), _scope_='mmdet'))
    alone.init_weights()
    expected = torch.rand(3)
    torch.manual_seed(0)
    model = MODELS.build(distiller(flow=dict(dirac_ratio=0.0)))
    model.init_weights()
    assert torch.equal(torch.rand(3), expected)
    for name, x in alone.state_dict().items():
        assert torch.equal(x, model.student.state_dict()[name])

    def draw(*_):
        torch.rand(1)

    # A teacher in eval mode may draw random numbers as well.
    model.teacher.backbone.register_forward_hook(draw)
    torch.manual_seed(1)
    data = model.data_preprocessor(batch(), True)
    model(**data, mode='loss')
    after_loss = torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(after_loss, torch.rand(3))
