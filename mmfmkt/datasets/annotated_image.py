"""Annotated images, and their conversion to COCO format."""

from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Tuple

import numpy as np
from PIL import Image

from mmfmkt.utils import ConfigError

from .coco_folder import CocoSplit

# EXIF tag of the orientation; its values 5 to 8 swap width and height. OpenCV
# applies it in these formats; some cameras' .jpg files have the format MPO.
ORIENTATION = 274
ORIENTED_FORMATS = ('JPEG', 'MPO', 'PNG')


class Instance(NamedTuple):
    """Annotated object.

    Attributes:
        name (str): Name of the class.
        box (tuple[float]): x and y of the upper left corner, width and
            height in pixels.
        polygon (list[float]): x and y of each corner of the mask in pixels;
            empty without a mask.
        ignore (bool): Whether training and evaluation ignore the object.
    """

    name: str
    box: Tuple[float, float, float, float]
    polygon: List[float] = []
    ignore: bool = False


class AnnotatedImage(NamedTuple):
    """Image with its objects.

    Attributes:
        path (Path): Image file.
        size (tuple[int]): Width and height in pixels.
        instances (list[Instance]): Objects; none for background.
    """

    path: Path
    size: Tuple[int, int]
    instances: List[Instance]


@contextmanager
def suppress_size_limit() -> Iterator[None]:
    """Open images of any size: mmcv's loader has no such limit as PIL."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def image_size(path: Path) -> Tuple[int, int]:
    """Return width and height of an image from its header.

    Raises:
        ConfigError: If the image is missing or cannot be read.
    """
    try:
        with suppress_size_limit(), Image.open(path) as image:
            width, height = image.size
            oriented = image.format in ORIENTED_FORMATS
            exif = image.getexif() if oriented else {}
    except OSError as error:
        raise ConfigError(
            f'--data-root: the image {str(path)!r} cannot be read: '
            f'{type(error).__name__}.'
        ) from error
    transposed = exif.get(ORIENTATION, 1) >= 5
    return (height, width) if transposed else (width, height)


def to_coco(
    root: Path,
    split: str,
    images: List[AnnotatedImage],
    classes: Sequence[str],
    out_dir: Path,
) -> CocoSplit:
    """Return a split in COCO format, which is not written yet.

    Args:
        root (Path): Root folder of the dataset.
        split (str): ``'train'`` or ``'val'``.
        images (list[AnnotatedImage]): Images of the split.
        classes (Sequence[str]): Names of the classes.
        out_dir (Path): Folder in which the annotations will be written.

    Raises:
        ConfigError: If the split has no images.
    """
    if not images:
        raise ConfigError(f'--data-root: {str(root)!r} has no {split} images.')
    category_ids = {name: i for i, name in enumerate(classes, 1)}
    coco_images: List[dict] = []
    annotations: List[Dict[str, Any]] = []
    for image_id, (path, (width, height), instances) in enumerate(images, 1):
        if root in path.parents:
            path = path.relative_to(root)
        coco_images.append(
            dict(
                id=image_id,
                file_name=path.as_posix(),
                width=width,
                height=height,
            )
        )
        for instance in instances:
            box, polygon = instance.box, instance.polygon
            annotation = dict(
                id=len(annotations) + 1,
                image_id=image_id,
                category_id=category_ids[instance.name],
                bbox=list(box),
                area=area_of(polygon) if polygon else box[2] * box[3],
                iscrowd=int(instance.ignore),
            )
            if polygon:
                annotation['segmentation'] = [polygon]
            annotations.append(annotation)
    categories = [dict(id=i, name=x) for x, i in category_ids.items()]
    content = dict(
        info={},  # pycocotools 2.0.9 and 2.0.10 need it in evaluations
        images=coco_images,
        annotations=annotations,
        categories=categories,
    )
    with_mask = [x for x in annotations if 'segmentation' in x]
    has_masks = 0 < len(with_mask) == len(annotations)
    ann_file = str(out_dir / f'annotations_{split}.json')
    return CocoSplit(ann_file, '', tuple(category_ids), has_masks, content)


def area_of(polygon: List[float]) -> float:
    """Return the area of a polygon in square pixels."""
    x, y = np.reshape(polygon, (-1, 2)).T
    return abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2
