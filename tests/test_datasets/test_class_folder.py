"""Datasets with a folder for each class."""

import pytest

from mmfmkt.datasets.class_folder import find_class_folder
from mmfmkt.utils import ConfigError


def make(root, **splits):
    for split, names in splits.items():
        for name in names:
            (root / split / name).mkdir(parents=True)
    return str(root)


@pytest.mark.parametrize('val', ['val', 'valid', 'validation', 'test'])
def test_splits_and_classes_are_found(val, tmp_path):
    root = make(tmp_path, train=['dog', 'cat'], **{val: ['cat', 'dog']})
    (tmp_path / 'train' / 'readme.txt').touch()
    data = find_class_folder(root)
    assert (data.root, data.train, data.val) == (tmp_path, 'train', val)
    assert data.classes == ('cat', 'dog')


@pytest.mark.parametrize(
    'splits',
    [
        dict(),
        dict(train=['cat']),
        dict(val=['cat']),
        # The same label would be of different classes.
        dict(train=['cat', 'dog'], val=['dog']),
    ],
)
def test_missing_folders_are_reported(splits, tmp_path):
    with pytest.raises(ConfigError, match='a folder for each class in train'):
        find_class_folder(make(tmp_path, **splits))
