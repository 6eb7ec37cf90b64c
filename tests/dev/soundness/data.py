"""Generation of tiny data sets of drawn shapes."""

import json
from pathlib import Path
from typing import Any, Callable, Dict, List

import cv2
import numpy as np

CLASSES = ('disk', 'square', 'bar')
COUNTS = dict(train=4, val=2)


def draw(kind: int, x: int, y: int, side: int, image: np.ndarray) -> None:
    """Draw the shape of a class into a square of an image.

    Args:
        kind (int): Index of the class.
        x, y, side (int): Top-left corner and side of the square in pixels.
        image (ndarray): BGR image; modified in place.
    """
    color = [(40, 60, 220), (60, 200, 80), (220, 120, 40)][kind]
    if kind == 0:
        center = x + side // 2, y + side // 2
        cv2.circle(image, center, side // 2, color, -1)
    else:
        height = side if kind == 1 else side // 2
        cv2.rectangle(image, (x, y), (x + side, y + height), color, -1)


def draw_shapes(
    seed: int, kinds: List[int], width: int = 64, height: int = 64
) -> tuple:
    """Draw shapes of the classes ``kinds`` on noise.

    Returns:
        tuple: The image, BGR, and boxes ``[x, y, width, height]``.
    """
    rng = np.random.default_rng(seed)
    image = rng.integers(90, 150, (height, width, 3)).astype(np.uint8)
    boxes = []
    for kind in kinds:
        least = min(width, height) // 4
        side = int(rng.integers(least, 2 * least))
        x, y = (int(rng.integers(0, z - side - 1)) for z in (width, height))
        draw(kind, x, y, side, image)
        boxes.append([x, y, side, side // 2 if kind == 2 else side])
    return image, boxes


def annotation(index: int, image: int, kind: int, box: List[int]) -> dict:
    """Return an annotation in COCO format, with a polygon."""
    x, y, width, height = box
    right, bottom = x + width, y + height
    return dict(
        id=index,
        image_id=image,
        category_id=kind + 1,
        bbox=box,
        area=width * height,
        iscrowd=0,
        segmentation=[[x, y, right, y, right, bottom, x, bottom]],
    )


def make_coco(root: Path, suffix: str = '.png') -> None:
    """Draw a detection data set in COCO format, with masks."""
    for split, count in COUNTS.items():
        (root / split).mkdir(parents=True)
        images, annotations = [], []
        for index in range(count):
            kinds = [index % 3, (index + 1) % 3]
            image, boxes = draw_shapes(10 * len(split) + index, kinds)
            name = f'{index:03}{suffix}'
            cv2.imwrite(str(root / split / name), image)
            images.append(
                dict(id=index + 1, file_name=name, width=64, height=64)
            )
            annotations += [
                annotation(2 * index + i + 1, index + 1, kind, box)
                for i, (kind, box) in enumerate(zip(kinds, boxes))
            ]
        content = dict(
            images=images,
            annotations=annotations,
            categories=[
                dict(id=i + 1, name=name) for i, name in enumerate(CLASSES)
            ],
        )
        write_json(root / 'annotations' / f'{split}.json', content)


def make_folders(root: Path, suffix: str = '.png') -> None:
    """Draw a classification data set, a folder for each class."""
    for split, count in COUNTS.items():
        for kind, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(count // 2):
                image, _ = draw_shapes(
                    100 * kind + index + count, [kind], 32, 32
                )
                cv2.imwrite(str(folder / f'{index:03}{suffix}'), image)


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text())


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file, and create its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def change_json(
    root: Path, change: Callable[[Dict[str, Any]], Any], *splits: str
) -> None:
    """Change annotation files in place, by default of both splits."""
    for split in splits or COUNTS:
        path = root / 'annotations' / f'{split}.json'
        content = read_json(path)
        change(content)
        write_json(path, content)


def change_images(
    root: Path, change: Callable[[np.ndarray], np.ndarray], suffix: str = ''
) -> None:
    """Change images; with a suffix, write another format."""
    for path in sorted(root.rglob('*.png')):
        image = change(cv2.imread(str(path)))
        if suffix:
            path.unlink()
            path = path.with_suffix(suffix)
        cv2.imwrite(str(path), image)
