"""Former names of hooks and arguments."""

import pytest

pytest.importorskip('mmengine')

from mmengine.config import Config  # noqa: E402
from mmengine.registry import HOOKS  # noqa: E402

from mmfmkt.apis.robustness import check_mmfmkt_hooks  # noqa: E402
from mmfmkt.engine import NanGuardHook  # noqa: E402


def test_a_former_hook_name_and_argument_work_with_a_warning():
    hook = dict(type='mmfmkt.FiniteHook', action='skip', most=3)
    check_mmfmkt_hooks(Config(dict(model=dict(), custom_hooks=[hook])))
    with pytest.warns(FutureWarning) as warnings:
        built = HOOKS.build(hook)
    assert isinstance(built, NanGuardHook)
    assert (built.action, built.max_skips) == ('skip', 3)
    messages = ' '.join(str(x.message) for x in warnings)
    assert 'use NanGuardHook' in messages and "use 'max_skips'" in messages
