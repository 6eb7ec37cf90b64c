"""Import paths of version 0.1 work for one release, with a warning."""

import importlib

import pytest

import mmfmkt.models


@pytest.mark.parametrize(
    'name, room, library',
    [
        ('FMKT', 'flows', 'torch'),
        ('PKDLoss', 'losses', 'torch'),
        ('CIFARResNet', 'backbones', 'mmpretrain'),
        ('DetectionDistiller', 'distillers', 'mmdet'),
    ],
)
def test_classes_are_found_in_models(name, room, library):
    pytest.importorskip(library)
    with pytest.warns(FutureWarning, match=f'mmfmkt.models.{room}'):
        found = getattr(mmfmkt.models, name)
    module = importlib.import_module(f'mmfmkt.models.{room}')
    assert found is getattr(module, name)


def test_unknown_names_are_not():
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        print(mmfmkt.models.Nothing)
