"""Folder and manifest of a shapes dataset."""

import json
from pathlib import Path
from typing import Annotated, Any, List, Sequence

from pydantic import Field

from mmfmkt.models.bounds import Bound
from mmfmkt.utils.files import write_atomically
from mmfmkt.utils.schema import NonNegativeInt, PositiveInt, check_keys

from ..coco_folder import SPLITS

# Increase this number whenever the drawn images change.
VERSION = 1
MANIFEST = 'shapes.json'
Side = Annotated[int, Bound('ge', 32)]
Diameter = Annotated[float, Bound('gt', 0), Bound('le', 1)]
PAIR = Field(min_length=2, max_length=2)
# Parameters of `make_shapes` in the manifest.
PARAMETERS = dict(
    num_train=PositiveInt,
    num_val=PositiveInt,
    image_size=Annotated[Sequence[Side], PAIR],
    seed=NonNegativeInt,
    object_size=Annotated[Sequence[Diameter], PAIR],
)


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
    """Check the parameters and return the content of the manifest."""
    check_keys(params, PARAMETERS, 'make_shapes', PARAMETERS)
    params['image_size'] = list(params['image_size'])
    params['object_size'] = [float(x) for x in params['object_size']]
    return dict(version=VERSION, **params)


def prepare_folder(root: Path, params: dict, overwrite: bool) -> bool:
    """Write the manifest; with ``overwrite``, delete the previous dataset.

    Returns:
        bool: Whether images or annotation files are missing.

    Raises:
        ValueError: If the folder has other content.
    """
    manifest = root / MANIFEST
    if manifest.is_file():
        previous = json.loads(manifest.read_text())
        # The manifest of another program must not decide what is deleted.
        if previous.keys() != params.keys():
            raise ValueError(
                f'{manifest} is not a manifest of shapes; use another root or '
                'delete the folder.'
            )
        if previous != params and not overwrite:
            raise ValueError(
                f'{root} has shapes with the parameters {previous}, but '
                f'{params} were requested; use another root, or '
                'overwrite=True (--overwrite) to replace them.'
            )
        for path in files_of(root, previous) if overwrite else ():
            path.unlink(missing_ok=True)
    elif root.is_file() or root.is_dir() and any(root.iterdir()):
        raise ValueError(
            f'{root} is not an empty folder and was not made by make_shapes; '
            'use another root.'
        )
    if overwrite or not manifest.is_file():
        write_atomically(manifest, json.dumps(params))
    return not all(path.exists() for path in files_of(root, params))
