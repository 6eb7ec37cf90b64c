"""Finding out how a folder in COCO format is laid out."""

import json
from pathlib import Path
from typing import List, NamedTuple

from mmfmkt.utils import ConfigError


class CocoSplit(NamedTuple):
    """One split of a data set, relative to its root.

    Attributes:
        ann_file (str): Annotation file.
        images (str): Folder of the images.
    """

    ann_file: str
    images: str


class CocoFolder(NamedTuple):
    """A data set in COCO format.

    Attributes:
        root (Path): Its folder.
        train (CocoSplit): What is trained on.
        val (CocoSplit): What is evaluated on.
        classes (tuple[str]): Names of the classes, in their order.
    """

    root: Path
    train: CocoSplit
    val: CocoSplit
    classes: tuple


def find_coco_folder(root: str) -> CocoFolder:
    """Find annotation files, image folders and classes below a folder.

    Looks for ``annotations/*train*.json`` with a folder of a name that
    begins with ``train``, and likewise for ``val``.

    Args:
        root (str): The folder.

    Raises:
        ConfigError: If something is missing or not unique.
    """
    path = Path(root).resolve()
    if not path.is_dir():
        raise ConfigError(f'--data-root: {root!r} is no folder.')
    splits = [find_split(path, name) for name in ('train', 'val')]
    classes = read_categories(str(path / splits[0].ann_file))
    if not classes:
        raise ConfigError(
            f'--data-root: {splits[0].ann_file} in {root!r} '
            'names no categories.'
        )
    return CocoFolder(path, *splits, tuple(classes))


def find_split(root: Path, name: str) -> CocoSplit:
    """Find a split by its name, ``'train'`` or ``'val'``."""
    files = sorted((root / 'annotations').glob(f'*{name}*.json'))
    instances = [x for x in files if x.name.startswith('instances')]
    folders = sorted(x for x in root.glob(f'{name}*') if x.is_dir())
    return CocoSplit(
        only(instances or files, f'annotations/*{name}*.json', root),
        only(folders, f'{name}*/', root) + '/',
    )


def read_categories(ann_file: str) -> List[str]:
    """Return the category names of a COCO file, none where it has none."""
    try:
        with open(ann_file, encoding='utf-8') as file:
            return [x['name'] for x in json.load(file)['categories']]
    except (OSError, ValueError, TypeError, KeyError):
        return []


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
