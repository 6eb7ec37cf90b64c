"""Errors of libraries as one line."""

import json

import pytest
from mmengine.model import BaseModule
from tiny import distiller, retinanet
from torch.utils.data import DataLoader

from mmfmkt.registry import MODELS
from mmfmkt.utils.error_messages import format_error


def test_errors_of_dataloader_workers_are_those_of_the_dataset():
    # PyTorch cannot construct an error of this class from a message.
    loader = DataLoader(
        ['{'], collate_fn=lambda x: json.loads(x[0]), num_workers=1
    )
    try:
        list(loader)
    except Exception as error:
        line = format_error(error, {})
    assert line.startswith('json.decoder.JSONDecodeError: Expecting property')


def test_errors_of_a_teacher_with_the_students_classes_name_the_teacher():
    pytest.importorskip('mmdet')
    model = distiller(teacher=retinanet())
    model['teacher']['cfg_options'] = {'backbone.dpeth': 101}
    with pytest.raises(TypeError) as info:
        MODELS.build(model)
    line = format_error(info.value, dict(model=model))
    assert line.startswith('model.teacher: TypeError: ')


def test_missing_initial_weights_of_a_module_are_not_those_of_load_from():
    init_cfg = dict(type='Pretrained', checkpoint='missing.pth')
    with pytest.raises(FileNotFoundError) as info:
        BaseModule(init_cfg).init_weights()
    line = format_error(info.value, dict(load_from=None))
    assert line.startswith('FileNotFoundError: missing.pth')
