"""Shapes dataset: determinism, boxes, COCO files, existing folders."""

import json
import math

import cv2
import numpy as np
import pytest
from helpers import ROOT, run

from mmfmkt.datasets import SHAPES_CLASSES, make_shapes
from mmfmkt.datasets.shapes import make, paint
from mmfmkt.datasets.shapes.annotation import annotate
from mmfmkt.datasets.shapes.paint import paint_scene
from mmfmkt.datasets.shapes.piece import OVERSAMPLING
from mmfmkt.datasets.shapes.scene import MIN_VISIBLE, compose_scene

SMALL = dict(num_train=5, num_val=3, image_size=(64, 48), seed=3)
SIZES = [(160, 160), (64, 48), (32, 200)]


def compose(number, size=(160, 160), seed=0):
    rng = np.random.default_rng((seed, 0, number))
    return compose_scene(size, (0.04, 0.5), rng)


def contents(root):
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob('*'))
        if path.is_file()
    }


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    return make_shapes(
        tmp_path_factory.mktemp('shapes') / 'a',
        num_train=60,
        num_val=10,
        image_size=(96, 128),
    )


@pytest.fixture(scope='module')
def content(drawn):
    return json.loads(
        (drawn / 'annotations' / 'instances_train.json').read_text()
    )


def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(tmp_path):
    first = contents(make_shapes(tmp_path / 'a', **SMALL))
    second = contents(make_shapes(tmp_path / 'b', **SMALL))
    other = contents(make_shapes(tmp_path / 'c', **{**SMALL, 'seed': 4}))
    assert first == second
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first)


def test_images_depend_only_on_their_index(tmp_path):
    few = contents(make_shapes(tmp_path / 'few', **SMALL))
    many = contents(
        make_shapes(tmp_path / 'many', **{**SMALL, 'num_train': 7})
    )
    assert all(
        few[name] == many[name] for name in few if name.endswith('.jpg')
    )


def test_train_and_val_show_different_images(drawn):
    assert (drawn / 'train' / '000001.jpg').read_bytes() != (
        drawn / 'val' / '000001.jpg'
    ).read_bytes()


@pytest.mark.parametrize('size', SIZES)
def test_boxes_are_tight_around_drawn_objects(size):
    width, height = size
    for number in range(40):
        for piece in compose(number, size).objects:
            mask = np.zeros((height, width), np.float32)
            window, alpha_window = piece.windows(width, height)
            mask[window] = piece.alpha[alpha_window]
            rows, cols = np.nonzero(mask)
            x, y, w, h = annotate(piece, size)['bbox']
            drawn = (cols.min(), rows.min(), cols.max() + 1, rows.max() + 1)
            # Drawing adds a subpixel at each edge, then rounds to pixels.
            assert np.abs(np.subtract(drawn, (x, y, x + w, y + h))).max() <= (
                1 + 1 / OVERSAMPLING
            )


def test_boxes_lie_inside_the_image_and_have_a_minimum_size(content):
    sizes = {i['id']: (i['width'], i['height']) for i in content['images']}
    for ann in content['annotations']:
        x, y, w, h = ann['bbox']
        width, height = sizes[ann['image_id']]
        assert 0 <= x and 0 <= y and min(w, h) >= 2 - 0.01
        assert x + w <= width + 0.01 and y + h <= height + 0.01


@pytest.mark.parametrize('number', range(1, 9))
def test_drawn_pixels_lie_inside_their_box(monkeypatch, number):
    # One object in uniform colors, with the least blur and noise.
    scene = compose(number)
    piece = scene.objects[0]
    scene.pieces = [piece]
    monkeypatch.setattr(paint, 'uniform', lambda rng, low, high: low)
    monkeypatch.setattr(
        paint,
        'draw_pattern',
        lambda rows, cols, *_: np.zeros((rows, cols), np.float32),
    )
    image = paint_scene(scene, np.random.default_rng(number)).astype(int)
    x, y, w, h = annotate(piece, scene.size)['bbox']
    outside = np.ones((160, 160), bool)
    outside[int(y) : math.ceil(y + h), int(x) : math.ceil(x + w)] = False
    background = np.median(image[outside], axis=0)
    rows, cols = np.nonzero(np.abs(image - background).mean(-1) > 15)
    painted = (cols.min(), rows.min(), cols.max() + 1, rows.max() + 1)
    # Sharp tips cover only a small part of their last pixels.
    assert np.abs(np.subtract(painted, (x, y, x + w, y + h))).max() <= 2.5


def test_every_object_is_sufficiently_visible_and_some_are_occluded():
    fractions = []
    for number in range(150):
        free = np.ones((160, 160), np.float32)
        for piece in compose(number).pieces:
            if piece.label is not None:
                fractions.append(piece.visible_fraction(free))
            piece.cover(free)
    assert min(fractions) >= MIN_VISIBLE >= 0.3
    # Objects are hidden by other objects, not only by the image border.
    num_covered = 0
    for number in range(150):
        free = np.ones((160, 160))
        for piece in compose(number).objects:
            window, alpha_window = piece.windows(160, 160)
            alpha = piece.alpha[alpha_window]
            num_covered += (alpha * free[window]).sum() < 0.9 * alpha.sum()
            free[window] *= 1 - alpha
    assert num_covered > 20


def test_classes_are_balanced_and_sizes_are_diverse():
    objects = [
        piece for number in range(300) for piece in compose(number).objects
    ]
    labels = np.bincount([piece.label for piece in objects])
    assert len(labels) == len(SHAPES_CLASSES)
    assert labels.min() > 0.6 * labels.max()
    sides = np.array([np.ptp(p.contours[0], 0).max() for p in objects]) / 160
    assert sides.min() < 0.07 and 0.4 < sides.max() <= 0.5
    counts, _ = np.histogram(sides, (0, 0.1, 0.2, 0.3, 0.51))
    assert (counts > 0.04 * len(sides)).all()


def test_images_have_one_to_eight_objects():
    counts = {len(compose(number).objects) for number in range(200)}
    assert min(counts) >= 1 and max(counts) == 8


def test_pycocotools_reads_polygons_that_match_the_drawing(drawn, content):
    coco_module = pytest.importorskip('pycocotools.coco')
    coco = coco_module.COCO(
        str(drawn / 'annotations' / 'instances_train.json')
    )
    assert [c['name'] for c in coco.loadCats(coco.getCatIds())] == list(
        SHAPES_CLASSES
    )
    for number in range(1, 16):
        scene = compose(number, (96, 128))
        anns = coco.imgToAnns[number]
        assert len(anns) == len(scene.objects)
        for ann, piece in zip(anns, scene.objects):
            assert ann['category_id'] == piece.label + 1
            mask = np.zeros((128, 96))
            window, alpha_window = piece.windows(96, 128)
            mask[window] = piece.alpha[alpha_window]
            annotated = coco.annToMask(ann)
            edge = np.prod(ann['bbox'][2:]) ** 0.5
            assert (
                np.abs(annotated - mask).sum() < 0.1 * ann['area'] + 5 * edge
            )
            assert abs(ann['area'] - mask.sum()) < 0.05 * ann['area'] + edge


def test_image_sizes_equal_those_of_the_annotations(drawn, content):
    for record in content['images']:
        image = cv2.imread(str(drawn / 'train' / record['file_name']))
        assert image.shape == (record['height'], record['width'], 3)
        assert image.std() > 3


def test_mmdet_reads_the_dataset_unmodified(drawn):
    pytest.importorskip('mmcv.ops')
    datasets = pytest.importorskip('mmdet.datasets')
    dataset = datasets.CocoDataset(
        data_root=str(drawn),
        metainfo=dict(classes=SHAPES_CLASSES),
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='train/'),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=[],
    )
    assert len(dataset) == 60
    assert dataset.metainfo['classes'] == SHAPES_CLASSES
    labels = {
        instance['bbox_label']
        for index in range(60)
        for instance in dataset.get_data_info(index)['instances']
    }
    assert labels == set(range(len(SHAPES_CLASSES)))


def test_coco_metric_of_perfect_detections_is_one(drawn):
    pytest.importorskip('mmcv.ops')
    torch = pytest.importorskip('torch')
    metrics = pytest.importorskip('mmdet.evaluation.metrics')
    file = drawn / 'annotations' / 'instances_val.json'
    metric = metrics.CocoMetric(ann_file=str(file), metric='bbox')
    metric.dataset_meta = dict(classes=SHAPES_CLASSES)
    content = json.loads(file.read_text())
    for record in content['images']:
        anns = [
            a for a in content['annotations'] if a['image_id'] == record['id']
        ]
        boxes = torch.tensor([a['bbox'] for a in anns])
        boxes[:, 2:] += boxes[:, :2]
        metric.process(
            {},
            [
                dict(
                    img_id=record['id'],
                    ori_shape=(record['height'], record['width']),
                    pred_instances=dict(
                        bboxes=boxes,
                        scores=torch.ones(len(anns)),
                        labels=torch.tensor(
                            [a['category_id'] - 1 for a in anns]
                        ),
                    ),
                )
            ],
        )
    assert metric.evaluate(size=10)['coco/bbox_mAP'] > 0.99


def test_the_dataset_config_has_the_same_classes():
    config = pytest.importorskip('mmengine.config').Config.fromfile(
        ROOT / 'configs/_base_/datasets/shapes_detection.py'
    )
    assert tuple(config.metainfo.classes) == SHAPES_CLASSES


def test_a_second_call_writes_nothing(tmp_path):
    root = make_shapes(tmp_path / 'a', **SMALL)
    times = {p: p.stat().st_mtime_ns for p in root.rglob('*')}
    assert make_shapes(str(root), **SMALL) == root
    assert {p: p.stat().st_mtime_ns for p in root.rglob('*')} == times


def test_other_parameters_raise_an_error_and_change_nothing(tmp_path):
    root = make_shapes(tmp_path / 'a', **SMALL)
    before = contents(root)
    with pytest.raises(ValueError, match="parameters .*'seed': 9.*delete it"):
        make_shapes(root, **{**SMALL, 'seed': 9})
    assert contents(root) == before


def test_folders_that_the_tool_did_not_write_are_not_changed(tmp_path):
    (tmp_path / 'train').mkdir()
    (tmp_path / 'train' / '000001.jpg').write_bytes(b'a photograph')
    before = contents(tmp_path)
    with pytest.raises(ValueError, match='exists and has no shapes'):
        make_shapes(tmp_path, **SMALL)
    assert contents(tmp_path) == before


@pytest.mark.parametrize('exists', [False, True])
def test_an_interrupted_call_leaves_no_dataset_and_the_next_one_is_complete(
    tmp_path, monkeypatch, exists
):
    root, num_calls = tmp_path / 'interrupted', 0
    if exists:
        root.mkdir()

    def interrupted(scene, rng):
        nonlocal num_calls
        num_calls += 1
        if num_calls > 4:
            raise KeyboardInterrupt
        return paint_scene(scene, rng)

    monkeypatch.setattr(make, 'paint_scene', interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_shapes(root, **SMALL)
    assert not contents(root)
    monkeypatch.undo()
    assert contents(make_shapes(root, **SMALL)) == contents(
        make_shapes(tmp_path / 'complete', **SMALL)
    )
    assert not (tmp_path / 'interrupted.part').exists()


@pytest.mark.parametrize(
    'invalid, message',
    [
        (dict(num_train=0), 'num_train .* at least 1'),
        (dict(image_size=(160, 31)), r'image_size at least 32, .*31'),
        (dict(object_size=(0.5, 3)), r'object_size .*\(0.5, 3\)'),
    ],
)
def test_invalid_parameters_raise_an_error_and_create_no_folder(
    tmp_path, invalid, message
):
    with pytest.raises(ValueError, match=message):
        make_shapes(tmp_path / 'a', **{**SMALL, **invalid})
    assert not any(tmp_path.iterdir())


def test_objects_have_the_configured_sizes(tmp_path):
    root = make_shapes(
        tmp_path / 'a',
        num_train=20,
        num_val=1,
        image_size=(100, 120),
        object_size=(0.3, 0.4),
    )
    text = (root / 'annotations/instances_train.json').read_text()
    sides = [max(x['bbox'][2:]) for x in json.loads(text)['annotations']]
    # Box sides in pixels; drawing adds a pixel at each edge.
    assert 25 < np.median(sides) and max(sides) <= 42


def test_a_file_as_root_raises_an_error(tmp_path):
    (tmp_path / 'a').write_text('')
    with pytest.raises(ValueError, match='exists and has no shapes'):
        make_shapes(tmp_path / 'a', **SMALL)


@pytest.mark.slow
def test_the_tool_equals_the_function_and_prints_no_traceback(tmp_path):
    pytest.importorskip('mmengine')
    command = 'tools/make_shapes.py --train 5 --val 3 --size 64 48'.split()
    command.append(tmp_path / 'tool')
    run(*command, '--seed', 3)
    assert contents(tmp_path / 'tool') == contents(
        make_shapes(tmp_path / 'function', **SMALL)
    )
    output = run(*command, '--seed', 4, fails=True)
    assert 'delete it' in output and 'Traceback' not in output
