"""Types of configs are resolved to classes, in every notation."""

import pytest
from mmengine.config import ConfigDict
from mmengine.hooks import EMAHook
from mmengine.registry import DATASETS, FUNCTIONS, HOOKS, MODELS

from mmfmkt.utils.types import import_path, resolve_type, type_name


@pytest.mark.parametrize(
    'kind',
    [
        'EMAHook',
        'mmengine.EMAHook',
        'mmengine.hooks.EMAHook',
        'mmengine.hooks.ema_hook.EMAHook',
        EMAHook,
    ],
)
def test_every_form_of_a_type_is_the_same_class(kind):
    assert resolve_type(kind, HOOKS) is EMAHook
    assert resolve_type(dict(type=kind), HOOKS, 'mmengine') is EMAHook
    assert resolve_type(ConfigDict(type=kind), HOOKS, 'mmfmkt') is EMAHook
    assert type_name(dict(type=kind)) == 'EMAHook'


def test_a_name_is_looked_up_in_the_scope_and_the_configs_own_scope_wins():
    mmdet = pytest.importorskip('mmdet.datasets')
    for found in (
        resolve_type('CocoDataset', DATASETS, 'mmdet'),
        resolve_type(dict(type='CocoDataset', _scope_='mmdet'), DATASETS),
        resolve_type('mmdet.CocoDataset', DATASETS, 'mmengine'),
    ):
        assert found is mmdet.CocoDataset
    assert resolve_type('CocoDataset', DATASETS, 'mmengine') is None


@pytest.mark.parametrize('kind', ['NoSuchHook', 'no.such.Hook', '', None, 3])
def test_an_unknown_type_resolves_to_none(kind):
    assert resolve_type(kind, HOOKS, 'mmengine') is None
    assert resolve_type(dict(type=kind), HOOKS, 'mmengine') is None
    assert resolve_type({}, HOOKS, 'mmengine') is None


def test_functions_are_not_resolved_as_types():
    assert resolve_type('default_collate', FUNCTIONS, 'mmengine') is None


def test_import_paths_resolve_although_a_function_shadows_a_module():
    losses = pytest.importorskip('mmdet.models.losses')
    for kind in (losses.L1Loss, losses.FocalLoss, EMAHook):
        assert resolve_type(import_path(kind), MODELS, 'mmdet') is kind
    assert import_path(losses.L1Loss) == 'mmdet.models.losses.L1Loss'
