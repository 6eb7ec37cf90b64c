"""Search for the splits and classes of an image classification dataset."""

from pathlib import Path
from typing import NamedTuple, Tuple

from mmfmkt.utils import ConfigError

# Names of the validation split.
VAL_NAMES = ('val', 'valid', 'validation', 'test')


class ClassFolder(NamedTuple):
    """Dataset whose images are in a folder for each class.

    Attributes:
        root (Path): Root folder.
        train (str): Folder of the training split, relative to the root.
        val (str): Folder of the validation split, relative to the root.
        classes (tuple[str]): Names of the class folders.
    """

    root: Path
    train: str
    val: str
    classes: Tuple[str, ...]


def find_class_folder(root: str) -> ClassFolder:
    """Find the splits ``train/<class>/`` and ``val/<class>/`` of a dataset.

    Args:
        root (str): Root folder.

    Raises:
        ConfigError: If a split is missing, or the splits have other classes.
    """
    path = Path(root).resolve()
    val = next((x for x in VAL_NAMES if (path / x).is_dir()), VAL_NAMES[0])
    train_classes, val_classes = (
        tuple(sorted(x.name for x in (path / split).glob('*') if x.is_dir()))
        for split in ('train', val)
    )
    # MMPretrain numbers the classes of a split in the order of its folders.
    if not train_classes or train_classes != val_classes:
        raise ConfigError(
            f'--data-root: {root!r} must have a folder for each class in '
            f'train/ and in {"/, ".join(VAL_NAMES)}/, got {train_classes} and '
            f'{val_classes}.'
        )
    return ClassFolder(path, 'train', val, train_classes)
