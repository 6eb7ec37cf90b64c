"""Data that cannot be trained on is named before training."""

import json

import pytest
from mmengine.config import Config

from mmfmkt.datasets.checks import check_datasets


@pytest.fixture
def coco(tmp_path):
    """A COCO data set of one image and one box."""
    (tmp_path / 'train').mkdir()
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


@pytest.mark.parametrize(
    'text',
    [
        '',
        '{}',
        '{"images": [], "annotations": [], "categories": []}',
        '{"images": [{"id": 1}], "categories": [{"id": 1, "name": "cat"}]}',
    ],
)
def test_an_annotation_file_without_boxes_is_named(coco, text):
    (coco / 'train.json').write_text(text)
    with pytest.raises(ValueError, match='holds no boxes'):
        check_datasets(config(coco), ('train',))
    # Files of images alone are what test sets have.
    check_datasets(config(coco), ('train',), need_boxes=False)


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
