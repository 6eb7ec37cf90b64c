"""Folder and manifest of a shapes dataset."""

import json
import os
from pathlib import Path
from typing import Annotated, Any, List, Optional, Sequence

from pydantic import Field

from mmfmkt.models.bounds import Bound
from mmfmkt.utils import ConfigError
from mmfmkt.utils.files import write_atomically
from mmfmkt.utils.schema import NonNegativeInt, PositiveInt, check_keys

# Version of the drawn images; increase it with every change of them.
VERSION = 1
MANIFEST = 'shapes.json'
PARTIAL = 'shapes.partial.json'
SPLITS = ('train', 'val')
Side = Annotated[int, Bound('ge', 32)]
Diameter = Annotated[float, Bound('gt', 0), Bound('le', 1)]
PAIR = Field(min_length=2, max_length=2)
PARAMETERS = dict(
    num_train=PositiveInt,
    num_val=PositiveInt,
    image_size=Annotated[Sequence[Side], PAIR],
    seed=NonNegativeInt,
    object_size=Annotated[Sequence[Diameter], PAIR],
)


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


def check_parameters(**params: Any) -> dict:
    """Check the parameters and return them as in the manifest."""
    check_keys(params, PARAMETERS, 'make_shapes', PARAMETERS)
    small, large = params['object_size']
    if small > large:
        raise ConfigError(
            'make_shapes.object_size must be the smallest and the largest '
            f'diameter, got {small} and {large}.'
        )
    params['image_size'] = list(params['image_size'])
    params['object_size'] = [float(small), float(large)]
    return dict(version=VERSION, **params)


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
