"""Layout of a folder in COCO format."""

import json
from pathlib import Path
from typing import List, NamedTuple, Tuple

from mmfmkt.utils import ConfigError


class CocoSplit(NamedTuple):
    """One split of a data set; paths are relative to its root.

    Attributes:
        ann_file (str): Annotation file.
        images (str): Folder of the images.
        classes (tuple[str]): Names of the categories, in their order.
        has_masks (bool): Whether annotations have masks beside their boxes.
    """

    ann_file: str
    images: str
    classes: Tuple[str, ...]
    has_masks: bool


class CocoFolder(NamedTuple):
    """A data set in COCO format.

    Attributes:
        root (Path): Its folder.
        train (CocoSplit): Split for training.
        val (CocoSplit): Split for evaluation.
    """

    root: Path
    train: CocoSplit
    val: CocoSplit

    @property
    def classes(self) -> Tuple[str, ...]:
        """Names of the classes that are trained, in their order."""
        return self.train.classes


def find_coco_folder(root: str) -> CocoFolder:
    """Find annotation files, image folders and classes below a folder.

    Looks for ``annotations/*train*.json`` with a folder of a name that
    begins with ``train``, and likewise for ``val``.

    Args:
        root (str): The folder.

    Raises:
        ConfigError: If something is missing, not unique or not readable.
    """
    path = Path(root).resolve()
    if not path.is_dir():
        raise ConfigError(f'--data-root: {root!r} is no folder.')
    return CocoFolder(path, find_split(path, 'train'), find_split(path, 'val'))


def find_split(root: Path, name: str) -> CocoSplit:
    """Find a split by its name, ``'train'`` or ``'val'``."""
    files = sorted((root / 'annotations').glob(f'*{name}*.json'))
    instances = [x for x in files if x.name.startswith('instances')]
    folders = sorted(x for x in root.glob(f'{name}*') if x.is_dir())
    ann_file = only(instances or files, f'annotations/*{name}*.json', root)
    images = only(folders, f'{name}*/', root) + '/'
    return CocoSplit(ann_file, images, *read_annotations(root / ann_file))


def only(found: List[Path], pattern: str, root: Path) -> str:
    """Return the one path that was found, relative to the root.

    Raises:
        ConfigError: If there is none, or more than one.
    """
    if len(found) != 1:
        names = ', '.join(x.name for x in found) or 'none'
        raise ConfigError(
            f'--data-root: {str(root)!r} must hold one {pattern}, but has '
            f'{names}; set the keys of the data set in the config instead.'
        )
    return str(found[0].relative_to(root))


def read_annotations(path: Path) -> Tuple[Tuple[str, ...], bool]:
    """Return the classes of an annotation file, and whether it has masks.

    Raises:
        ConfigError: If the file is not in COCO format.
    """
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
        classes = tuple(x['name'] for x in content['categories'])
        annotations = content.get('annotations', [])
        has_masks = any(x.get('segmentation') for x in annotations)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f'--data-root: {str(path)!r} is not in COCO format: '
            f'{type(error).__name__}: {error}.'
        ) from error
    if not classes:
        raise ConfigError(f'--data-root: {str(path)!r} names no categories.')
    return classes, has_masks
