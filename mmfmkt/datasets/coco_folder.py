"""Search for the annotation files and images of a COCO dataset."""

import json
from pathlib import Path
from typing import List, NamedTuple, Optional, Tuple

from mmfmkt.utils import ConfigError
from mmfmkt.utils.files import write_atomically

SPLITS = ('train', 'val')
# Number of images by which the folder of a split is found.
MAX_SAMPLE = 100


class CocoSplit(NamedTuple):
    """Split of a dataset. Paths are absolute or relative to its root.

    Attributes:
        ann_file (str): Annotation file.
        images (str): Folder of the images.
        classes (tuple[str]): Names of the categories.
        has_masks (bool): Whether all annotations have masks.
        content (dict, optional): Converted annotations, which
            `CocoFolder.write` writes to ``ann_file``; None in COCO format.
    """

    ann_file: str
    images: str
    classes: Tuple[str, ...]
    has_masks: bool
    content: Optional[dict] = None


class CocoFolder(NamedTuple):
    """Dataset in COCO format, or converted to it.

    Attributes:
        root (Path): Root folder.
        train (CocoSplit): Training split.
        val (CocoSplit): Validation split.
        format (str): Format of the folder: ``'COCO'``, ``'YOLO'`` or
            ``'Pascal VOC'``.
    """

    root: Path
    train: CocoSplit
    val: CocoSplit
    format: str = 'COCO'

    @property
    def classes(self) -> Tuple[str, ...]:
        """Names of the classes of the training split."""
        return self.train.classes

    def write(self) -> None:
        """Write the converted annotations; write nothing in COCO format."""
        for split in (self.train, self.val):
            if split.content:
                write_atomically(split.ann_file, json.dumps(split.content))


def find_coco_folder(root: str) -> CocoFolder:
    """Find the annotation files, image folders and classes of a dataset.

    The annotations of the training split are ``annotations/*train*.json`` or,
    as in exports of Roboflow, ``train*/*.json``; its images are beside them,
    in ``train*/``, ``images/train*/`` or ``images/``. The same holds for
    ``val``.

    Args:
        root (str): Root folder.

    Raises:
        ConfigError: If a file or folder is missing, not unique or not
            readable, or the classes of the splits differ.
    """
    path = Path(root).resolve()
    if not path.is_dir():
        raise ConfigError(f'--data-root: {root!r} is not a folder.')
    train, val = (find_split(path, name) for name in SPLITS)
    # CocoDataset and CocoMetric number the classes in the order of the file.
    if tuple(x for x in val.classes if x in train.classes) != train.classes:
        raise ConfigError(
            f'--data-root: {val.ann_file} in {root!r} must have the '
            f'categories of {train.ann_file} in the same order '
            f'{train.classes}, got {val.classes}.'
        )
    return CocoFolder(path, train, val)


def find_split(root: Path, name: str) -> CocoSplit:
    """Find the split ``'train'`` or ``'val'``.

    Raises:
        ConfigError: See `find_coco_folder`.
    """
    files = sorted((root / 'annotations').glob(f'*{name}*.json'))
    files = files or sorted(root.glob(f'{name}*/*.json'))
    instances = [x for x in files if x.name.startswith('instances')]
    files = instances or files
    if len(files) != 1:
        names = ', '.join(str(x.relative_to(root)) for x in files[:5])
        names = names or 'none'
        raise ConfigError(
            f'--data-root: {str(root)!r} must have exactly one '
            f'annotations/*{name}*.json or {name}*/*.json, got {names}, or '
            'be in YOLO (data.yaml) or Pascal VOC format (JPEGImages/). '
            'Otherwise set the dataset in the config.'
        )
    classes, has_masks, images = read_annotations(files[0], name == 'train')
    candidates = [
        *sorted(root.glob(f'{name}*')),
        *sorted((root / 'images').glob(f'{name}*')),
        root / 'images',
        root,
    ]
    folders = [x for x in candidates if x.is_dir()]
    sample = images[:: max(len(images) // MAX_SAMPLE, 1)]
    folder = max(
        folders, key=lambda x: sum((x / image).is_file() for image in sample)
    )
    if folder == root and not any((root / x).is_file() for x in sample):
        names = ', '.join(str(x) for x in folders)
        raise ConfigError(
            f'--data-root: no image of {str(files[0])!r} is in {names}.'
        )
    return CocoSplit(
        str(files[0].relative_to(root)),
        '' if folder == root else f'{folder.relative_to(root)}/',
        classes,
        has_masks,
    )


def is_trained_on(annotation: dict) -> bool:
    """Return whether CocoDataset loads an annotation for training."""
    if annotation.get('ignore'):
        return False
    *_, width, height = annotation['bbox']
    return annotation['area'] > 0 and min(width, height) >= 1


def read_annotations(
    path: Path, is_train: bool
) -> Tuple[Tuple[str, ...], bool, List[str]]:
    """Return classes, whether all objects have masks, and image files.

    Args:
        path (Path): The file.
        is_train (bool): Whether annotations that training ignores need no
            masks; the evaluation reads all masks.

    Raises:
        ConfigError: If the file is not in COCO format.
    """
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
        classes = tuple(x['name'] for x in content['categories'])
        annotations = content.get('annotations', [])
        if is_train:
            annotations = [x for x in annotations if is_trained_on(x)]
        with_mask = [x for x in annotations if x.get('segmentation')]
        has_masks = 0 < len(with_mask) == len(annotations)
        images = [x['file_name'] for x in content['images']]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f'--data-root: {str(path)!r} is not in COCO format: '
            f'{type(error).__name__}: {error}.'
        ) from error
    if not classes:
        raise ConfigError(f'--data-root: {str(path)!r} has no categories.')
    return classes, has_masks, images
