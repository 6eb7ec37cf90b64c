"""Resolution of the types in configs."""

import pytest
from mmengine.config import ConfigDict
from mmengine.hooks import EMAHook
from mmengine.registry import DATASETS, FUNCTIONS, HOOKS, MODELS

from mmfmkt.utils.types import (
    import_path,
    importable_type,
    resolve_type,
    type_name,
)


@pytest.mark.parametrize(
    'type_',
    [
        'EMAHook',
        'mmengine.EMAHook',
        'mmengine.hooks.EMAHook',
        'mmengine.hooks.ema_hook.EMAHook',
        EMAHook,
    ],
)
def test_all_notations_of_a_type_resolve_to_the_class(type_):
    assert resolve_type(type_, HOOKS, 'mmengine') is EMAHook
    assert resolve_type(dict(type=type_), HOOKS, 'mmengine') is EMAHook
    assert resolve_type(ConfigDict(type=type_), HOOKS, 'mmfmkt') is EMAHook
    assert type_name(dict(type=type_)) == 'EMAHook'


def test_the_scope_of_a_config_overrides_the_default_scope():
    mmdet = pytest.importorskip('mmdet.datasets')
    for dataset_class in (
        resolve_type('CocoDataset', DATASETS, 'mmdet'),
        resolve_type(dict(type='CocoDataset', _scope_='mmdet'), DATASETS),
        resolve_type('mmdet.CocoDataset', DATASETS, 'mmengine'),
    ):
        assert dataset_class is mmdet.CocoDataset
    assert resolve_type('CocoDataset', DATASETS, 'mmengine') is None


@pytest.mark.parametrize(
    'type_', ['NoSuchHook', 'no.such.Hook', '', './no/such.json', None, 3]
)
def test_an_unknown_type_resolves_to_none(type_):
    assert resolve_type(type_, HOOKS, 'mmengine') is None
    assert resolve_type(dict(type=type_), HOOKS, 'mmengine') is None
    assert resolve_type({}, HOOKS, 'mmengine') is None


def test_functions_are_not_resolved_as_types():
    assert resolve_type('default_collate', FUNCTIONS, 'mmengine') is None


def test_import_paths_resolve_although_a_function_shadows_a_module():
    losses = pytest.importorskip('mmdet.models.losses')
    for cls in (losses.L1Loss, losses.FocalLoss, EMAHook):
        assert resolve_type(import_path(cls), MODELS, 'mmdet') is cls
    path = import_path(losses.L1Loss)
    assert path == 'mmdet.models.losses.L1Loss'
    dumped = f'{losses.L1Loss.__module__}.L1Loss'
    assert importable_type(dumped) == importable_type(path) == path
    for other in ('L1Loss', 'mmdet.L1Loss', 'no.such.Loss', '', losses.L1Loss):
        assert importable_type(other) is other
