"""Tiny data sets in the formats that the libraries' configs train on.

Each writer draws a few images with objects into a folder and returns the
settings of a data set's config that reads them.
"""

import json
import pickle
from pathlib import Path
from typing import List, NamedTuple, Sequence, Tuple

import cv2
import numpy as np

# One batch. Images and objects are larger than 32 pixels, which the data
# sets' `filter_cfg` requires.
NUM_IMAGES = 2
WIDTH, HEIGHT = 160, 128
# Class maps are 8-bit images, but LVIS has 1203 classes: labels are taken
# modulo COCO's number of classes.
MAX_MAP_CLASSES = 80


class Object(NamedTuple):
    """Object in an image: class, box ``(x, y, w, h)`` and polygon."""

    label: int
    box: Tuple[int, int, int, int]
    outline: List[int]


def draw_images(folder: Path, num_classes: int) -> List[List[Object]]:
    """Draw the images ``0.jpg`` and ``1.jpg``, and return their objects.

    Args:
        folder (Path): Folder to write to.
        num_classes (int): Number of classes to draw from.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    drawn = []
    for index in range(NUM_IMAGES):
        image = rng.integers(0, 255, (8, 10, 3), dtype=np.uint8)
        image = cv2.resize(image, (WIDTH, HEIGHT))
        objects = []
        # Three objects, each in a different quadrant, so that none occludes
        # another.
        for quadrant in range(3):
            w, h = rng.integers(40, 64), rng.integers(36, 56)
            x = int(quadrant % 2 * WIDTH // 2 + rng.integers(0, 80 - w))
            y = int(quadrant // 2 * HEIGHT // 2 + rng.integers(0, 64 - h))
            w, h = int(w), int(h)
            outline = [x, y, x + w, y, x + w, y + h, x + w // 4, y + h]
            objects.append(
                Object(int(rng.integers(num_classes)), (x, y, w, h), outline)
            )
            cv2.fillPoly(
                image,
                [np.array(outline).reshape(-1, 2)],
                rng.integers(0, 255, 3).tolist(),
            )
        cv2.imwrite(str(folder / f'{index}.jpg'), image)
        drawn.append(objects)
    return drawn


def coco(folder: Path, classes: Sequence[str]) -> dict:
    """Write COCO's format, with polygons, semantic maps and proposals."""
    drawn = draw_images(folder / 'images', len(classes))
    # LVIS reads the URL instead of the name, and needs the last two lists.
    images = [
        dict(
            id=i,
            file_name=f'{i}.jpg',
            coco_url=f'http://images.cocodataset.org/{i}.jpg',
            width=WIDTH,
            height=HEIGHT,
            neg_category_ids=[],
            not_exhaustive_category_ids=[],
        )
        for i in range(NUM_IMAGES)
    ]
    annotations: List[dict] = []
    for i, objects in enumerate(drawn):
        for x in objects:
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=i,
                    category_id=x.label + 1,
                    bbox=x.box,
                    area=x.box[2] * x.box[3],
                    segmentation=[x.outline],
                    iscrowd=0,
                )
            )
    categories = [
        dict(id=i + 1, name=name, frequency='f')
        for i, name in enumerate(classes)
    ]
    (folder / 'train.json').write_text(
        json.dumps(
            dict(
                info={},
                images=images,
                annotations=annotations,
                categories=categories,
            )
        )
    )
    write_class_maps(folder / 'maps', drawn)
    write_proposals(folder / 'proposals.pkl', drawn)
    return dict(
        data_root=f'{folder}/',
        ann_file='train.json',
        data_prefix=dict(img='images/', seg='maps/'),
    )


def write_class_maps(folder: Path, drawn: List[List[Object]]) -> None:
    """Write a map of class indices for each image."""
    folder.mkdir()
    for i, objects in enumerate(drawn):
        labels = np.zeros((HEIGHT, WIDTH), np.uint8)
        for x in objects:
            cv2.fillPoly(
                labels,
                [np.array(x.outline).reshape(-1, 2)],
                x.label % MAX_MAP_CLASSES,
            )
        cv2.imwrite(str(folder / f'{i}.png'), labels)


def write_proposals(path: Path, drawn: List[List[Object]]) -> None:
    """Write boxes near the objects as MMDetection's proposals."""
    rng = np.random.default_rng(1)
    proposals = {}
    for i, objects in enumerate(drawn):
        boxes = np.array([x.box for x in objects], np.float32)
        boxes[:, 2:] += boxes[:, :2]
        boxes = np.tile(boxes, (20, 1))
        boxes += rng.normal(0, 6, boxes.shape)
        boxes = boxes.clip(0, [WIDTH, HEIGHT] * 2).astype(np.float32)
        scores = rng.random(len(boxes)).astype(np.float32)
        proposals[f'images/{i}.jpg'] = dict(bboxes=boxes, scores=scores)
    path.write_bytes(pickle.dumps(proposals))


def panoptic(
    folder: Path, things: Sequence[str], stuff: Sequence[str]
) -> dict:
    """Write COCO's panoptic format: a color for each segment."""
    drawn = draw_images(folder / 'images', len(things))
    (folder / 'segments').mkdir()
    images, annotations = [], []
    for i, objects in enumerate(drawn):
        ids = np.ones((HEIGHT, WIDTH), np.int32)
        segments = [segment_info(1, len(things) + 1, (0, 0, WIDTH, HEIGHT))]
        for number, x in enumerate(objects, start=2):
            cv2.fillPoly(ids, [np.array(x.outline).reshape(-1, 2)], number)
            segments.append(segment_info(number, x.label + 1, x.box))
        colors = np.stack([ids >> 16, ids >> 8, ids], -1).astype(np.uint8)
        cv2.imwrite(str(folder / f'segments/{i}.png'), colors)
        images.append(
            dict(id=i, file_name=f'{i}.jpg', width=WIDTH, height=HEIGHT)
        )
        annotations.append(
            dict(image_id=i, file_name=f'{i}.png', segments_info=segments)
        )
    categories = [
        dict(id=i + 1, name=name, isthing=int(i < len(things)))
        for i, name in enumerate([*things, *stuff])
    ]
    (folder / 'train.json').write_text(
        json.dumps(
            dict(images=images, annotations=annotations, categories=categories)
        )
    )
    return dict(
        data_root=f'{folder}/',
        ann_file='train.json',
        data_prefix=dict(img='images/', seg='segments/'),
    )


def segment_info(number: int, category: int, box: Sequence[int]) -> dict:
    """Return a segment of the panoptic format."""
    return dict(
        id=number,
        category_id=category,
        bbox=box,
        area=box[2] * box[3],
        iscrowd=0,
    )


def crowdhuman(folder: Path, classes: Sequence[str]) -> dict:
    """Write CrowdHuman's format: a line for each image."""
    drawn = draw_images(folder / 'images', 1)
    lines = [
        json.dumps(
            dict(
                ID=str(i),
                gtboxes=[
                    dict(tag=classes[-1], fbox=x.box, hbox=x.box, vbox=x.box)
                    for x in objects
                ],
            )
        )
        for i, objects in enumerate(drawn)
    ]
    (folder / 'train.odgt').write_text('\n'.join(lines))
    return dict(
        data_root=f'{folder}/',
        ann_file='train.odgt',
        data_prefix=dict(img='images/'),
    )


def single_label(folder: Path, num_classes: int) -> dict:
    """Write images with one class each, for MMPretrain's CustomDataset."""
    drawn = draw_images(folder / 'images', num_classes)
    (folder / 'train.txt').write_text(
        '\n'.join(
            f'{i}.jpg {objects[0].label}' for i, objects in enumerate(drawn)
        )
    )
    return dict(
        type='CustomDataset',
        data_root=f'{folder}/',
        ann_file='train.txt',
        data_prefix='images/',
    )


def multi_label(folder: Path, num_classes: int) -> dict:
    """Write images with several classes each, for MultiLabelDataset."""
    drawn = draw_images(folder / 'images', num_classes)
    classes = [f'class {i}' for i in range(num_classes)]
    content = dict(
        metainfo=dict(classes=classes),
        data_list=[
            dict(
                img_path=f'{i}.jpg',
                gt_label=sorted({x.label for x in objects}),
            )
            for i, objects in enumerate(drawn)
        ],
    )
    (folder / 'train.json').write_text(json.dumps(content))
    return dict(
        type='MultiLabelDataset',
        data_root=f'{folder}/',
        ann_file='train.json',
        data_prefix='images/',
    )
