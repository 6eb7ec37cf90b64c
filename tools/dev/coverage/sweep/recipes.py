"""Small versions of the libraries' training configs, which run in seconds.

The data set is tiny, images are smaller and epochs are short; what CPUs do not
support (mixed precision, synchronized norms) is removed. The rest of the
recipe remains: losses, augmentations, data set wrappers, samplers, hooks,
optimizer, schedules and their settings for each parameter.
"""

from copy import deepcopy
from pathlib import Path
from typing import Any, Dict, Iterator, List

from mmengine.config import Config, ConfigDict
from mmengine.registry import DATASETS

from mmfmkt.models.distillers.networks import without_weights
from mmfmkt.utils.configs import walk

from . import data
from .errors import NotAStudentError
from .families import package_folder
from .pixels import largest_size, shrink

# Upper limits of numbers of candidates (train_cfg and test_cfg of detectors)
# and of queries (model).
CANDIDATES = dict(num=64, max_per_img=100, nms_pre=200)
QUERIES = dict(num_queries=100, num_proposals=100)
# Settings of data sets that do not exist for data in COCO format.
OTHER_FORMATS = (
    'label_file',
    'hierarchy_file',
    'meta_file',
    'image_level_ann_file',
)
# Hooks that act late in a training get times within the short one.
HOOK_TIMES = dict(
    num_last_epochs=1, switch_epoch=1, begin_epoch=0, begin_iter=0
)
SYNC_NORMS = ('SyncBN', 'MMSyncBN', 'NaiveSyncBN')


def read(library: str, config: str) -> Config:
    """Read a config whose model can be a student.

    Args:
        library (str): ``'mmdet'`` or ``'mmpretrain'``.
        config (str): Config relative to the library's ``configs``.

    Raises:
        NotAStudentError: If the model cannot be a student.
    """
    cfg = Config.fromfile(package_folder(library) / 'configs' / config)
    if any(key.startswith('teacher') for key in cfg.model):
        raise NotAStudentError('has its own teacher')
    if not cfg.get('train_dataloader'):
        raise NotAStudentError('no training config')
    if library == 'mmpretrain' and 'Classifier' not in str(cfg.model.type):
        raise NotAStudentError(f'{cfg.model.type} is not a classifier')
    return cfg


def sizes_to_try(cfg: Config) -> List[int]:
    """Return the longest image sides to try in pixels, in ascending order.

    Some heads need at least as many positions as queries, and some networks
    take images of one size only.

    Args:
        cfg (Config): Config from MMDetection or MMPretrain.
    """
    model = str(cfg.model)
    largest = largest_size(cfg)
    if cfg.get('default_scope') == 'mmpretrain':
        return [largest] if 'img_size' in model else [largest // 2, largest]
    if 'SSDVGG' in model:
        return [largest]
    return [128, 256, 512]


def tiny(cfg: Config, size: int, folder: Path, epochs: int) -> Config:
    """Return a small version of a config.

    Args:
        cfg (Config): Config from MMDetection or MMPretrain.
        size (int): Approximate longest side of the images in pixels.
        folder (Path): Folder for data, logs and checkpoints.
        epochs (int): Epochs, each of one iteration.
    """
    cfg = deepcopy(cfg)
    cfg.work_dir = str(folder / 'run')
    cfg.randomness = dict(seed=0)
    cfg.load_from, cfg.resume = None, False
    cfg.log_level = 'ERROR'
    without_weights(cfg.model)
    revert_sync_norms(cfg.model)
    for key in ('train_cfg', 'test_cfg'):
        limit_numbers(cfg.model.get(key) or {}, CANDIDATES)
    limit_numbers(cfg.model, QUERIES)
    shorten(cfg, epochs)
    shrink(cfg, size)
    for split in ('train', 'val', 'test'):
        loader = cfg.get(f'{split}_dataloader')
        if loader:
            use_tiny_data(loader, cfg, folder / f'data_{split}')
            use_tiny_evaluator(cfg, split)
    return cfg


def shorten(cfg: Config, epochs: int) -> None:
    """Set the length of the training, and remove mixed precision."""
    loop = cfg.train_cfg
    by_epoch = 'max_iters' not in loop and loop.get('type') != (
        'IterBasedTrainLoop'
    )
    length = 'max_epochs' if by_epoch else 'max_iters'
    schedules = cfg.get('param_scheduler') or []
    for schedule in [schedules] if isinstance(schedules, dict) else schedules:
        # By default, schedules end with the original training.
        same_unit = schedule.get('by_epoch', True) == by_epoch
        schedule.setdefault('end', loop.get(length) if same_unit else 10**6)
    loop[length] = epochs
    loop.val_interval = epochs
    for key in ('dynamic_intervals', 'val_begin'):
        loop.pop(key, None)
    wrapper = cfg.optim_wrapper
    if wrapper.get('type') == 'AmpOptimWrapper':
        wrapper.type = 'OptimWrapper'
        for key in ('loss_scale', 'dtype'):
            wrapper.pop(key, None)
    cfg.setdefault('default_hooks', ConfigDict())
    cfg.default_hooks.checkpoint = dict(
        type='CheckpointHook', interval=epochs, by_epoch=by_epoch
    )
    for hook in cfg.get('custom_hooks') or []:
        hook.update({k: x for k, x in HOOK_TIMES.items() if k in hook})
        # SwitchRecipeHook: one stage for each epoch from the second one on.
        for i, stage in enumerate(hook.get('schedule') or [], start=2):
            stage.action_epoch = i


def limit_numbers(config: Any, limits: Dict[str, int]) -> None:
    """Limit the integers of some keys, at any depth of a config."""
    for _, part in walk(config):
        for key, limit in limits.items() if isinstance(part, dict) else ():
            if isinstance(part.get(key), int):
                part[key] = min(part[key], limit)


def revert_sync_norms(config: Any) -> None:
    """Replace synchronized batch norms by unsynchronized ones."""
    for _, part in walk(config):
        if isinstance(part, dict) and part.get('type') in SYNC_NORMS:
            part['type'] = 'BN'


def use_tiny_data(loader: dict, cfg: Config, folder: Path) -> None:
    """Load a tiny data set in the main process, one batch per epoch."""
    loader.update(batch_size=2, num_workers=0, persistent_workers=False)
    loader.pop('prefetch_factor', None)
    wrapper = loader['dataset']
    while wrapper:
        if 'times' in wrapper:
            wrapper.times = 1
        wrapper = wrapper.get('dataset')
    for i, dataset in enumerate(inner_datasets(loader['dataset'])):
        use_tiny_format(dataset, cfg.model, cfg.default_scope, folder / str(i))


def inner_datasets(dataset: dict) -> Iterator[dict]:
    """Yield the data sets within wrappers such as ConcatDataset.

    Args:
        dataset (dict): Config of a data set.
    """
    wrapped = dataset.get('datasets') or [dataset.get('dataset')]
    if wrapped == [None]:
        yield dataset
        return
    for child in wrapped:
        yield from inner_datasets(child)


def use_tiny_format(
    dataset: dict, model: dict, library: str, folder: Path
) -> None:
    """Make a data set's config read a tiny data set of the same format.

    A format without a writer is replaced by that of COCO, or for classifiers
    by that of CustomDataset, with as many classes.

    Args:
        dataset (dict): Config of the data set; modified in place.
        model (dict): Config of the model.
        library (str): Library of data set and model.
        folder (Path): Folder to write to.
    """
    num_classes = min(classes_in(model), default=1)
    for key in ('split', 'indices'):
        dataset.pop(key, None)
    if library == 'mmpretrain':
        dataset.update(data.single_label(folder, num_classes))
        return
    if dataset.get('proposal_file'):
        dataset['proposal_file'] = 'proposals.pkl'
    with DATASETS.switch_scope_and_registry(library) as registry:
        dataset_class, coco = (
            registry.get(dataset['type']),
            registry.get('CocoDataset'),
        )
    if dataset_class.__name__ == 'CocoPanopticDataset':
        things, stuff = (
            dataset_class.METAINFO[f'{x}_classes'] for x in ('thing', 'stuff')
        )
        dataset.update(data.panoptic(folder, things, stuff))
        return
    metainfo = dataset.get('metainfo') or {}
    names = metainfo.get('classes') or dataset_class.METAINFO.get('classes')
    if not issubclass(dataset_class, coco) or not names:
        for key in OTHER_FORMATS:
            dataset.pop(key, None)
        dataset['type'] = 'CocoDataset'
        names = [f'class {i}' for i in range(num_classes)]
        dataset['metainfo'] = dict(classes=names)
    dataset.update(data.coco(folder, names))


def use_tiny_evaluator(cfg: Config, split: str) -> None:
    """Use CocoMetric on the tiny data set if the config uses it.

    Otherwise, predictions are dumped instead.
    """
    if cfg.default_scope == 'mmpretrain' or split == 'train':
        return
    dataset = next(inner_datasets(cfg[f'{split}_dataloader'].dataset))
    evaluator = cfg[f'{split}_evaluator']
    if not isinstance(evaluator, dict) or evaluator.type != 'CocoMetric':
        evaluator = dict(
            type='DumpDetResults', out_file_path=f'{cfg.work_dir}/{split}.pkl'
        )
    else:
        evaluator.ann_file = dataset['data_root'] + dataset['ann_file']
        if evaluator.get('proposal_nums') is None:
            evaluator.pop('proposal_nums', None)
    cfg[f'{split}_evaluator'] = evaluator


def classes_in(config: Any) -> Iterator[int]:
    """Yield the numbers of classes in a config that are larger than 1."""
    for key, value in walk(config):
        is_number = key.endswith('num_classes') and isinstance(value, int)
        if is_number and value > 1:
            yield value


def without_validation(cfg: Config) -> Config:
    """Return the config without validation and checkpoints."""
    cfg = deepcopy(cfg)
    for split in ('val', 'test'):
        for key in ('cfg', 'dataloader', 'evaluator'):
            cfg[f'{split}_{key}'] = None
    cfg.default_hooks.checkpoint.update(interval=-1, save_last=False)
    return cfg
