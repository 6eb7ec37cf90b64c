"""A data set in COCO format, looked through before it costs anything."""

import hashlib
import json
import math
import os
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, Optional

import cv2
from rich.progress import track

from mmfmkt.utils import ConfigError
from mmfmkt.utils.files import write_whole

VERSION = 1
NO_NUMBERS = 'have no numbers x, y, width and height'
DECODED = 64
# The first bytes of what OpenCV and Pillow read.
MAGIC = (
    b'\xff\xd8',
    b'\x89PNG',
    b'BM',
    b'GIF8',
    b'RIFF',
    b'II*\0',
    b'MM\0*',
    b'P4',
    b'P5',
    b'P6',
    b'\0\0\0\x0cjP',
)


def check_coco(
    ann_file: str, images: Optional[str], key: str, need_boxes: bool
) -> Dict[str, Any]:
    """Read every annotation, look at every picture, and decode some.

    What was found good is remembered until one of the files changes.

    Args:
        ann_file (str): The annotation file.
        images (str, optional): Folder of the pictures; None where they are
            elsewhere than in a folder.
        key (str): Config key of the data set, for errors.
        need_boxes (bool): Whether there must be boxes.

    Returns:
        dict: ``categories``, their names, and ``remarks``, sentences.

    Raises:
        ConfigError: If something could not be trained on; the sentence says
            how much of it there is, and which is the first.
    """
    mark = signature(ann_file, images, need_boxes)
    known = recall()
    if mark not in known:
        found = look_through(ann_file, images, f'{key}.ann_file', need_boxes)
        remember({**known, mark: found})
        return found
    return known[mark]


def read_categories(ann_file: str) -> List[str]:
    """Return the category names of a COCO file, none where it has none."""
    try:
        with open(ann_file, encoding='utf-8') as file:
            return [x['name'] for x in json.load(file)['categories']]
    except (OSError, ValueError, TypeError, KeyError):
        return []


def look_through(
    ann_file: str, images: Optional[str], key: str, need_boxes: bool
) -> Dict[str, Any]:
    """Do what `check_coco` says."""
    try:
        with open(ann_file, encoding='utf-8') as file:
            content = json.load(file)
    except (ValueError, OSError) as error:
        raise ConfigError(
            f'{key}: {ann_file!r} cannot be read as JSON: {error}.'
        ) from error
    what = f'{key}: {ann_file!r}'
    parts = ('images', 'annotations', 'categories')
    for part in parts:
        if not isinstance(content, dict) or part not in content:
            raise ConfigError(
                f"{what} is not in COCO format: it has no list '{part}'."
            )
        rows = content[part]
        if not isinstance(rows, list) or any(
            not isinstance(x, dict) for x in rows
        ):
            raise ConfigError(f"{what}: '{part}' is no list of entries.")
    for part in parts if need_boxes else ('images', 'categories'):
        if not content[part]:
            raise ConfigError(
                f'{what} holds no {part}: give an annotation file in COCO '
                'format with images, categories and boxes in it.'
            )
    categories = [str(x.get('name')) for x in content['categories']]
    remarks = check_entries(content, what, need_boxes)
    if images is not None:
        names = [str(x['file_name']) for x in content['images']]
        check_pictures([os.path.join(images, x) for x in names], what)
    return dict(categories=categories, remarks=remarks)


def check_entries(content: dict, what: str, need_boxes: bool) -> List[str]:
    """Hold images and boxes to what MMDetection takes for granted."""
    sizes: Dict[Any, tuple] = {}
    for image in content['images']:
        size = image.get('width'), image.get('height')
        if not image.get('file_name') or 'id' not in image:
            raise ConfigError(
                f"{what}: an image has no 'file_name' or no 'id': "
                f'{shown(image)}.'
            )
        if not all(is_number(x) and x > 0 for x in size):
            raise ConfigError(
                f'{what}: the image {image["file_name"]!r} has the width and '
                f'height {size}.'
            )
        sizes[image['id']] = size
    labels = {x.get('id') for x in content['categories']}
    wrong: Counter = Counter()
    first: Dict[str, Any] = {}
    boxes = [
        (part, annotation.get('image_id'))
        for annotation in content['annotations']
        # A panoptic one has several segments.
        for part in annotation.get('segments_info') or [annotation]
    ]
    for box, owner in boxes:
        fault = fault_of(box, sizes.get(owner), labels)
        if fault:
            wrong[fault] += 1
            first.setdefault(fault, box)
    good = len(boxes) - sum(wrong.values())
    if need_boxes and not good or NO_NUMBERS in wrong:
        faults = [
            f'{count} {fault}, the first is {shown(first[fault])}'
            for fault, count in wrong.items()
        ]
        raise ConfigError(
            f'{what}: of {len(boxes)} boxes {good} can be trained on: '
            f'{"; ".join(faults) or "there is none"}.'
        )
    return [
        f'{what}: {count} of {len(boxes)} boxes {fault} and are left out.'
        for fault, count in wrong.items()
    ]


def fault_of(box: dict, size: Optional[tuple], labels: set) -> str:
    """What is wrong with a box, or nothing."""
    if size is None:
        return 'belong to an image that is not listed'
    if box.get('category_id') not in labels:
        return 'have a category that is not listed'
    numbers = box.get('bbox')
    if (
        not isinstance(numbers, list)
        or len(numbers) != 4
        or not all(is_number(x) for x in numbers)
    ):
        return NO_NUMBERS
    x, y, width, height = numbers
    if width <= 0 or height <= 0:
        return 'have no area'
    if x >= size[0] or y >= size[1] or x + width <= 0 or y + height <= 0:
        return 'lie outside their image'
    return ''


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
    )


def check_pictures(paths: List[str], what: str) -> None:
    """Look at the first bytes of every picture, and decode some of them.

    Args:
        paths (list[str]): The pictures.
        what (str): Where they are named, for errors.

    Raises:
        ConfigError: If one is missing or unreadable.
    """
    missing, broken = [], []
    every = max(len(paths) // DECODED, 1)
    for index, path in enumerate(
        track(
            paths,
            description=f'Looking at {len(paths)} pictures',
            disable=len(paths) < 2000,
            transient=True,
        )
    ):
        try:
            with open(path, 'rb') as file:
                start = file.read(16)
        except OSError:
            missing.append(path)
            continue
        if not start.startswith(MAGIC) or index % every == 0:
            if cv2.imread(path, cv2.IMREAD_UNCHANGED) is None:
                broken.append(path)
    for found, fault in ((missing, 'missing'), (broken, 'unreadable')):
        if found:
            raise ConfigError(
                f'{what}: {len(found)} of {len(paths)} pictures are {fault}, '
                f'the first is {found[0]!r}; see data_prefix, or mend the '
                'data set.'
            )


def shown(entry: Any) -> str:
    """An entry for a sentence."""
    text = json.dumps(entry)
    return text if len(text) < 100 else f'{text[:96]}...'


def signature(ann_file: str, images: Optional[str], need_boxes: bool) -> str:
    """What changes when a data set does."""
    parts = [VERSION, need_boxes]
    for path in (ann_file, images):
        if path and os.path.exists(path):
            info = os.stat(path)
            parts += [os.path.realpath(path), info.st_size, info.st_mtime_ns]
        else:
            parts.append(path)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def memory() -> Path:
    """Where what was found good is kept."""
    home = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(home, 'mmfmkt', 'data_sets.json')


def recall() -> Dict[str, Any]:
    """What was found good; nothing where that cannot be read."""
    try:
        return dict(json.loads(memory().read_text()))
    except (OSError, ValueError):
        return {}


def remember(found: Dict[str, Any]) -> None:
    """Keep the last hundred of what was found good, where there is a place."""
    try:
        write_whole(memory(), json.dumps(dict(list(found.items())[-100:])))
    except OSError:
        pass
