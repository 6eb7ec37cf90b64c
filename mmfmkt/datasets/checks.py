"""Checks of the data a config names, before hours of training start."""

import os
import warnings
from typing import Any, Iterator, List, Optional, Sequence, Union

from mmengine.config import Config
from mmengine.registry import DATASETS

from mmfmkt.utils import ConfigError
from mmfmkt.utils.schema import check_value

from .coco_check import check_coco, check_pictures

PART = Union[None, dict, Sequence[Any]]
PICTURES = ('.jpg', '.jpeg', '.png', '.bmp', '.ppm', '.pgm', '.tif')
MOST = 20000
# Data sets that MMPretrain fetches where they are missing.
FETCHED = ('CIFAR10', 'CIFAR100', 'MNIST', 'FashionMNIST')


def check_datasets(
    cfg: Config, splits: Sequence[str], need_boxes: bool = True
) -> None:
    """Check that files are there, hold boxes and know the classes.

    Data behind a storage backend or a URL is left to MMDetection.

    Args:
        cfg (Config): Config with ``train_dataloader`` and so on.
        splits (Sequence[str]): Of ``'train'``, ``'val'`` and ``'test'``.
        need_boxes (bool): Whether annotation files must hold boxes.

    Raises:
        ConfigError: Names the first fault and the key to change.
    """
    for split in splits:
        for part in ('dataloader', 'evaluator'):
            section = cfg.get(f'{split}_{part}')
            check_value(section, PART, f'{split}_{part}')
        loader = cfg.get(f'{split}_dataloader') or {}
        key = f'{split}_dataloader.dataset'
        for dataset in leaf_datasets(loader.get('dataset')):
            check_dataset(dataset, key, need_boxes)
        evaluators = cfg.get(f'{split}_evaluator') or []
        if loader and isinstance(evaluators, dict):
            evaluators = [evaluators]
        for evaluator in evaluators if loader else []:
            check_exists(
                evaluator.get('ann_file'), f'{split}_evaluator.ann_file'
            )


def leaf_datasets(dataset: Optional[dict]) -> Iterator[dict]:
    """Walk through wrappers such as RepeatDataset and ConcatDataset."""
    if not isinstance(dataset, dict):
        return
    inner = dataset.get('datasets') or [dataset.get('dataset')]
    if inner == [None]:
        yield dataset
    for child in inner:
        yield from leaf_datasets(child)


def check_exists(path: Optional[str], key: str) -> bool:
    """Whether a local path is there; absent and remote ones are not asked.

    Raises:
        ConfigError: If a local path does not exist.
    """
    if not path or '://' in path:
        return False
    if not os.path.exists(path):
        raise ConfigError(
            f'{key}: {path!r} does not exist; set the path to '
            'where the data set lies.'
        )
    return True


def check_dataset(dataset: dict, key: str, need_boxes: bool) -> None:
    """Check one data set's folder, annotation file and image folders."""
    if dataset.get('backend_args'):
        return
    root = dataset.get('data_root') or ''
    if dataset.get('type') in FETCHED and dataset.get('download', True):
        return
    check_exists(root, f'{key}.data_root')
    prefixes = dataset.get('data_prefix') or {}
    if isinstance(prefixes, str):
        # MMPretrain's have one.
        folder = os.path.join(root, prefixes)
        if check_exists(folder, f'{key}.data_prefix'):
            check_pictures(pictures_in(folder), f'{key}.data_prefix')
        prefixes = {}
    for name, prefix in prefixes.items():
        if prefix and (name == 'img' or loads_maps(dataset)):
            check_exists(
                os.path.join(root, prefix), f'{key}.data_prefix.{name}'
            )
    ann_file = os.path.join(root, dataset.get('ann_file') or '')
    if not dataset.get('ann_file') or not check_exists(
        ann_file, f'{key}.ann_file'
    ):
        return
    if ann_file.endswith('.json') and is_coco(dataset):
        images = prefixes.get('img')
        found = check_coco(
            ann_file,
            None if images is None else os.path.join(root, images),
            key,
            need_boxes,
        )
        for remark in found['remarks']:
            warnings.warn(remark, stacklevel=2)
        check_classes(dataset, found['categories'], ann_file, key)


def loads_maps(dataset: dict) -> bool:
    """Whether a data set reads the segmentation maps that it has a place of.

    Many configs have the place and not the use.

    Args:
        dataset (dict): Config of a data set.
    """
    return any(
        step.get('with_seg') or 'Panoptic' in str(step.get('type'))
        for step in steps_of(dataset.get('pipeline') or [])
    )


def steps_of(pipeline: Sequence[dict]) -> Iterator[dict]:
    """Walk through a pipeline and what stands in its RecordedViews."""
    for step in pipeline:
        yield step
        if str(step.get('type')).endswith('RecordedViews'):
            yield from steps_of(step.get('transforms') or [])


def pictures_in(folder: str) -> List[str]:
    """Pictures of a folder, and of those in it; of very many some of all."""
    found = [
        os.path.join(place, name)
        for place, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(PICTURES)
    ]
    return found[:: len(found) // MOST + 1]


def is_coco(dataset: dict) -> bool:
    """Whether a data set is MMDetection's CocoDataset, or one of its kind."""
    kind = dataset.get('type')
    if isinstance(kind, str):
        with DATASETS.switch_scope_and_registry('mmdet') as registry:
            kind = registry.get(kind)
    bases = getattr(kind, '__mro__', ())
    return 'CocoDataset' in (base.__name__ for base in bases)


def check_classes(
    dataset: dict, found: List[str], ann_file: str, key: str
) -> None:
    """Compare the classes of a config with those of an annotation file."""
    classes = (dataset.get('metainfo') or {}).get('classes')
    if classes is None or isinstance(classes, str):
        return
    missing = [name for name in classes if name not in found]
    if len(missing) == len(classes):
        raise ConfigError(
            f'{key}.metainfo.classes: none of {tuple(classes)} is a category '
            f'of {ann_file!r}, which has {tuple(found)}.'
        )
    if missing:
        warnings.warn(
            f'{key}.metainfo.classes: {missing} are no categories of '
            f'{ann_file!r}.',
            stacklevel=2,
        )
