"""Conversion of YOLO and Pascal VOC datasets to COCO format."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from coco import CLASSES, coco_folder
from helpers import BCCD
from PIL import Image
from yolo_voc import read_coco, to_voc, to_yolo

from mmfmkt.datasets.annotated_image import image_size
from mmfmkt.datasets.data_folder import find_data_folder
from mmfmkt.utils import ConfigError


@pytest.fixture
def coco(tmp_path):
    return coco_folder(tmp_path / 'coco')


@pytest.fixture
def yolo(coco, tmp_path):
    return to_yolo(coco, tmp_path / 'yolo')


@pytest.fixture
def voc(coco, tmp_path):
    return to_voc(coco, tmp_path / 'voc')


def objects(content):
    """Return image id, class, box and crowd flag of all objects, in order."""
    names = {x['id']: x['name'] for x in content['categories']}
    return [
        (x['image_id'], names[x['category_id']], x['bbox'], x['iscrowd'])
        for x in content['annotations']
    ]


def check_equal(root, coco, out_dir, limit=None):
    """Check that converted annotations are those of a COCO folder."""
    data = find_data_folder(str(root), out_dir)
    for name, split in (('train', data.train), ('val', data.val)):
        expected, by_image = read_coco(coco, name, limit)
        content = split.content
        sizes = sorted((x['width'], x['height']) for x in content['images'])
        assert sizes == sorted(
            (x['width'], x['height']) for x in expected['images']
        )
        files = {
            Path(x['file_name']).stem.removeprefix(f'{name}_'): x['id']
            for x in content['images']
        }
        names = {x['id']: x['name'] for x in expected['categories']}
        for image in expected['images']:
            image_id = files[Path(image['file_name']).stem]
            converted = [x for x in objects(content) if x[0] == image_id]
            originals = by_image[image['id']]
            assert [x[1] for x in converted] == [
                names[x['category_id']] for x in originals
            ]
            assert [x[3] for x in converted] == [
                x.get('iscrowd', 0) for x in originals
            ]
            for x, y in zip(converted, originals):
                np.testing.assert_allclose(x[2], y['bbox'], atol=1e-3)
        for image in content['images']:
            assert (data.root / image['file_name']).is_file()
    return data


@pytest.mark.parametrize('convert', [to_yolo, to_voc])
def test_boxes_equal_those_of_the_coco_annotations(
    convert, coco, shapes, tmp_path
):
    file = coco / 'annotations/instances_train.json'
    content = json.loads(file.read_text())
    if convert is to_voc:
        content['annotations'][1]['iscrowd'] = 1
    # The last image is background.
    content['annotations'] = [
        x for x in content['annotations'] if x['image_id'] != 3
    ]
    file.write_text(json.dumps(content))
    sources = dict(coco=(coco, None), shapes=(shapes, 5))
    if BCCD.is_dir():
        sources['bccd'] = BCCD, 6
    for name, (source, limit) in sources.items():
        root = convert(source, tmp_path / f'{name}_converted', limit)
        before = sorted(root.rglob('*'))
        data = check_equal(root, source, tmp_path / 'out', limit)
        data.write()
        assert sorted(root.rglob('*')) == before
        assert json.loads(Path(data.train.ann_file).read_text())


def test_polygons_become_masks(coco, tmp_path):
    root = to_yolo(coco, tmp_path / 'yolo', masks=True)
    data = check_equal(root, coco, tmp_path)
    assert data.train.has_masks and data.classes == CLASSES
    annotation = data.train.content['annotations'][0]
    assert annotation['area'] == pytest.approx(24 * 30)
    expected = read_coco(coco, 'train')[0]['annotations'][0]
    np.testing.assert_allclose(
        annotation['segmentation'], expected['segmentation'], atol=1e-3
    )


@pytest.mark.parametrize(
    'entries',
    [
        dict(train='../images/train', val=['images/val']),
        dict(path='elsewhere', train=['images/train'], val='images/val'),
        dict(train='list.txt', val='images/val'),
        dict(names=dict(enumerate(CLASSES))),
    ],
)
def test_all_forms_of_data_yaml_are_read(entries, yolo, coco, tmp_path):
    config = yaml.safe_load((yolo / 'data.yaml').read_text())
    config.pop('path')
    (yolo / 'data.yaml').write_text(yaml.safe_dump(config | entries))
    images = sorted((yolo / 'images/train').iterdir())
    lines = [f'./{x.relative_to(yolo)}' for x in images[:2]]
    (yolo / 'list.txt').write_text('\n'.join([*lines, *map(str, images[2:])]))
    check_equal(yolo, coco, tmp_path)


def test_keypoints_are_ignored(yolo, coco, tmp_path):
    with (yolo / 'data.yaml').open('a') as file:
        file.write('kpt_shape: [2, 3]\n')
    for file in (yolo / 'labels').rglob('*.txt'):
        lines = file.read_text().splitlines()
        file.write_text('\n'.join(f'{x} 0.1 0.2 2 0 0 0' for x in lines))
    assert not check_equal(yolo, coco, tmp_path).train.has_masks


def test_classes_with_the_same_name_are_merged(yolo, tmp_path):
    config = yaml.safe_load((yolo / 'data.yaml').read_text())
    config['names'] = ['object', *CLASSES[1:-1], 'object']
    (yolo / 'data.yaml').write_text(yaml.safe_dump(config))
    data = find_data_folder(str(yolo), tmp_path)
    names = [x['name'] for x in data.train.content['categories']]
    assert list(data.classes) == names == config['names'][:-1]


@pytest.mark.parametrize('image_format', ['JPEG', 'MPO', 'PNG', 'WEBP'])
def test_image_sizes_are_those_of_the_loaded_images(
    image_format, yolo, tmp_path
):
    """The loader rotates images by EXIF in some formats only."""
    path = yolo / 'images/train/0.jpg'
    exif = Image.Exif()
    exif[274] = 6  # orientation: rotated by 90 degrees
    more = dict(save_all=True, append_images=[Image.new('RGB', (40, 20))])
    Image.new('RGB', (40, 20)).save(
        path, image_format, exif=exif, **more if image_format == 'MPO' else {}
    )
    (image, *_) = find_data_folder(str(yolo), tmp_path).train.content['images']
    loaded = cv2.imread(str(path))
    assert (image['height'], image['width']) == loaded.shape[:2]


def test_images_may_exceed_the_size_limit_of_pil(tmp_path, monkeypatch):
    Image.new('RGB', (40, 20)).save(tmp_path / 'large.png')
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 10)
    assert image_size(tmp_path / 'large.png') == (40, 20)
    assert Image.MAX_IMAGE_PIXELS == 10


def write(path, text):
    path.write_text(text)


LABEL = 'labels/train/0.txt'


@pytest.mark.parametrize(
    'damage, message',
    [
        (
            lambda x: write(x / LABEL, '3 .5 .5 .1 .1'),
            '3 .5.*: unknown cla',
        ),
        (lambda x: write(x / LABEL, '0 .5 .5 .1'), 'must be a class and 4 nu'),
        (lambda x: write(x / LABEL, '0 8 8 20 20'), 'must be a class and 4'),
        (lambda x: write(x / LABEL, 'cat .5 .5 .1 .1'), 'must be a class and'),
        (lambda x: write(x / 'data.yaml', 'names: [a]'), "KeyError: 'train'"),
        (lambda x: write(x / 'data.yaml', '['), 'must have train, val and'),
        (lambda x: shutil.rmtree(x / 'images/val'), "names 'images/val' for"),
        (
            lambda x: write(x / 'images/train/0.jpg', 'text'),
            '0.jpg.* cannot be read: UnidentifiedImageError',
        ),
    ],
)
def test_errors_in_yolo_datasets_name_the_file_and_the_rule(
    damage, message, yolo, tmp_path
):
    damage(yolo)
    with pytest.raises(ConfigError, match=message) as error:
        find_data_folder(str(yolo), tmp_path)
    assert str(error.value).startswith('--data-root: ')
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    'damage, message',
    [
        (
            lambda x: (x / 'ImageSets/Main/val.txt').unlink(),
            'must have ImageSets/Main/val.txt',
        ),
        (
            lambda x: (x / 'JPEGImages/train_0.jpg').unlink(),
            'train_0.jpg.* cannot be read: FileNotFoundError',
        ),
        (
            lambda x: write(x / 'Annotations/train_0.xml', '<annotation>'),
            'is not in Pascal VOC format: ParseError',
        ),
        (
            lambda x: write(
                x / 'Annotations/train_0.xml',
                '<annotation><object><name>a</name></object></annotation>',
            ),
            'is not in Pascal VOC format: ValueError',
        ),
    ],
)
def test_errors_in_voc_datasets_name_the_file_and_the_rule(
    damage, message, voc, tmp_path
):
    damage(voc)
    with pytest.raises(ConfigError, match=message) as error:
        find_data_folder(str(voc), tmp_path)
    assert str(error.value).startswith('--data-root: ')


def test_voc_images_without_annotations_are_background(voc, tmp_path):
    (voc / 'Annotations/train_0.xml').unlink()
    content = find_data_folder(str(voc), tmp_path).train.content
    assert len(content['images']) == 4 and len(content['annotations']) == 6


def test_suffixes_of_voc_images_may_be_in_upper_case(voc, coco, tmp_path):
    for path in (voc / 'JPEGImages').iterdir():
        path.rename(path.with_suffix('.JPG'))
    check_equal(voc, coco, tmp_path)


def test_hidden_files_are_not_images(yolo, coco, tmp_path):
    folder = yolo / 'images/train'
    write(folder / '._0.jpg', 'resource fork of macOS')
    (folder / '.ipynb_checkpoints').mkdir()
    shutil.copy(folder / '0.jpg', folder / '.ipynb_checkpoints/0.jpg')
    check_equal(yolo, coco, tmp_path)
