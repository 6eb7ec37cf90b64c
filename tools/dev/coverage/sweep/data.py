"""Tiny data sets in the formats that the libraries' configs train on.

Each writer draws a few images with objects into a folder and returns the
settings with which the config of a data set reads them.
"""

import json
import pickle
from pathlib import Path
from typing import Any, List, NamedTuple, Sequence, Tuple

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
    polygon: List[int]

    def fill(self, image: np.ndarray, value: Any) -> None:
        """Fill the polygon in an image."""
        cv2.fillPoly(image, [np.array(self.polygon).reshape(-1, 2)], value)


def draw_images(folder: Path, num_classes: int) -> List[List[Object]]:
    """Draw the images ``0.jpg`` and ``1.jpg``, and return their objects.

    Args:
        folder (Path): Folder to write to.
        num_classes (int): Number of classes to draw from.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    image_objects = []
    for index in range(NUM_IMAGES):
        image = rng.integers(0, 255, (8, 10, 3), dtype=np.uint8)
        image = cv2.resize(image, (WIDTH, HEIGHT))
        objects = []
        # Each object is in a quadrant of its own, so that none is occluded.
        for quadrant in range(3):
            w, h = rng.integers(40, 64), rng.integers(36, 56)
            x = int(quadrant % 2 * WIDTH // 2 + rng.integers(0, 80 - w))
            y = int(quadrant // 2 * HEIGHT // 2 + rng.integers(0, 64 - h))
            w, h = int(w), int(h)
            polygon = [x, y, x + w, y, x + w, y + h, x + w // 4, y + h]
            label = int(rng.integers(num_classes))
            objects.append(Object(label, (x, y, w, h), polygon))
            objects[-1].fill(image, rng.integers(0, 255, 3).tolist())
        cv2.imwrite(str(folder / f'{index}.jpg'), image)
        image_objects.append(objects)
    return image_objects


def coco(folder: Path, classes: Sequence[str]) -> dict:
    """Write a data set in COCO format, with semantic maps and proposals."""
    image_objects = draw_images(folder / 'images', len(classes))
    annotations: List[dict] = []
    for i, objects in enumerate(image_objects):
        for x in objects:
            annotation_id = len(annotations) + 1
            annotation = annotation_of(annotation_id, x.label + 1, x.box)
            annotation.update(image_id=i, segmentation=[x.polygon])
            annotations.append(annotation)
    categories = [
        dict(id=i + 1, name=name, frequency='f')
        for i, name in enumerate(classes)
    ]
    write_class_maps(folder / 'maps', image_objects)
    write_proposals(folder / 'proposals.pkl', image_objects)
    return write_annotations(folder, 'maps', annotations, categories)


def annotation_of(
    annotation_id: int, category: int, box: Sequence[int]
) -> dict:
    """Return the keys that annotations of objects and of segments share."""
    return dict(
        id=annotation_id,
        category_id=category,
        bbox=box,
        area=box[2] * box[3],
        iscrowd=0,
    )


def write_annotations(
    folder: Path, seg: str, annotations: List[dict], categories: List[dict]
) -> dict:
    """Write an annotation file, and return the settings that read it."""
    # LVIS reads `coco_url` instead of `file_name`, and needs both lists.
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
    content = dict(
        info={}, images=images, annotations=annotations, categories=categories
    )
    (folder / 'train.json').write_text(json.dumps(content))
    return dict(
        data_root=f'{folder}/',
        ann_file='train.json',
        data_prefix=dict(img='images/', seg=f'{seg}/'),
    )


def write_class_maps(folder: Path, image_objects: List[List[Object]]) -> None:
    """Write a map of class indices for each image."""
    folder.mkdir()
    for i, objects in enumerate(image_objects):
        labels = np.zeros((HEIGHT, WIDTH), np.uint8)
        for x in objects:
            x.fill(labels, x.label % MAX_MAP_CLASSES)
        cv2.imwrite(str(folder / f'{i}.png'), labels)


def write_proposals(path: Path, image_objects: List[List[Object]]) -> None:
    """Write boxes near the objects as MMDetection's proposals."""
    rng = np.random.default_rng(1)
    proposals = {}
    for i, objects in enumerate(image_objects):
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
    """Write a data set in COCO's panoptic format: one color per segment."""
    image_objects = draw_images(folder / 'images', len(things))
    (folder / 'segments').mkdir()
    annotations = []
    for i, objects in enumerate(image_objects):
        ids = np.ones((HEIGHT, WIDTH), np.int32)
        segments = [annotation_of(1, len(things) + 1, (0, 0, WIDTH, HEIGHT))]
        for number, x in enumerate(objects, start=2):
            x.fill(ids, number)
            segments.append(annotation_of(number, x.label + 1, x.box))
        colors = np.stack([ids >> 16, ids >> 8, ids], -1).astype(np.uint8)
        cv2.imwrite(str(folder / f'segments/{i}.png'), colors)
        annotations.append(
            dict(image_id=i, file_name=f'{i}.png', segments_info=segments)
        )
    categories = [
        dict(id=i + 1, name=name, isthing=int(i < len(things)))
        for i, name in enumerate([*things, *stuff])
    ]
    return write_annotations(folder, 'segments', annotations, categories)


def single_label(folder: Path, num_classes: int) -> dict:
    """Write images with one class each, for MMPretrain's CustomDataset."""
    image_objects = draw_images(folder / 'images', num_classes)
    (folder / 'train.txt').write_text(
        '\n'.join(
            f'{i}.jpg {objects[0].label}'
            for i, objects in enumerate(image_objects)
        )
    )
    return dict(
        type='CustomDataset',
        data_root=f'{folder}/',
        ann_file='train.txt',
        data_prefix='images/',
    )
