"""Import paths of version 0.1 work for one release, with a warning."""

import importlib

import pytest

import mmfmkt.models


@pytest.mark.parametrize(
    'name, package, library',
    [
        ('FMKT', 'flows', 'torch'),
        ('PKDLoss', 'losses', 'torch'),
        ('CIFARResNet', 'backbones', 'mmpretrain'),
        ('DetectionDistiller', 'distillers', 'mmdet'),
    ],
)
def test_former_import_paths_work_and_warn(name, package, library):
    pytest.importorskip(library)
    with pytest.warns(FutureWarning, match=f'mmfmkt.models.{package}'):
        cls = getattr(mmfmkt.models, name)
    module = importlib.import_module(f'mmfmkt.models.{package}')
    assert cls is getattr(module, name)


def test_unknown_names_raise_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Unknown'"):
        print(mmfmkt.models.Unknown)
