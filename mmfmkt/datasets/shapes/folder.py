"""Folder and manifest of a shapes dataset."""

import json
import os
from pathlib import Path
from typing import List, Optional, Sequence

import numpy as np

from mmfmkt.utils.files import write_atomically

# Version of the drawn images; increase it with every change of them.
VERSION = 1
MANIFEST = 'shapes.json'
PARTIAL = 'shapes.partial.json'
SPLITS = ('train', 'val')


def write_json(
    path: Path, content: dict, indent: Optional[int] = None
) -> None:
    """Write a JSON file atomically."""
    write_atomically(path, json.dumps(content, indent=indent))


def annotation_file(root: Path, split: str) -> Path:
    """Return the annotation file of a split."""
    return root / 'annotations' / f'instances_{split}.json'


def files_of(root: Path, params: dict) -> List[Path]:
    """Return the images and annotation files of a dataset."""
    return [
        path
        for split in SPLITS
        for path in (
            annotation_file(root, split),
            *(
                root / split / f'{number:06d}.jpg'
                for number in range(1, params[f'num_{split}'] + 1)
            ),
        )
    ]


def check_parameters(
    num_train: int,
    num_val: int,
    image_size: Sequence[int],
    seed: int,
    object_size: Sequence[float],
) -> dict:
    """Check the parameters and return them as in the manifest."""
    try:
        width, height = image_size
    except (TypeError, ValueError):
        raise ValueError(
            'image_size must be (width, height) in pixels, '
            f'got {image_size!r}.'
        ) from None
    try:
        small, large = map(float, object_size)
    except (TypeError, ValueError):
        small = large = 0.0
    if not 0 < small <= large <= 1:
        raise ValueError(
            'object_size must be the smallest and largest diameter relative '
            'to the short image side, 0 < min <= max <= 1, got '
            f'{object_size!r}.'
        )
    for name, value, minimum in (
        ('num_train', num_train, 1),
        ('num_val', num_val, 1),
        ('image_size (width)', width, 32),
        ('image_size (height)', height, 32),
        ('seed', seed, 0),
    ):
        if not isinstance(value, (int, np.integer)) or value < minimum:
            raise ValueError(
                f'{name} must be an integer of at least {minimum}, '
                f'got {value!r}.'
            )
    return dict(
        version=VERSION,
        num_train=int(num_train),
        num_val=int(num_val),
        image_size=[int(width), int(height)],
        seed=int(seed),
        object_size=[small, large],
    )


def read_manifest(path: Path) -> Optional[dict]:
    """Return the parameters in a manifest, or None if it does not exist."""
    if not path.is_file():
        return None
    try:
        params = json.loads(path.read_text())
        # The parameters determine which files are deleted.
        check_parameters(**{k: x for k, x in params.items() if k != 'version'})
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f'{path} is not a manifest of shapes; use another root or delete '
            'the folder.'
        ) from error
    return params


def prepare_folder(root: Path, params: dict, overwrite: bool) -> bool:
    """Prepare the folder for drawing.

    Returns:
        bool: Whether images are left to draw.

    Raises:
        ValueError: If the folder has other content.
    """
    manifest, partial = root / MANIFEST, root / PARTIAL
    if root.exists() and not root.is_dir():
        raise ValueError(f'{root} is a file; root must be a folder.')
    root.mkdir(parents=True, exist_ok=True)
    finished = read_manifest(manifest)
    found = finished or read_manifest(partial)
    if found is None:
        others = {entry.name for entry in root.iterdir()}
        others.discard(f'{PARTIAL}.part')
        if others:
            raise ValueError(
                f'{root} is not empty and was not made by make_shapes; '
                'use another root.'
            )
    elif found != params and not overwrite:
        state = 'holds' if finished else 'holds an unfinished set of'
        raise ValueError(
            f'{root} {state} shapes with the parameters {found}, requested '
            f'were {params}; use another root, or overwrite=True '
            '(--overwrite) to replace them.'
        )
    files = files_of(root, found or params)
    if finished and not overwrite and all(x.exists() for x in files):
        return False
    if found and overwrite:
        # From here on the dataset is incomplete.
        if finished:
            os.replace(manifest, partial)
        for path in files:
            path.unlink(missing_ok=True)
    write_json(partial, params, 2)
    return True
