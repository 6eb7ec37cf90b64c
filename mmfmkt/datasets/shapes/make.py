"""Drawing a whole data set, in COCO format."""

from pathlib import Path
from typing import List, Sequence, Union

import cv2
import numpy as np
from rich.progress import track

from mmfmkt.utils.files import write_atomically

from .annotation import annotate
from .classes import SHAPES_CLASSES
from .folder import (
    MANIFEST,
    PARTIAL,
    SPLITS,
    annotation_file,
    check_parameters,
    prepare_folder,
    write_json,
)
from .paint import paint_scene
from .scene import compose

LICENSE = dict(
    id=1,
    name='Apache License 2.0',
    url='https://www.apache.org/licenses/LICENSE-2.0',
)
OBJECT_SIZE = (0.04, 0.5)  # diameter over the short image side


def write_split(root: Path, split: str, params: dict) -> None:
    """Draw one split's images where they are missing, then its annotations."""
    size = tuple(params['image_size'])
    images: List[dict] = []
    annotations: List[dict] = []
    numbers = range(1, params[f'num_{split}'] + 1)
    for number in track(numbers, description=f'Drawing {split} images'):
        rng = np.random.default_rng(
            (params['seed'], SPLITS.index(split), number)
        )
        scene = compose(size, tuple(params['object_size']), rng)
        path = root / split / f'{number:06d}.jpg'
        if not path.exists():
            quality = (cv2.IMWRITE_JPEG_QUALITY, 92)
            _, code = cv2.imencode('.jpg', paint_scene(scene, rng), quality)
            write_atomically(path, code.tobytes())
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
    write_json(annotation_file(root, split), content)


def make_shapes(
    root: Union[str, Path],
    num_train: int = 600,
    num_val: int = 200,
    image_size: Sequence[int] = (160, 160),
    seed: int = 0,
    object_size: Sequence[float] = OBJECT_SIZE,
    overwrite: bool = False,
) -> Path:
    """Draw the shapes data set, unless it is already there.

    Writes ``annotations/instances_{train,val}.json``,
    ``{train,val}/000001.jpg`` and so on, and last of all the manifest
    ``shapes.json`` with the parameters. An interrupted call is continued by
    the next one with the same parameters: images already drawn are kept. One
    process at a time may write to a root.

    Each image has 1 to 8 objects. Boxes, areas and polygons are those of the
    whole shape cut at the image border (amodal): also the part hidden behind
    other objects counts. At least 40 % of every object's area is visible;
    what would be hidden more is not drawn.

    Every image depends on the seed, its split and its number alone, so a
    larger set begins with the images of a smaller one.

    Args:
        root (str | Path): Folder to write to, made if missing.
        num_train (int): Number of training images.
        num_val (int): Number of validation images.
        image_size (Sequence[int]): Width and height in pixels, at least 32.
            Everything drawn scales with the short side.
        seed (int): Not negative. Other seeds give other images.
        object_size (Sequence[float]): Smallest and largest diameter of an
            object over the short image side.
        overwrite (bool): Replace the shapes that an earlier call drew in
            this root. Other files are left alone.

    Returns:
        Path: The root.

    Raises:
        ValueError: If a parameter is out of its range, if the root holds
            shapes drawn with other parameters, or if it holds anything else.
    """
    root = Path(root)
    params = check_parameters(
        num_train, num_val, image_size, seed, object_size
    )
    if prepare_folder(root, params, overwrite):
        for split in SPLITS:
            write_split(root, split, params)
        write_json(root / MANIFEST, params, 2)
        (root / PARTIAL).unlink(missing_ok=True)
    return root
