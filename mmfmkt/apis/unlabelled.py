"""Config overrides that replace a dataset by a folder of images."""

import os.path as osp
from copy import deepcopy
from typing import Any, Dict, List, Tuple

from mmcv.transforms import LoadAnnotations
from mmengine.config import Config
from mmengine.registry import HOOKS, TRANSFORMS

from mmfmkt.utils import ConfigError
from mmfmkt.utils.types import is_a, type_name

# Hooks that change the data pipeline during training.
PIPELINE_HOOKS = (
    'mmdet.PipelineSwitchHook',
    'mmdet.YOLOXModeSwitchHook',
    'mmpretrain.SwitchRecipeHook',
)


def unlabelled_overrides(
    config: Config, folder: str, library: str
) -> Tuple[Dict[str, Any], List[str]]:
    """Return overrides with which a student trains on images without labels.

    A detector gets its test pipeline with random horizontal flips, since its
    training transforms need boxes. A classifier keeps its training pipeline.
    Validation is disabled.

    Args:
        config (Config): The student's config.
        folder (str): Folder of images.
        library (str): ``'mmdet'`` or ``'mmpretrain'``.

    Returns:
        tuple: Overrides by dotted key, and their description by line.

    Raises:
        ConfigError: If the folder does not exist.
    """
    if not osp.isdir(folder):
        raise ConfigError(f'--unlabelled: {folder!r} is not a folder.')
    split = 'test' if library == 'mmdet' else 'train'
    pipeline = [
        deepcopy(transform)
        for transform in pipeline_of(config, f'{split}_dataloader')
        if not is_a(transform, [LoadAnnotations], TRANSFORMS, library)
    ]
    if library == 'mmdet':
        # Before the last transform, which packs the inputs.
        pipeline.insert(len(pipeline) - 1, dict(type='RandomFlip', prob=0.5))
    dataset = dict(
        type='mmfmkt.UnlabelledImages',
        data_root=osp.abspath(folder),
        pipeline=pipeline,
    )
    overrides: Dict[str, Any] = {
        'train_dataloader.dataset': dataset,
        'train_dataloader.batch_sampler': None,
        'val_dataloader': None,
        'val_evaluator': None,
        'val_cfg': None,
        # Untapped levels have no loss.
        'find_unused_parameters': True,
    }
    hooks = config.get('custom_hooks') or []
    kept = [x for x in hooks if not is_a(x, PIPELINE_HOOKS, HOOKS, library)]
    if len(kept) < len(hooks):
        overrides['custom_hooks'] = kept
    model = config.model
    preprocessor = model.get('data_preprocessor') or {}
    if preprocessor.get('batch_augments'):
        overrides['model.student.data_preprocessor.batch_augments'] = None
    if library == 'mmpretrain' and model.get('train_cfg'):
        # Mixup and CutMix need labels.
        overrides['model.student.train_cfg'] = None
    transforms = ', '.join(map(type_name, pipeline))
    return overrides, [
        f'data      {dataset["data_root"]}, without labels: {transforms}'
    ]


def pipeline_of(config: Config, key: str) -> List[dict]:
    """Return the transforms of a data loader's dataset.

    Raises:
        ConfigError: If the config has no pipeline.
    """
    dataset = (config.get(key) or {}).get('dataset', {})
    while 'pipeline' not in dataset and 'dataset' in dataset:
        dataset = dataset['dataset']
    if 'pipeline' not in dataset:
        raise ConfigError(
            f'--unlabelled needs the transforms of {key}.dataset.pipeline in '
            "the student's config, which has none."
        )
    return dataset['pipeline']
