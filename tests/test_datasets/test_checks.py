"""Data that cannot be trained on is named before training."""

import json

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from mmfmkt.datasets.checks import check_datasets

pytest.importorskip('mmdet')


@pytest.fixture(autouse=True)
def nothing_remembered(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


@pytest.fixture
def coco(tmp_path):
    """A COCO data set of one image and one box."""
    (tmp_path / 'train').mkdir()
    cv2.imwrite(str(tmp_path / 'train/a.jpg'), np.zeros((8, 8, 3), np.uint8))
    content = dict(
        images=[dict(id=1, file_name='a.jpg', width=8, height=8)],
        annotations=[dict(id=1, image_id=1, category_id=1, bbox=[0, 0, 4, 4])],
        categories=[dict(id=1, name='cat'), dict(id=2, name='dog')],
    )
    (tmp_path / 'train.json').write_text(json.dumps(content))
    return tmp_path


def config(root, **dataset):
    dataset = dict(
        dict(
            type='CocoDataset',
            data_root=str(root),
            ann_file='train.json',
            data_prefix=dict(img='train/'),
            metainfo=dict(classes=('cat', 'dog')),
        ),
        **dataset,
    )
    return Config(
        dict(
            train_dataloader=dict(dataset=dataset),
            train_evaluator=dict(ann_file=str(root / 'train.json')),
        )
    )


def test_good_data_passes(coco):
    check_datasets(config(coco), ('train', 'val'))


def test_a_place_of_maps_must_be_there_where_they_are_read(coco):
    cfg = config(
        coco,
        data_prefix=dict(img='train/', seg='maps/'),
        pipeline=[dict(type='LoadAnnotations', with_bbox=True)],
    )
    check_datasets(cfg, ('train',))
    cfg.train_dataloader.dataset.pipeline[0].with_seg = True
    with pytest.raises(ValueError, match='data_prefix.seg'):
        check_datasets(cfg, ('train',))


def test_wrapped_data_sets_are_looked_at(coco):
    cfg = config(coco, ann_file='no.json')
    inner = cfg.train_dataloader.dataset
    for wrapped in (
        dict(type='RepeatDataset', times=2, dataset=inner),
        dict(type='ConcatDataset', datasets=[inner]),
    ):
        cfg.train_dataloader.dataset = wrapped
        with pytest.raises(ValueError, match='no.json'):
            check_datasets(cfg, ('train',))


@pytest.mark.parametrize(
    'fault, sentence',
    [
        (dict(data_root='no/such'), "data_root: 'no/such' does not exist"),
        (dict(ann_file='no.json'), r"ann_file: '.*no\.json' does not exist"),
        (
            dict(data_prefix=dict(img='no/')),
            r"data_prefix\.img: '.*no/' does not exist",
        ),
        (
            dict(metainfo=dict(classes=('horse',))),
            r"none of \('horse',\) is a category .* \('cat', 'dog'\)",
        ),
    ],
)
def test_faults_are_named_with_their_key(coco, fault, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        check_datasets(config(coco, **fault), ('train',))
    assert str(error.value).startswith('train_dataloader.dataset.')
    assert '\n' not in str(error.value)


IMAGE = dict(id=1, file_name='a.jpg', width=8, height=8)
BOX = dict(id=1, image_id=1, category_id=1, bbox=[0, 0, 4, 4])
NAN = float('nan')


@pytest.mark.parametrize(
    'change, sentence',
    [
        ('', 'cannot be read as JSON'),
        ('{"images": [', 'cannot be read as JSON'),
        ('[]', "has no list 'images'"),
        ('{"images": 3, "annotations": [], "categories": []}', 'no list of'),
        (dict(images=[]), 'holds no images'),
        (dict(annotations=[]), 'holds no annotations'),
        (dict(categories=[]), 'holds no categories'),
        (dict(images=[dict(id=1)]), "no 'file_name'"),
        (dict(images=[dict(IMAGE, width=0)]), 'width and height .0, 8.'),
        (dict(images=[dict(IMAGE, file_name='b.jpg')]), '1 of 1 .* missing'),
        (dict(annotations=[dict(BOX, image_id=7)]), 'image that is not list'),
        (dict(annotations=[dict(BOX, category_id=7)]), 'category that is not'),
        (dict(annotations=[dict(BOX, bbox=[NAN] * 4)]), 'no numbers'),
        (dict(annotations=[dict(BOX, bbox='0 0 4 4')]), 'no numbers'),
        (dict(annotations=[dict(BOX, bbox=[0, 0, 0, 4])]), 'no area'),
        (dict(annotations=[dict(BOX, bbox=[9, 9, 4, 4])]), 'outside'),
    ],
)
def test_what_is_wrong_with_a_data_set_is_named(coco, change, sentence):
    path = coco / 'train.json'
    if not isinstance(change, str):
        change = json.dumps({**json.loads(path.read_text()), **change})
    path.write_text(change)
    with pytest.raises(ValueError, match=sentence) as error:
        check_datasets(config(coco), ('train',))
    assert str(error.value).startswith('train_dataloader.dataset.ann_file')
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('content', [b'', b'no picture', b'\xff\xd8half'])
def test_a_picture_that_cannot_be_read_is_named(coco, content):
    (coco / 'train/a.jpg').write_bytes(content)
    with pytest.raises(ValueError, match='1 of 1 pictures are unreadable'):
        check_datasets(config(coco), ('train',))


def test_what_is_left_out_is_said_and_the_rest_trained_on(coco):
    path = coco / 'train.json'
    content = json.loads(path.read_text())
    content['annotations'].append(dict(BOX, id=2, bbox=[9, 9, 1, 1]))
    path.write_text(json.dumps(content))
    with pytest.warns(UserWarning, match='1 of 2 boxes lie outside'):
        check_datasets(config(coco), ('train',))


def test_files_of_images_alone_are_what_test_sets_have(coco):
    path = coco / 'train.json'
    content = dict(json.loads(path.read_text()), annotations=[])
    path.write_text(json.dumps(content))
    check_datasets(config(coco), ('train',), need_boxes=False)


def test_what_was_found_good_is_not_looked_at_again(coco, monkeypatch):
    check_datasets(config(coco), ('train',))
    monkeypatch.setattr('json.load', None)
    check_datasets(config(coco), ('train',))
    (coco / 'train/b.jpg').touch()  # the folder is another now
    with pytest.raises(TypeError):
        check_datasets(config(coco), ('train',))


def test_a_missing_class_is_warned_of(coco):
    cfg = config(coco, metainfo=dict(classes=('cat', 'horse')))
    with pytest.warns(UserWarning, match="'horse'"):
        check_datasets(cfg, ('train',))


def test_the_evaluators_file_is_looked_for(coco):
    cfg = config(coco)
    cfg.train_evaluator.ann_file = 'gone.json'
    with pytest.raises(ValueError, match='train_evaluator.ann_file'):
        check_datasets(cfg, ('train',))


def test_remote_data_is_left_to_mmdetection(coco):
    cfg = config(coco, data_root='s3://bucket/', backend_args=dict(x=1))
    check_datasets(cfg, ('train',))


def test_pictures_in_folders_of_classes_are_looked_at(tmp_path):
    dataset = dict(
        type='CustomDataset', data_root=str(tmp_path), data_prefix='train'
    )
    cfg = Config(dict(train_dataloader=dict(dataset=dataset)))
    (tmp_path / 'train' / 'cat').mkdir(parents=True)
    path = tmp_path / 'train' / 'cat' / 'a.png'
    cv2.imwrite(str(path), np.zeros((8, 8, 3), np.uint8))
    check_datasets(cfg, ('train',))
    path.write_text('no picture')
    with pytest.raises(ValueError, match='data_prefix: 1 of 1 .* unreadable'):
        check_datasets(cfg, ('train',))
