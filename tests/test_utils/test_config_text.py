"""Generated config text."""

import math

import pytest
from mmengine.config import Config
from mmengine.hooks import EMAHook

from mmfmkt.utils.config_text import (
    LINE_LENGTH,
    Derived,
    Expression,
    assignment,
)


@pytest.mark.parametrize(
    'value',
    [
        dict(a=1, b=[dict(c=(1,)), ()], d={}, e=None),
        {'a.b': 1, 'c': dict(d='e')},
        {0: 'a', 1: 'b'},
        [dict(type='SomeTransform', scale=(1333, 800), keep_ratio=True)] * 3,
        [0.1, -math.inf, math.inf],
        'it\'s "quoted"',
    ],
)
def test_written_values_are_read_back_unchanged(value, tmp_path):
    path = tmp_path / 'config.py'
    path.write_text(assignment('key', value))
    assert Config.fromfile(path).to_dict() == dict(key=value)


def test_long_lines_are_wrapped():
    value = dict(first=['word'] * 20, second=dict(third='x' * 40))
    lines = assignment('key', value).splitlines()
    assert len(lines) > 20 and max(map(len, lines)) <= LINE_LENGTH


def test_a_class_becomes_its_import_path():
    path = 'mmengine.hooks.ema_hook.EMAHook'
    assert assignment('hook', dict(type=EMAHook)) == (
        f"hook = dict(type='{path}')"
    )


def test_derived_dicts_refer_to_the_base_config(tmp_path):
    (tmp_path / 'base.py').write_text("a = dict(b=[dict(c=1, d='kept')])\n")
    path = tmp_path / 'child.py'
    text = [
        "_base_ = 'base.py'",
        assignment('new', Derived('_base_.a.b[0]', c=2)),
        assignment('same', dict(part=Expression('_base_.a.b'))),
    ]
    path.write_text('\n'.join(text))
    config = Config.fromfile(path)
    assert config.new == dict(c=2, d='kept')
    assert config.same.part == config.a.b
