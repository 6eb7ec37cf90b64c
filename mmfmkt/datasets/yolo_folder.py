"""Reading of detection datasets in YOLO format."""

import glob
import os.path as osp
from pathlib import Path
from typing import Dict, Iterator, List, Sequence, Tuple

import yaml

from mmfmkt.utils import ConfigError

from .annotated_image import AnnotatedImage, Instance, image_size
from .coco_folder import SPLITS
from .unlabelled_images import SUFFIXES


def read_yolo(
    root: Path,
) -> Tuple[List[str], Dict[str, List[AnnotatedImage]]]:
    """Read classes and images of a dataset in YOLO format.

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
        entries = {x: config[x] for x in SPLITS}
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise ConfigError(
            f'--data-root: {str(file)!r} must have train, val and names (a '
            'list, or a dict with the keys 0, 1, ...), got '
            f'{type(error).__name__}: {" ".join(str(error).split())}.'
        ) from error
    base = root / str(config.get('path') or '')
    images: Dict[str, List[AnnotatedImage]] = {x: [] for x in SPLITS}
    for split, value in entries.items():
        for entry in value if isinstance(value, list) else [value]:
            for path in yolo_images(str(entry), base, root, split):
                size = image_size(path)
                instances = list(
                    yolo_instances(path, size, classes, 'kpt_shape' in config)
                )
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
        root (Path): Folder of ``data.yaml``, searched after ``base``.
        split (str): Key of ``data.yaml``, for the error.
    """
    # Roboflow exports '../train/images' for the folder 'train/images'.
    candidates = [
        folder / x
        for folder in (base, root)
        for x in (entry, entry.removeprefix('../'))
    ]
    source = next((x for x in candidates if x.exists()), None)
    if source is None:
        raise ConfigError(
            f'--data-root: {str(root / "data.yaml")!r} names {entry!r} for '
            f'{split}, which does not exist in {str(base)!r} or '
            f'{str(root)!r}.'
        )
    if source.is_dir():
        # Unlike Path.rglob, this skips hidden files and folders.
        pattern = osp.join(glob.escape(str(source)), '**', '*')
        paths = sorted(
            Path(x)
            for x in glob.iglob(pattern, recursive=True)
            if x.lower().endswith(SUFFIXES)
        )
    else:
        paths = [
            source.parent / x if (source.parent / x).exists() else base / x
            for x in read_lines(source)
        ]
    yield from (Path(osp.abspath(x)) for x in paths)


def read_lines(path: Path) -> List[str]:
    """Return the lines of a text file without empty ones."""
    lines = path.read_text('utf-8').splitlines()
    return [line.strip() for line in lines if line.strip()]


def label_file(image: Path) -> Path:
    """Return the label file of an image.

    Its path has ``labels`` instead of the last folder ``images``.
    """
    front, separator, back = image.as_posix().rpartition('/images/')
    folder = '/labels/' if separator else ''
    return Path(front + folder + back).with_suffix('.txt')


def yolo_instances(
    image: Path,
    size: Tuple[int, int],
    classes: Sequence[str],
    has_keypoints: bool,
) -> Iterator[Instance]:
    """Yield the objects of an image from its label file, if it has one.

    Args:
        image (Path): The image.
        size (tuple[int]): Width and height in pixels.
        classes (Sequence[str]): Names of the classes.
        has_keypoints (bool): Whether keypoints, which are ignored, follow a
            box.
    """
    file = label_file(image)
    for line in read_lines(file) if file.is_file() else []:
        location = f'--data-root: {str(file)!r}, line {line!r}'
        try:
            index, *values = map(float, line.split())
            values = values[:4] if has_keypoints else values
            valid = len(values) >= 4 and len(values) % 2 == 0
            # Rounding gives values slightly above 1; pixels are far above.
            valid = valid and max(values) < 1.5
        except ValueError:
            valid = False
        if not valid:
            raise ConfigError(
                f'{location}: must be a class and 4 numbers (center x, '
                'center y, width, height) or x and y of 3 or more corners, '
                'relative to the image.'
            )
        if not 0 <= index < len(classes):
            raise ConfigError(
                f'{location}: unknown class; data.yaml names the classes '
                f'0 to {len(classes) - 1}.'
            )
        name = classes[int(index)]
        pixels = [x * size[i % 2] for i, x in enumerate(values)]
        if len(values) == 4:
            x, y, width, height = pixels
            yield Instance(
                name, (x - width / 2, y - height / 2, width, height)
            )
        else:
            left, top = min(pixels[::2]), min(pixels[1::2])
            width, height = max(pixels[::2]) - left, max(pixels[1::2]) - top
            yield Instance(name, (left, top, width, height), pixels)
