"""Modifications of configs."""

import pytest
from mmengine.config import Config

from mmfmkt.utils.configs import add_mmfmkt_import


@pytest.mark.parametrize(
    'before, after',
    [
        ({}, ['mmfmkt']),
        (dict(custom_imports=dict(imports=['json'])), ['json', 'mmfmkt']),
        (dict(custom_imports=dict(imports='json')), ['json', 'mmfmkt']),
        (dict(custom_imports=dict(imports=None)), ['mmfmkt']),
        (dict(custom_imports=None), ['mmfmkt']),
        (dict(custom_imports=dict(imports=['mmfmkt'])), ['mmfmkt']),
    ],
)
def test_mmfmkt_is_added_once_to_custom_imports(before, after):
    cfg = Config(before)
    add_mmfmkt_import(cfg)
    assert cfg.custom_imports.imports == after
