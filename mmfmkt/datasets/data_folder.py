"""Detection data sets in COCO, YOLO and Pascal VOC format.

YOLO and VOC annotations are converted to COCO format. Images stay in place.
"""

import os.path as osp
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Tuple
from xml.etree import ElementTree

import yaml
from PIL import Image

from mmfmkt.utils import ConfigError

from .coco_folder import CocoFolder, CocoSplit, find_coco_folder
from .unlabelled_images import SUFFIXES

SPLITS = ('train', 'val')
ORIENTATION = 274  # EXIF tag; images with 5 to 8 are transposed when read


class Instance(NamedTuple):
    """Annotated object.

    Attributes:
        name (str): Name of the class.
        box (tuple[float]): x and y of the upper left corner, width, height.
        polygon (list[float]): x and y of each corner of the mask, or empty.
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


def find_data_folder(root: str, out_dir: Path) -> CocoFolder:
    """Find the splits of a data set in COCO, YOLO or Pascal VOC format.

    Args:
        root (str): Root folder with ``annotations/*.json`` (COCO),
            ``data.yaml`` (YOLO) or ``JPEGImages/`` (VOC).
        out_dir (Path): Folder of converted annotations, which
            `CocoFolder.write` writes.

    Raises:
        ConfigError: If a file is missing or cannot be read.
    """
    path = Path(root).resolve()
    if any((path / 'annotations').glob('*.json')):
        return find_coco_folder(root)
    for name, marker, read in (
        ('YOLO', 'data.yaml', read_yolo),
        ('Pascal VOC', 'JPEGImages', read_voc),
    ):
        if (path / marker).exists():
            classes, images = read(path)
            splits = [
                to_coco(path, x, images[x], classes, out_dir.resolve())
                for x in SPLITS
            ]
            return CocoFolder(path, *splits, name)
    return find_coco_folder(root)


def to_coco(
    root: Path,
    split: str,
    images: List[AnnotatedImage],
    classes: Sequence[str],
    out_dir: Path,
) -> CocoSplit:
    """Convert a split to COCO format.

    Args:
        root (Path): Root folder of the data set.
        split (str): ``'train'`` or ``'val'``.
        images (list[AnnotatedImage]): Images of the split.
        classes (Sequence[str]): Names of the classes.
        out_dir (Path): Folder of the annotation file.
    """
    if not images:
        raise ConfigError(f'--data-root: {str(root)!r} has no {split} images.')
    category_ids = {name: i for i, name in enumerate(classes, 1)}
    content: Dict[str, List[dict]] = dict(
        images=[],
        annotations=[],
        categories=[dict(id=i, name=x) for x, i in category_ids.items()],
    )
    for image_id, (path, (width, height), instances) in enumerate(images, 1):
        inside = root in path.parents
        file_name = path.relative_to(root) if inside else path
        content['images'].append(
            dict(
                id=image_id,
                file_name=file_name.as_posix(),
                width=width,
                height=height,
            )
        )
        for name, box, polygon, ignore in instances:
            annotation: Dict[str, Any] = dict(
                id=len(content['annotations']) + 1,
                image_id=image_id,
                category_id=category_ids[name],
                bbox=list(box),
                area=area_of(polygon) if polygon else box[2] * box[3],
                iscrowd=int(ignore),
            )
            if polygon:
                annotation['segmentation'] = [polygon]
            content['annotations'].append(annotation)
    annotations = content['annotations']
    has_masks = bool(annotations) and all(
        'segmentation' in x for x in annotations
    )
    ann_file = str(out_dir / f'annotations_{split}.json')
    return CocoSplit(ann_file, '', tuple(classes), has_masks, content)


def area_of(polygon: List[float]) -> float:
    """Return the area of a polygon."""
    xs, ys = polygon[::2], polygon[1::2]
    following = zip(xs[1:] + xs[:1], ys[1:] + ys[:1])
    parts = (a * d - c * b for a, b, (c, d) in zip(xs, ys, following))
    return abs(sum(parts)) / 2


def image_size(path: Path) -> Tuple[int, int]:
    """Return width and height of an image from its header.

    Raises:
        ConfigError: If the image is missing or cannot be read.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            exif = image.getexif() if image.format == 'JPEG' else {}
    except OSError as error:
        raise ConfigError(
            f'--data-root: the image {str(path)!r} cannot be read: '
            f'{type(error).__name__}.'
        ) from error
    transposed = exif.get(ORIENTATION, 1) >= 5
    return (height, width) if transposed else (width, height)


def read_yolo(
    root: Path,
) -> Tuple[List[str], Dict[str, List[AnnotatedImage]]]:
    """Read classes and images of a data set in YOLO format.

    Raises:
        ConfigError: If ``data.yaml``, an image or a label is wrong.
    """
    file = root / 'data.yaml'
    try:
        config = yaml.safe_load(file.read_text(encoding='utf-8'))
        names = config['names']
        if isinstance(names, dict):
            names = [names[i] for i in range(len(names))]
        classes = [str(x) for x in names]
        if not classes or len(set(classes)) < len(classes):
            raise ValueError('names must be distinct')
        entries = {x: config[x] for x in SPLITS}
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise ConfigError(
            f'--data-root: {str(file)!r} must have train, val and names (a '
            'list, or a dict with the keys 0, 1, ...), got '
            f'{type(error).__name__}: {" ".join(str(error).split())}.'
        ) from error
    base = root / str(config.get('path') or '')
    images: Dict[str, List[AnnotatedImage]] = {}
    for split, value in entries.items():
        images[split] = []
        for entry in value if isinstance(value, list) else [value]:
            for path in yolo_images(str(entry), base, root, split):
                size = image_size(path)
                instances = list(yolo_instances(path, size, classes))
                images[split].append(AnnotatedImage(path, size, instances))
    return classes, images


def yolo_images(
    entry: str, base: Path, root: Path, split: str
) -> Iterator[Path]:
    """Yield the images of an entry of ``data.yaml``.

    Args:
        entry (str): A folder, which is searched recursively, or a ``.txt``
            file with an image in each line.
        base (Path): Folder to which ``entry`` is relative.
        root (Path): Folder of ``data.yaml``, tried second.
        split (str): Key of ``data.yaml``, for the error.
    """
    # Exports of Roboflow have '../train/images' for 'train/images'.
    options = [
        folder / x
        for folder in (base, root)
        for x in (entry, entry.removeprefix('../'))
    ]
    found = next((x for x in options if x.exists()), None)
    if found is None:
        raise ConfigError(
            f'--data-root: {str(root / "data.yaml")!r} names {entry!r} for '
            f'{split}, which does not exist in {str(base)!r} or '
            f'{str(root)!r}.'
        )
    if found.is_dir():
        paths = sorted(
            x for x in found.rglob('*') if x.suffix.lower() in SUFFIXES
        )
    else:
        lines = map(str.strip, found.read_text('utf-8').splitlines())
        paths = [
            found.parent / x if (found.parent / x).exists() else base / x
            for x in lines
            if x
        ]
    yield from (Path(osp.abspath(x)) for x in paths)


def yolo_instances(
    image: Path, size: Tuple[int, int], classes: Sequence[str]
) -> Iterator[Instance]:
    """Yield the objects of an image from its label file, if it has one.

    Args:
        image (Path): Image; the last ``images`` in its path is ``labels`` in
            the path of the label file.
        size (tuple[int]): Width and height in pixels.
        classes (Sequence[str]): Names of the classes.
    """
    parts = list(image.with_suffix('.txt').parts)
    if 'images' in parts[:-1]:
        last = len(parts) - 2 - parts[-2::-1].index('images')
        parts[last] = 'labels'
    file = Path(*parts)
    lines = file.read_text('utf-8').splitlines() if file.is_file() else []
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if not fields:
            continue
        place = f'--data-root: {str(file)!r}, line {number}'
        try:
            index, values = int(float(fields[0])), [*map(float, fields[1:])]
            valid = len(values) >= 4 and len(values) % 2 == 0
            # Rounding may exceed 1; coordinates in pixels do.
            valid = valid and max(values) < 1.5
        except ValueError:
            valid = False
        if not valid:
            raise ConfigError(
                f'{place}: must be a class and 4 numbers (center x, center y, '
                'width, height) or x and y of 3 or more corners, relative to '
                f'the image, got {line!r}.'
            )
        if not 0 <= index < len(classes):
            raise ConfigError(
                f'{place}: unknown class {index}; data.yaml names the classes '
                f'0 to {len(classes) - 1}.'
            )
        pixels = [x * size[i % 2] for i, x in enumerate(values)]
        if len(values) == 4:
            x, y, width, height = pixels
            box = x - width / 2, y - height / 2, width, height
            yield Instance(classes[index], box)
        else:
            left, top = min(pixels[::2]), min(pixels[1::2])
            right, bottom = max(pixels[::2]), max(pixels[1::2])
            box = left, top, right - left, bottom - top
            yield Instance(classes[index], box, pixels)


def read_voc(
    root: Path,
) -> Tuple[List[str], Dict[str, List[AnnotatedImage]]]:
    """Read classes and images of a data set in Pascal VOC format.

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
        lines = map(str.strip, file.read_text('utf-8').splitlines())
        images[split] = [read_voc_image(root, x) for x in lines if x]
    instances = (y for split in images.values() for x in split for y in x[2])
    classes = sorted({x.name for x in instances})
    if not classes:
        raise ConfigError(f'--data-root: {str(root)!r} has no objects.')
    return classes, images


def read_voc_image(root: Path, name: str) -> AnnotatedImage:
    """Read an image and its objects; without a file, it is background.

    Args:
        root (Path): Root folder of the data set.
        name (str): Name of the image without suffix.
    """
    options = [root / 'JPEGImages' / f'{name}{x}' for x in SUFFIXES]
    path = next((x for x in options if x.is_file()), options[0])
    file = root / 'Annotations' / f'{name}.xml'
    if not file.is_file():
        return AnnotatedImage(path, image_size(path), [])
    try:
        tree = ElementTree.parse(file).getroot()
        width, height = (
            int(tree.findtext(f'size/{x}', '0')) for x in ('width', 'height')
        )
        instances = [voc_instance(x) for x in tree.iterfind('object')]
    except (OSError, ValueError, ElementTree.ParseError) as error:
        raise ConfigError(
            f'--data-root: {str(file)!r} is not in Pascal VOC format: '
            f'{type(error).__name__}: {error}.'
        ) from error
    # Some tools write 0.
    size = (width, height) if width and height else image_size(path)
    if not path.is_file():
        raise ConfigError(f'--data-root: there is no image {str(path)!r}.')
    return AnnotatedImage(path, size, instances)


def voc_instance(element: ElementTree.Element) -> Instance:
    """Convert an object of VOC, whose pixels count from 1 as in MMDetection.

    Objects that are difficult are ignored in training and evaluation.
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
