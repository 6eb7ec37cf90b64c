"""Sizes of pictures in configs, made smaller in proportion."""

from typing import Any, Iterator, List

from mmengine.config import Config

# Numbers of pixels in pipelines and batch augmentations.
PIXELS = (
    'scale',
    'scales',
    'img_scale',
    'size',
    'crop_size',
    'border',
    'max_shift_px',
    'random_size_range',
)
# Smaller numbers are no sizes, larger ones mean "no limit".
SMALLEST, LARGEST = 16, 2000


def largest_number(cfg: Config) -> int:
    """Return the largest number of pixels in a config; 224 without any."""
    found = [
        x
        for part in places_of_pixels(cfg)
        for holder, key in pixels_in(part)
        for x in flat(holder[key])
        if SMALLEST <= x < LARGEST
    ]
    return max(found, default=224)


def shrink(cfg: Config, size: int) -> None:
    """Scale all numbers of pixels in a config, in place.

    Args:
        cfg (Config): A library's config.
        size (int): What its largest number becomes, about.
    """
    factor = size / largest_number(cfg)
    for part in places_of_pixels(cfg):
        for holder, key in pixels_in(part):
            holder[key] = scaled(holder[key], factor)


def places_of_pixels(cfg: Config) -> List[Any]:
    """The parts of a config that have sizes of pictures in them."""
    parts = [cfg.get('custom_hooks')]
    for split in ('train', 'val', 'test'):
        parts.append((cfg.get(f'{split}_dataloader') or {}).get('dataset'))
    for owner in (cfg, cfg.model):
        preprocessor = owner.get('data_preprocessor') or {}
        parts.append(preprocessor.get('batch_augments'))
    return [part for part in parts if part]


def pixels_in(part: Any) -> Iterator[tuple]:
    """All pairs of a dict and a key of it that stands for pixels."""
    items = part.items() if isinstance(part, dict) else enumerate(part)
    for key, value in list(items):
        if key in PIXELS and isinstance(part, dict):
            yield part, key
        elif isinstance(value, (dict, list, tuple)):
            yield from pixels_in(value)


def flat(value: Any) -> Iterator[int]:
    """The integers of nested sequences."""
    if isinstance(value, (list, tuple)):
        for x in value:
            yield from flat(x)
    elif isinstance(value, int):
        yield value


def scaled(value: Any, factor: float) -> Any:
    """Scale integers; what is a multiple of 32, or less one, stays so."""
    if isinstance(value, (list, tuple)):
        return type(value)(scaled(x, factor) for x in value)
    if not isinstance(value, int) or abs(value) < SMALLEST:
        return value
    if factor == 1:
        return value
    if value < 0:
        return -scaled(-value, factor)
    if (value + 1) % 32 == 0:
        return scaled(value + 1, factor) - 1
    if value % 32 == 0:
        return max(32, int(value * factor / 32 + 0.5) * 32)
    return max(SMALLEST, int(value * factor + 0.5))
