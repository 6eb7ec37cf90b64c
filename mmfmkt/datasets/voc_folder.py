"""Reading of detection datasets in Pascal VOC format."""

from pathlib import Path
from typing import Dict, List, Tuple
from xml.etree import ElementTree

from mmfmkt.utils import ConfigError

from .annotated_image import AnnotatedImage, Instance, image_size
from .coco_folder import SPLITS
from .unlabelled_images import SUFFIXES
from .yolo_folder import read_lines


def read_voc(
    root: Path,
) -> Tuple[List[str], Dict[str, List[AnnotatedImage]]]:
    """Read classes and images of a dataset in Pascal VOC format.

    The classes are the names of all objects, in alphabetical order.

    Raises:
        ConfigError: If a file is missing or wrong, or there are no objects.
    """
    images = {}
    for split in SPLITS:
        file = root / 'ImageSets' / 'Main' / f'{split}.txt'
        if not file.is_file():
            raise ConfigError(
                f'--data-root: {str(root)!r} is in Pascal VOC format and must '
                f'have ImageSets/Main/{split}.txt.'
            )
        images[split] = [read_image(root, name) for name in read_lines(file)]
    classes = {
        instance.name
        for split in images.values()
        for image in split
        for instance in image.instances
    }
    if not classes:
        raise ConfigError(f'--data-root: {str(root)!r} has no objects.')
    return sorted(classes), images


def read_image(root: Path, name: str) -> AnnotatedImage:
    """Read an image and its objects.

    An image without an annotation file is background.

    Args:
        root (Path): Root folder of the dataset.
        name (str): Name of the image without suffix.
    """
    candidates = [
        root / 'JPEGImages' / f'{name}{x}'
        for suffix in SUFFIXES
        for x in (suffix, suffix.upper())
    ]
    path = next((x for x in candidates if x.is_file()), candidates[0])
    file = root / 'Annotations' / f'{name}.xml'
    instances: List[Instance] = []
    if file.is_file():
        try:
            tree = ElementTree.parse(file)
            instances = [read_instance(x) for x in tree.iterfind('object')]
        except (ValueError, ElementTree.ParseError) as error:
            raise ConfigError(
                f'--data-root: {str(file)!r} is not in Pascal VOC format: '
                f'{type(error).__name__}: {error}.'
            ) from error
    return AnnotatedImage(path, image_size(path), instances)


def read_instance(element: ElementTree.Element) -> Instance:
    """Convert an ``object`` element of an annotation file.

    Pixel coordinates start at 1 in Pascal VOC and at 0 in COCO. Objects that
    are marked as difficult are ignored in training and evaluation.
    """
    left, top, right, bottom = (
        float(element.findtext(f'bndbox/{x}', '')) - 1
        for x in ('xmin', 'ymin', 'xmax', 'ymax')
    )
    name = element.findtext('name', '').strip()
    if not name:
        raise ValueError('an object has no name')
    return Instance(
        name,
        (left, top, right - left, bottom - top),
        ignore=element.findtext('difficult', '0').strip() == '1',
    )
