"""Datasets in COCO format, and errors about missing files."""

import json
import shutil

import pytest
from coco import CLASSES, coco_folder

from mmfmkt.datasets.coco_folder import CocoSplit, find_coco_folder
from mmfmkt.utils import ConfigError


@pytest.mark.parametrize('masks', [True, False])
def test_splits_classes_and_masks_are_found(masks, tmp_path):
    data = find_coco_folder(str(coco_folder(tmp_path / 'data', masks)))
    assert data.root == tmp_path / 'data' and data.classes == CLASSES
    for name, split in (('train', data.train), ('val', data.val)):
        assert split == CocoSplit(
            f'annotations/instances_{name}.json', f'{name}/', CLASSES, masks
        )


def test_a_split_has_masks_only_if_all_annotations_have_one(tmp_path):
    root = coco_folder(tmp_path / 'data', masks=True)
    file = root / 'annotations/instances_train.json'
    content = json.loads(file.read_text())
    content['annotations'][0]['segmentation'] = []
    file.write_text(json.dumps(content))
    data = find_coco_folder(str(root))
    assert (data.train.has_masks, data.val.has_masks) == (False, True)
    # CocoDataset does not train on it.
    content['annotations'][0]['area'] = 0
    file.write_text(json.dumps(content))
    assert find_coco_folder(str(root)).train.has_masks


def test_instance_annotation_files_are_preferred(tmp_path):
    root = coco_folder(tmp_path / 'data')
    file = root / 'annotations/instances_train.json'
    shutil.copy(file, file.with_name('captions_train.json'))
    assert find_coco_folder(str(root)).train.ann_file.endswith(
        'instances_train.json'
    )


@pytest.mark.parametrize(
    'content',
    ['', '[]', '{"images": []}', '{"categories": [1]}', '{"categories": {}}'],
)
def test_files_of_another_format_are_reported_in_one_sentence(
    content, tmp_path
):
    root = coco_folder(tmp_path / 'data')
    file = root / 'annotations/instances_train.json'
    file.write_text(content)
    with pytest.raises(ConfigError, match='instances_train.json') as error:
        find_coco_folder(str(root))
    assert str(error.value).startswith('--data-root: ')


@pytest.mark.parametrize(
    'missing, message',
    [
        ('train', r"no image of '.*instances_train.json' is in /"),
        ('val', r"no image of '.*instances_val.json' is in /"),
        ('annotations', r'exactly one annotations/\*train\*.json or train\*/'),
    ],
)
def test_an_error_names_the_missing_folder(missing, message, tmp_path):
    root = coco_folder(tmp_path / 'data')
    shutil.rmtree(root / missing)
    with pytest.raises(ConfigError, match=message):
        find_coco_folder(str(root))


def test_exports_of_roboflow_have_annotations_beside_the_images(tmp_path):
    root = coco_folder(tmp_path / 'data')
    (root / 'val').rename(root / 'valid')
    for name, folder in (('train', 'train'), ('val', 'valid')):
        (root / f'annotations/instances_{name}.json').rename(
            root / folder / '_annotations.coco.json'
        )
    data = find_coco_folder(str(root))
    assert [(x.ann_file, x.images) for x in (data.train, data.val)] == [
        ('train/_annotations.coco.json', 'train/'),
        ('valid/_annotations.coco.json', 'valid/'),
    ]


@pytest.mark.parametrize('folder', ['images/{}2017', 'images', '.'])
def test_images_are_found_in_folders_of_both_splits(folder, tmp_path):
    root = coco_folder(tmp_path / 'data')
    folders = []
    for name in ('train', 'val'):
        target = root / folder.format(name)
        target.mkdir(parents=True, exist_ok=True)
        for image in (root / name).iterdir():
            image.rename(target / image.name)
        folders.append(target)
    data = find_coco_folder(str(root))
    assert [root / x.images for x in (data.train, data.val)] == folders


def test_the_folder_with_most_of_the_images_is_found(tmp_path):
    root = coco_folder(tmp_path / 'data')
    (root / 'train2').mkdir()
    for name in ('0.jpg', '1.jpg', '2.jpg'):
        (root / 'train' / name).rename(root / 'train2' / name)
    assert find_coco_folder(str(root)).train.images == 'train2/'
    # A dry run needs no images.
    for path in root.glob('*/*.jpg'):
        path.unlink()
    assert find_coco_folder(str(root)).train.images == 'train/'


def test_annotations_without_masks_or_objects_are_read(tmp_path):
    root = coco_folder(tmp_path / 'data', masks=False)
    file = root / 'annotations/instances_val.json'
    content = json.loads(file.read_text())
    del content['annotations']
    file.write_text(json.dumps(content))
    assert not find_coco_folder(str(root)).val.has_masks


def test_the_splits_must_number_the_classes_in_the_same_order(tmp_path):
    """Predictions of one class would be evaluated as another one."""
    root = coco_folder(tmp_path / 'data')
    file = root / 'annotations/instances_val.json'
    content = json.loads(file.read_text())
    categories = content['categories']

    def write(categories):
        file.write_text(json.dumps(dict(content, categories=categories)))

    write([*categories, dict(id=9, name='only in val')])
    assert find_coco_folder(str(root)).classes == CLASSES
    for wrong in (categories[::-1], categories[1:]):
        write(wrong)
        with pytest.raises(ConfigError, match='in the same order') as error:
            find_coco_folder(str(root))
        assert 'instances_val.json' in str(error.value)
