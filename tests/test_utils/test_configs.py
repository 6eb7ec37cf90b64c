"""Modifications of configs."""

import pytest
from mmengine.config import Config

from mmfmkt.utils.configs import add_mmfmkt_import, read_config


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


def test_a_path_in_the_home_directory_may_start_with_a_tilde(
    monkeypatch, tmp_path
):
    monkeypatch.setenv('HOME', str(tmp_path))
    (tmp_path / 'own.py').write_text("model = dict(type='Own')")
    assert read_config('~/own.py').model.type == 'Own'
