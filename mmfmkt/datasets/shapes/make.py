"""Creation of the shapes dataset in COCO format."""

import json
from pathlib import Path
from shutil import rmtree
from typing import List, Sequence, Union

import cv2
import numpy as np
from rich.progress import track

from mmfmkt.utils.files import write_atomically

from ..coco_folder import SPLITS
from .annotation import annotate
from .classes import SHAPES_CLASSES
from .paint import paint_scene
from .scene import compose_scene

LICENSE = dict(
    id=1,
    name='Apache License 2.0',
    url='https://www.apache.org/licenses/LICENSE-2.0',
)
# Increase this number whenever the drawn images change.
VERSION = 1
MANIFEST = 'shapes.json'
OBJECT_SIZE = (0.04, 0.5)  # diameter relative to the short image side


def write_split(root: Path, split: str, params: dict) -> None:
    """Draw the missing images of a split and write its annotations."""
    size = tuple(params['image_size'])
    images: List[dict] = []
    annotations: List[dict] = []
    numbers = range(1, params[f'num_{split}'] + 1)
    for number in track(numbers, description=f'Drawing {split} images'):
        rng = np.random.default_rng(
            (params['seed'], SPLITS.index(split), number)
        )
        scene = compose_scene(size, tuple(params['object_size']), rng)
        path = root / split / f'{number:06d}.jpg'
        quality = (cv2.IMWRITE_JPEG_QUALITY, 92)
        _, encoded = cv2.imencode('.jpg', paint_scene(scene, rng), quality)
        write_atomically(path, encoded.tobytes())
        images.append(
            dict(id=number, file_name=path.name, width=size[0], height=size[1])
        )
        for piece in scene.objects:
            ids = dict(id=len(annotations) + 1, image_id=number)
            annotations.append({**ids, **annotate(piece, size)})
    categories = [
        dict(id=i, name=name, supercategory='shape')
        for i, name in enumerate(SHAPES_CLASSES, 1)
    ]
    content = dict(
        info=dict(description=f'mmfmkt shapes, {split}', **params),
        licenses=[LICENSE],
        images=images,
        annotations=annotations,
        categories=categories,
    )
    path = root / 'annotations' / f'instances_{split}.json'
    write_atomically(path, json.dumps(content))


def make_shapes(
    root: Union[str, Path],
    num_train: int = 600,
    num_val: int = 200,
    image_size: Sequence[int] = (160, 160),
    seed: int = 0,
    object_size: Sequence[float] = OBJECT_SIZE,
) -> Path:
    """Create the shapes dataset, unless it exists.

    Writes the manifest ``shapes.json`` with the parameters, the images
    ``{train,val}/000001.jpg``, ..., and
    ``annotations/instances_{train,val}.json``. They are written to
    ``{root}.part``, which is renamed when it is complete. Only one process
    may write to a root at a time.

    Each image has 1 to 8 objects. Annotations are amodal: boxes, areas and
    polygons include the parts that are hidden by other objects, clipped to
    the image. At least 40 % of each object's area is visible.

    For given sizes, an image depends only on seed, split and image number, so
    a larger dataset starts with the images of a smaller one.

    Args:
        root (str | Path): Output folder; it is created, or empty.
        num_train (int): Number of training images.
        num_val (int): Number of validation images.
        image_size (Sequence[int]): Width and height in pixels, at least 32.
            All sizes scale with the short side.
        seed (int): Random seed, not negative.
        object_size (Sequence[float]): Smallest and largest diameter of
            objects relative to the short image side.

    Returns:
        Path: The root.

    Raises:
        ValueError: If a parameter is invalid, or if the root has shapes with
            other parameters or other files.
    """
    smallest, largest = object_size
    if min(num_train, num_val) < 1 or min(image_size) < 32:
        raise ValueError(
            'num_train and num_val must be at least 1, image_size at least '
            f'32, got {num_train}, {num_val} and {image_size}.'
        )
    if not 0 < smallest <= largest <= 1:
        raise ValueError(
            f'object_size must be ascending in (0, 1], got {object_size}.'
        )
    root = Path(root)
    params = dict(
        version=VERSION,
        num_train=num_train,
        num_val=num_val,
        image_size=list(image_size),
        seed=seed,
        object_size=list(object_size),
    )
    manifest = root / MANIFEST
    if manifest.is_file() and json.loads(manifest.read_text()) == params:
        return root
    if root.is_file() or root.is_dir() and any(root.iterdir()):
        raise ValueError(
            f'{root} exists and has no shapes with the parameters '
            f'{params}; delete it, or use another root.'
        )
    unfinished = root.with_name(f'{root.name}.part')
    rmtree(unfinished, ignore_errors=True)
    for split in SPLITS:
        write_split(unfinished, split, params)
    write_atomically(unfinished / MANIFEST, json.dumps(params))
    unfinished.rename(root)
    return root
