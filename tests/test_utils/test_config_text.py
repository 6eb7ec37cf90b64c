"""Generated config text."""

import math

import pytest
from mmengine.config import Config
from mmengine.hooks import EMAHook

from mmfmkt.utils.config_text import LINE_LENGTH, assignment, assignments


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


def test_overrides_replace_values_of_the_base_config_by_dotted_key(tmp_path):
    (tmp_path / 'base.py').write_text(
        "a = dict(b=[dict(c=dict(d=1), e='kept')])\nf = dict(g=1)\n"
    )
    path = tmp_path / 'child.py'
    overrides = {'a.b.0.c': dict(h=2), 'a.i': (), 'f': None, 'new': 3}
    path.write_text("_base_ = 'base.py'\n" + '\n'.join(assignments(overrides)))
    config = Config.fromfile(path).to_dict()
    assert config == dict(
        a=dict(b=[dict(c=dict(h=2), e='kept')], i=()), f=None, new=3
    )
