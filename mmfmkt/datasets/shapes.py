"""A detection data set of drawn shapes, written once as COCO files.

It needs no download, is the same for the same seed, and is meant to be hard
enough that a large detector beats a small one: look-alike classes, sizes from
4 % to 50 % of the short image side, occlusion, texture, clutter, uneven
contrast, blur and noise.
"""

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Tuple, Union

import cv2
import numpy as np
from rich.progress import track

SHAPES_CLASSES = ('circle', 'ring', 'square', 'pentagon', 'hexagon', 'star')
SHAPES_PALETTE = [
    (230, 25, 75),
    (245, 130, 48),
    (60, 180, 75),
    (0, 130, 200),
    (145, 30, 180),
    (240, 220, 30),
]
SHAPES_METAINFO = dict(classes=SHAPES_CLASSES, palette=SHAPES_PALETTE)

# Part of the manifest: raise it with every change of what is drawn.
_VERSION = 1
_MANIFEST = 'shapes.json'
_PARTIAL = 'shapes.partial.json'
_SPLITS = ('train', 'val')

_MAX_OBJECTS = 8
_OBJECT_SIZE = (0.04, 0.5)  # diameter over the short image side
_MIN_DIAMETER = 4.0  # pixels, keeps the smallest shapes drawable
_MIN_SIDE = 2.0  # pixels of a box left inside the image
_MIN_VISIBLE = 0.4  # of a shape's area, after occlusion and the image border
_TRIES = 30  # places tried for an object before it is left out
_OVERSAMPLING = 4  # sub-pixels per pixel and axis when edges are smoothed


@dataclass
class _Piece:
    """Something drawn: a shape or a piece of clutter, in image pixels.

    Attributes:
        contours (list[ndarray]): Float arrays of shape (N, 2). Of a filled
            piece the first is the outline and a second one is a hole.
        width (float, optional): Stroke width; None fills the contours.
        label (int, optional): Index into the classes; None is clutter.
        corner (tuple[int]): x and y of the top left pixel of ``alpha``.
        alpha (ndarray): Coverage of each pixel in [0, 1], not cut at the
            image border.
    """

    contours: List[np.ndarray]
    width: Optional[float] = None
    label: Optional[int] = None

    def __post_init__(self):
        points = np.concatenate(self.contours)
        margin = 1 + math.ceil((self.width or 0) / 2)
        low = np.floor(points.min(0)).astype(int) - margin
        high = np.ceil(points.max(0)).astype(int) + margin
        cols, rows = (high - low) * _OVERSAMPLING
        canvas = np.zeros((rows, cols), np.uint8)
        # OpenCV counts from pixel centres and takes 4 fractional bits.
        fixed = [
            np.round(((contour - low) * _OVERSAMPLING - 0.5) * 16).astype(
                np.int32
            )
            for contour in self.contours
        ]
        if self.width is None:
            cv2.fillPoly(canvas, fixed, 255, cv2.LINE_8, shift=4)
        else:
            thickness = max(1, round(self.width * _OVERSAMPLING))
            cv2.polylines(canvas, fixed, False, 255, thickness, shift=4)
        alpha = cv2.resize(
            canvas,
            tuple(int(n) for n in high - low),
            interpolation=cv2.INTER_AREA,
        )
        self.corner = (int(low[0]), int(low[1]))
        self.alpha = alpha.astype(np.float32) / 255

    def windows(self, width: int, height: int) -> Tuple[tuple, tuple]:
        """Index of the piece inside the image, and inside its own alpha."""
        (x, y), (rows, cols) = self.corner, self.alpha.shape
        x1, x2 = np.clip((x, x + cols), 0, width)
        y1, y2 = np.clip((y, y + rows), 0, height)
        return (np.s_[y1:y2, x1:x2], np.s_[y1 - y : y2 - y, x1 - x : x2 - x])


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(rng.uniform(low, high))


def _regular(corners: int, start: float = 0.0) -> np.ndarray:
    """Corners of a regular polygon on the unit circle, shape (corners, 2)."""
    angle = start + np.arange(corners) * (2 * np.pi / corners)
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def _outline(label: int, rng: np.random.Generator) -> List[np.ndarray]:
    """Contours of a class on the unit circle."""
    name = SHAPES_CLASSES[label]
    if name == 'circle':
        return [_regular(48)]
    if name == 'ring':
        return [_regular(48), _regular(48) * _uniform(rng, 0.45, 0.7)]
    if name == 'star':
        radii = np.tile([1.0, _uniform(rng, 0.42, 0.55)], 5)
        return [_regular(10) * radii[:, None]]
    corners = dict(square=4, pentagon=5, hexagon=6)[name]
    return [_regular(corners)]


def _draw_shape(
    label: int, center: np.ndarray, diameter: float, rng: np.random.Generator
) -> _Piece:
    """One object: its class's outline, squeezed a little and turned."""
    turn, axis = rng.uniform(0, 2 * np.pi, 2)
    squeeze = np.array([1.0, _uniform(rng, 0.8, 1.0)])

    def rotation(angle):
        cos, sin = math.cos(angle), math.sin(angle)
        return np.array([[cos, -sin], [sin, cos]])

    # Squeezed along an axis that has nothing to do with the corners.
    matrix = rotation(axis) @ (squeeze[:, None] * rotation(turn))
    contours = [
        contour @ matrix.T * (diameter / 2) + center
        for contour in _outline(label, rng)
    ]
    return _Piece(contours, label=label)


def _draw_line(
    size: np.ndarray, unit: float, rng: np.random.Generator
) -> _Piece:
    """Clutter: a long, slightly bent line."""
    ends = rng.uniform(0, 1, (2, 2)) * size
    bend = ends.mean(0) + rng.normal(0, 0.08, 2) * size
    t = np.linspace(0, 1, 12)[:, None]
    points = (1 - t) ** 2 * ends[0] + 2 * t * (1 - t) * bend + t**2 * ends[1]
    return _Piece([points], width=unit * _uniform(rng, 0.6, 2.2))


def _draw_glyph(
    size: np.ndarray, unit: float, rng: np.random.Generator
) -> _Piece:
    """Clutter: two to four strokes that could be a letter."""
    center = rng.uniform(0, 1, 2) * size
    extent = unit * _uniform(rng, 4, 16)
    strokes = []
    for _ in range(rng.integers(2, 5)):
        if rng.random() < 0.3:
            # Short of a closed curve, which would be a ring.
            begin, sweep = rng.uniform(0, 6.28), rng.uniform(1.5, 4.0)
            angle = np.linspace(begin, begin + sweep, 12)
            stroke = np.stack([np.cos(angle), np.sin(angle)], 1) * 0.5
        else:
            stroke = rng.integers(-1, 2, (2, 2)).astype(float)
        strokes.append(stroke * extent / 2 + center)
    return _Piece(strokes, width=unit * _uniform(rng, 0.8, 2.4))


def _draw_blob(
    size: np.ndarray, unit: float, rng: np.random.Generator
) -> _Piece:
    """Clutter: a filled, wavy closed curve, never near a circle."""
    center = rng.uniform(0, 1, 2) * size
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    radius = np.ones_like(angle)
    for wave in (2, 3, 4):
        radius += _uniform(rng, 0.12, 0.28) * np.cos(
            wave * angle + _uniform(rng, 0, 2 * np.pi)
        )
    ray = np.stack([np.cos(angle), np.sin(angle)], 1)
    radius *= unit * math.exp(_uniform(rng, math.log(3), math.log(22)))
    return _Piece([ray * radius[:, None] + center])


def _draw_clutter(
    count: int,
    kinds: Sequence[Callable[..., _Piece]],
    size: np.ndarray,
    unit: float,
    rng: np.random.Generator,
) -> List[_Piece]:
    return [
        kinds[rng.integers(len(kinds))](size, unit, rng) for _ in range(count)
    ]


@dataclass
class _Scene:
    """What an image shows, before any colour is chosen.

    Attributes:
        size (tuple[int]): Width and height in pixels.
        pieces (list[_Piece]): Front to back; those with a label are the
            objects, all of them annotated.
        visible (list[float]): Per object, the share of its area that is
            neither hidden nor outside the image.
    """

    size: Tuple[int, int]
    pieces: List[_Piece]
    visible: List[float]

    @property
    def objects(self) -> List[_Piece]:
        return [piece for piece in self.pieces if piece.label is not None]


def _place_object(
    object_size: Tuple[float, float],
    free: np.ndarray,
    placed: List[_Piece],
    rng: np.random.Generator,
) -> Optional[Tuple[_Piece, float]]:
    """Find a place for one more object behind those already there.

    Args:
        object_size (tuple[float]): Smallest and largest diameter over the
            short image side.
        free (ndarray): Share of each pixel not yet covered, shape (H, W).
        placed (list[_Piece]): The objects in front.
        rng (Generator): Source of all choices.

    Returns:
        tuple, optional: The object and its visible share; None if every
        place tried hides too much of it.
    """
    height, width = free.shape
    label = int(rng.integers(len(SHAPES_CLASSES)))
    small, large = (side * min(width, height) for side in object_size)
    # Fewer tiny ones than log-uniform, where every third would be one that
    # a network trained for minutes cannot find.
    diameter = small * (large / small) ** (rng.random() ** 0.4)
    diameter = max(diameter, _MIN_DIAMETER)
    for _ in range(_TRIES):
        center = rng.uniform(0, 1, 2) * (width, height)
        if placed and rng.random() < 0.35:
            # Beside an object in front: occlusion, not left to chance.
            other = placed[rng.integers(len(placed))].contours[0]
            reach = np.ptp(other, 0).max() / 2 + diameter / 2
            offset = _regular(1, _uniform(rng, 0, 2 * np.pi))[0]
            center = other.mean(0) + offset * reach * _uniform(rng, 0.5, 1)
        piece = _draw_shape(label, center, diameter, rng)
        box = _box(piece.contours[0], (width, height))
        inside, own = piece.windows(width, height)
        seen = float((piece.alpha[own] * free[inside]).sum())
        visible = seen / float(piece.alpha.sum())
        if visible >= _MIN_VISIBLE and min(box[2:]) >= _MIN_SIDE:
            return piece, visible
    return None


def _compose(
    size: Tuple[int, int],
    object_size: Tuple[float, float],
    rng: np.random.Generator,
) -> _Scene:
    """Choose and place everything in an image.

    Objects are placed front to back, so that what hides an object is known
    when it is placed and an object that would be hidden too much is never
    drawn: everything drawn is annotated.
    """
    width, height = size
    extent, unit = np.array(size, float), min(size) / 160
    front = _draw_clutter(
        int(rng.integers(0, 2)), (_draw_line, _draw_glyph), extent, unit, rng
    )
    free = np.ones((height, width), np.float32)
    for piece in front:
        inside, own = piece.windows(width, height)
        free[inside] *= 1 - piece.alpha[own]
    objects, visible = [], []
    for _ in range(rng.integers(1, _MAX_OBJECTS + 1)):
        found = _place_object(object_size, free, objects, rng)
        if found is None:
            continue
        objects.append(found[0])
        visible.append(found[1])
        inside, own = found[0].windows(width, height)
        free[inside] *= 1 - found[0].alpha[own]
    back = _draw_clutter(
        int(rng.integers(1, 6)),
        (_draw_line, _draw_glyph, _draw_blob),
        extent,
        unit,
        rng,
    )
    return _Scene(size, front + objects + back, visible)


def _pattern(
    rows: int, cols: int, unit: float, rng: np.random.Generator
) -> np.ndarray:
    """A random texture as a field of values in [0, 1], shape (rows, cols)."""
    kind = rng.integers(6)
    if kind == 0:
        return np.zeros((rows, cols), np.float32)
    if kind == 1:
        cell = unit * _uniform(rng, 1.5, 12)
        grid = rng.random(
            (math.ceil(rows / cell) + 1, math.ceil(cols / cell) + 1),
            dtype=np.float32,
        )
        field = cv2.resize(grid, (cols, rows), interpolation=cv2.INTER_CUBIC)
        return np.clip(field, 0, 1)
    y, x = np.mgrid[:rows, :cols].astype(np.float32)
    angle = _uniform(rng, 0, 2 * np.pi)
    along = x * math.cos(angle) + y * math.sin(angle)
    across = y * math.cos(angle) - x * math.sin(angle)
    if kind == 2:
        low, high = along.min(), along.max()
        return (along - low) / max(high - low, 1)
    turns = 2 * np.pi / (unit * math.exp(_uniform(rng, 1.1, 2.8)))
    phase = _uniform(rng, 0, 2 * np.pi)
    if kind == 3:
        wave = np.sin(along * turns + phase)
    elif kind == 4:
        wave = np.sin(along * turns + phase) * np.sin(across * turns)
    else:
        center = rng.uniform(-0.2, 1.2, 2) * (cols, rows)
        radius = np.hypot(x - center[0], y - center[1])
        wave = np.sin(radius * turns + phase)
    # The factor sets how hard the edges are; the clip keeps flat tops.
    return np.clip(0.5 + _uniform(rng, 0.6, 2.5) * wave, 0, 1)


def _muted(colour: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a colour towards grey: bright toys are too easy to find."""
    grey = colour.mean()
    return (grey + (colour - grey) * _uniform(rng, 0.2, 0.9)).astype(
        np.float32
    )


def _texture(
    shape: Tuple[int, int],
    unit: float,
    colour: np.ndarray,
    spread: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Paint of two colours, ``colour`` being its mean, shape (*shape, 3)."""
    field = _pattern(*shape, unit, rng)
    step = _muted(rng.uniform(-spread, spread, 3), rng)
    return colour + (field - field.mean())[..., None] * step


def _distinct_colour(
    behind: np.ndarray, contrast: float, rng: np.random.Generator
) -> np.ndarray:
    """A colour at about ``contrast`` grey levels from another one.

    Args:
        behind (ndarray): The other colour, shape (3, ).
        contrast (float): Mean absolute difference asked for. A cut at black
            or white may lower it.
        rng (Generator): Source of all choices.

    Returns:
        ndarray: The colour, shape (3, ), float32 in [0, 255].
    """
    step = _muted(rng.uniform(-1, 1, 3), rng)
    step *= contrast / np.abs(step).mean()
    options = np.clip([behind + step, behind - step], 0, 255)
    best = np.abs(options - behind).mean(1).argmax()
    return options[best]


def _paint(scene: _Scene, rng: np.random.Generator) -> np.ndarray:
    """Colour a scene, front to back, and photograph it badly.

    Returns:
        ndarray: BGR image, uint8, shape (height, width, 3).
    """
    width, height = scene.size
    unit = min(scene.size) / 160
    background = _texture(
        (height, width),
        unit,
        _muted(rng.uniform(25, 230, 3), rng),
        _uniform(rng, 10, 45),
        rng,
    )
    image = np.zeros((height, width, 3), np.float32)
    free = np.ones((height, width, 1), np.float32)
    for piece in scene.pieces:
        inside, own = piece.windows(width, height)
        cover = piece.alpha[own][..., None]
        if not cover.size:
            continue
        behind = background[inside].mean((0, 1))
        contrast = _uniform(rng, 60, 130)
        colour = _distinct_colour(behind, contrast, rng)
        # A pattern weaker than the contrast leaves the shape readable.
        paint = _texture(cover.shape[:2], unit, colour, 0.5 * contrast, rng)
        image[inside] += free[inside] * cover * paint
        free[inside] *= 1 - cover
    image += free * background

    y, x = np.mgrid[:height, :width].astype(np.float32)
    angle = _uniform(rng, 0, 2 * np.pi)
    ramp = (x / width - 0.5) * math.cos(angle)
    ramp += (y / height - 0.5) * math.sin(angle)
    image *= 1 + _uniform(rng, 0, 0.5) * ramp[..., None]
    blur = unit * _uniform(rng, 0, 0.9)
    if blur > 0.2:
        image = cv2.GaussianBlur(image, (0, 0), blur)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    image += _uniform(rng, 1, 8) * noise
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


def _clip_polygon(points: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    """Cut a polygon at the image border (Sutherland-Hodgman)."""
    for axis, bound, sign in (
        (0, 0, 1),
        (1, 0, 1),
        (0, size[0], -1),
        (1, size[1], -1),
    ):
        kept = []
        for start, stop in zip(np.roll(points, 1, 0), points):
            a, b = sign * (start[axis] - bound), sign * (stop[axis] - bound)
            if a * b < 0:
                kept.append(start + (stop - start) * (a / (a - b)))
            if b >= 0:
                kept.append(stop)
        points = np.array(kept).reshape(-1, 2)
    return points


def _box(outline: np.ndarray, size: Tuple[int, int]) -> Tuple[float, ...]:
    """Tight box (x, y, width, height) of the outline inside the image."""
    points = _clip_polygon(outline, size)
    if not len(points):
        return (0.0, 0.0, 0.0, 0.0)
    low, high = points.min(0), points.max(0)
    return (*low.tolist(), *(high - low).tolist())


def _polygon(piece: _Piece, size: Tuple[int, int]) -> np.ndarray:
    """The shape inside the image as one closed polygon.

    COCO polygons know no holes, so a hole is reached through a cut of no
    width from the outline.
    """
    outline = piece.contours[0]
    if len(piece.contours) > 1:
        hole = piece.contours[1][::-1]
        outline = np.concatenate([outline, outline[:1], hole[-1:], hole])
    return _clip_polygon(outline, size)


def _annotate(piece: _Piece, size: Tuple[int, int]) -> dict:
    """The COCO fields of one object that depend on nothing else."""
    x, y = (polygon := _polygon(piece, size)).T
    area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    return dict(
        category_id=piece.label + 1,
        bbox=[round(v, 2) for v in _box(piece.contours[0], size)],
        area=round(float(area), 2),
        iscrowd=0,
        segmentation=[[round(v, 2) for v in polygon.ravel().tolist()]],
    )


def _write(path: Path, content: bytes) -> None:
    """Write a file so that it is there as a whole or not at all."""
    temporary = path.with_name(f'{path.name}.tmp')
    temporary.write_bytes(content)
    os.replace(temporary, path)


def _write_json(path: Path, content: dict, indent: Optional[int]) -> None:
    _write(path, json.dumps(content, indent=indent).encode())


def _write_split(root: Path, split: str, params: dict) -> None:
    """Draw one split's images where they are missing, then its annotations."""
    size = tuple(params['image_size'])
    images: List[dict] = []
    annotations: List[dict] = []
    (root / split).mkdir(exist_ok=True)
    for number in track(
        range(1, params[f'num_{split}'] + 1),
        description=f'Drawing {split} images',
    ):
        rng = np.random.default_rng(
            (params['seed'], _SPLITS.index(split), number)
        )
        scene = _compose(size, tuple(params['object_size']), rng)
        path = root / split / f'{number:06d}.jpg'
        if not path.exists():
            _, code = cv2.imencode(
                '.jpg', _paint(scene, rng), (cv2.IMWRITE_JPEG_QUALITY, 92)
            )
            _write(path, code.tobytes())
        images.append(
            dict(id=number, file_name=path.name, width=size[0], height=size[1])
        )
        for piece in scene.objects:
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=number,
                    **_annotate(piece, size),
                )
            )
    categories = [
        dict(id=i, name=name, supercategory='shape')
        for i, name in enumerate(SHAPES_CLASSES, 1)
    ]
    content = dict(
        info=dict(description=f'mmfmkt shapes, {split}', **params),
        licenses=[
            dict(
                id=1,
                name='Apache License 2.0',
                url='https://www.apache.org/licenses/LICENSE-2.0',
            )
        ],
        images=images,
        annotations=annotations,
        categories=categories,
    )
    _write_json(_annotation_file(root, split), content, None)


def _annotation_file(root: Path, split: str) -> Path:
    return root / 'annotations' / f'instances_{split}.json'


def _files(root: Path, params: dict) -> Dict[str, List[Path]]:
    """Every file that belongs to a set, images and annotations."""
    return dict(
        images=[
            root / split / f'{number:06d}.jpg'
            for split in _SPLITS
            for number in range(1, params[f'num_{split}'] + 1)
        ],
        annotations=[_annotation_file(root, split) for split in _SPLITS],
    )


def _check(
    num_train: int,
    num_val: int,
    image_size: Sequence[int],
    seed: int,
    object_size: Sequence[float],
) -> dict:
    """Check the parameters and bring them into the manifest's form."""

    def integer(name, value, least):
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, np.integer))
            or value < least
        ):
            raise ValueError(
                f'{name} must be a whole number of at least {least}, '
                f'but got {value!r}.'
            )
        return int(value)

    if (
        isinstance(image_size, (str, bytes))
        or not isinstance(image_size, Sequence)
        or len(image_size) != 2
    ):
        raise ValueError(
            'image_size must be (width, height) in pixels, '
            f'but got {image_size!r}.'
        )
    try:
        small, large = map(float, object_size)
    except (TypeError, ValueError):
        small = large = 0.0
    if not 0 < small <= large <= 1:
        raise ValueError(
            'object_size must be the smallest and largest diameter over the '
            f'short image side, 0 < min <= max <= 1, but got {object_size!r}.'
        )
    return dict(
        version=_VERSION,
        num_train=integer('num_train', num_train, 1),
        num_val=integer('num_val', num_val, 1),
        image_size=[
            integer(f'image_size ({side})', value, 32)
            for side, value in zip(('width', 'height'), image_size)
        ],
        seed=integer('seed', seed, 0),
        object_size=[small, large],
    )


def _read_manifest(path: Path) -> Optional[dict]:
    """Parameters a folder was drawn with, None without a manifest."""
    if not path.is_file():
        return None
    try:
        params = json.loads(path.read_text())
        # Files are named by these, so they must be what _check made.
        _check(**{key: x for key, x in params.items() if key != 'version'})
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f'{path} is not a manifest of shapes; name another root, or '
            'delete that folder yourself.'
        ) from error
    return params


def _prepare(root: Path, params: dict, overwrite: bool) -> bool:
    """Make the folder ready for drawing.

    Returns:
        bool: Whether anything is left to draw.

    Raises:
        ValueError: If the folder holds something else.
    """
    manifest, partial = root / _MANIFEST, root / _PARTIAL
    if root.exists() and not root.is_dir():
        raise ValueError(f'{root} is a file; name a folder as the root.')
    root.mkdir(parents=True, exist_ok=True)
    finished = _read_manifest(manifest)
    found = finished or _read_manifest(partial)
    if found is None:
        others = {entry.name for entry in root.iterdir()}
        others.discard(f'{_PARTIAL}.tmp')
        if others:
            raise ValueError(
                f'{root} is not empty and was not made by make_shapes; '
                'name another root.'
            )
    elif found != params and not overwrite:
        state = 'holds' if finished else 'holds an unfinished set of'
        raise ValueError(
            f'{root} {state} shapes drawn with {found}, but asked for are '
            f'{params}; name another root, or pass overwrite=True '
            '(--overwrite) to replace them.'
        )
    files = _files(root, found or params)
    if (
        finished
        and not overwrite
        and all(path.exists() for paths in files.values() for path in paths)
    ):
        return False
    if found and overwrite:
        # From here on a finished set counts as unfinished.
        if finished:
            os.replace(manifest, partial)
        for path in files['images'] + files['annotations']:
            path.unlink(missing_ok=True)
    _write_json(partial, params, 2)
    (root / 'annotations').mkdir(exist_ok=True)
    return True


def make_shapes(
    root: Union[str, Path],
    num_train: int = 600,
    num_val: int = 200,
    image_size: Sequence[int] = (160, 160),
    seed: int = 0,
    object_size: Sequence[float] = _OBJECT_SIZE,
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
    params = _check(num_train, num_val, image_size, seed, object_size)
    if _prepare(root, params, overwrite):
        for split in _SPLITS:
            _write_split(root, split, params)
        _write_json(root / _MANIFEST, params, 2)
        (root / _PARTIAL).unlink(missing_ok=True)
    return root
