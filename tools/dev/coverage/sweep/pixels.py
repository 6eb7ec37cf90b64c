"""Image sizes in configs, scaled down in proportion."""

from typing import Any, Iterator, List

from mmengine.config import Config

from mmfmkt.utils.configs import walk

# Keys of sizes in pixels, in pipelines and batch augmentations.
PIXEL_KEYS = (
    'scale',
    'scales',
    'img_scale',
    'size',
    'crop_size',
    'border',
    'max_shift_px',
    'random_size_range',
)
# Smaller numbers are not sizes in pixels, larger ones mean "no limit".
SMALLEST, LARGEST = 16, 2000


def largest_size(cfg: Config) -> int:
    """Return the largest size in pixels of a config, by default 224."""
    sizes = [
        x
        for holder, key in pixel_sizes(cfg)
        for _, x in walk(holder[key])
        if isinstance(x, int) and SMALLEST <= x < LARGEST
    ]
    return max(sizes, default=224)


def shrink(cfg: Config, size: int) -> None:
    """Scale all sizes in pixels of a config, in place.

    Args:
        cfg (Config): Config from MMDetection or MMPretrain.
        size (int): Approximate new value of the largest size.
    """
    factor = size / largest_size(cfg)
    for holder, key in list(pixel_sizes(cfg)):
        holder[key] = scaled(holder[key], factor)


def pixel_sizes(cfg: Config) -> Iterator[tuple]:
    """Yield each dict that has a size in pixels, and the key of the size."""
    sections: List[Any] = [cfg.get('custom_hooks')]
    for split in ('train', 'val', 'test'):
        sections.append((cfg.get(f'{split}_dataloader') or {}).get('dataset'))
    for owner in (cfg, cfg.model):
        preprocessor = owner.get('data_preprocessor') or {}
        sections.append(preprocessor.get('batch_augments'))
    for _, section in walk(sections):
        if isinstance(section, dict):
            yield from ((section, key) for key in PIXEL_KEYS if key in section)


def scaled(value: Any, factor: float) -> Any:
    """Scale integers; multiples of 32 (or these minus 1) remain so."""
    if isinstance(value, (list, tuple)):
        return type(value)(scaled(x, factor) for x in value)
    if not isinstance(value, int) or abs(value) < SMALLEST:
        return value
    if value < 0:
        return -scaled(-value, factor)
    if (value + 1) % 32 == 0:
        return scaled(value + 1, factor) - 1
    if value % 32 == 0:
        return max(32, int(value * factor / 32 + 0.5) * 32)
    return max(SMALLEST, int(value * factor + 0.5))
