"""Config overrides that replace the datasets by a folder."""

from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple, Union

from mmengine.config import Config
from mmengine.registry import DATASETS, METRICS, TRANSFORMS

from mmfmkt.datasets.class_folder import ClassFolder, find_class_folder
from mmfmkt.datasets.coco_folder import CocoFolder, CocoSplit
from mmfmkt.datasets.data_folder import find_data_folder
from mmfmkt.datasets.unlabelled_images import SUFFIXES
from mmfmkt.models.distillers.data_pipeline import channel_order, dataset_of
from mmfmkt.utils import ConfigError
from mmfmkt.utils.config_text import prefixed
from mmfmkt.utils.configs import typed_parts, walk
from mmfmkt.utils.types import is_a, resolve_type, type_name

from .save_best import save_best_overrides

# Settings that a dataset keeps when CocoDataset replaces it.
KEPT_SETTINGS = ('pipeline', 'filter_cfg', 'return_classes')


class FolderData(NamedTuple):
    """Use of a folder of ``--data-root`` by a config.

    Attributes:
        overrides (dict): Overrides of data sets and evaluators by dotted key.
        model (dict): Overrides of the numbers of classes in the model.
        summary (list[str]): Description of the data by line.
        num_classes (int): Number of classes.
        annotations (CocoFolder, optional): The folder of a detector, whose
            converted annotations have to be written.
    """

    overrides: Dict[str, Any]
    model: Dict[str, Any]
    summary: List[str]
    num_classes: int
    annotations: Optional[CocoFolder] = None

    def merge_into(self, config: Config) -> None:
        """Apply the overrides to a config, in place."""
        for key, value in {
            **prefixed('model', self.model),
            **self.overrides,
        }.items():
            if isinstance(value, dict):
                value = dict(value, _delete_=True)
            config.merge_from_dict({key: value})


def folder_data(
    config: Config, library: str, root: str, out_dir: Path
) -> FolderData:
    """Return the overrides with which a config trains on a folder.

    Args:
        config (Config): Config of a detector or classifier.
        library (str): Its library, ``'mmdet'`` or ``'mmpretrain'``.
        root (str): The folder.
        out_dir (Path): Folder of converted annotation files.

    Raises:
        ConfigError: If files are missing, or the model needs others.
    """
    annotations = None
    if library == 'mmpretrain':
        folder: Union[ClassFolder, CocoFolder] = find_class_folder(root)
        overrides, summary = class_folder_overrides(config, folder)
    else:
        folder = annotations = find_data_folder(root, out_dir)
        overrides, summary = data_overrides(config, folder)
    num_classes = len(folder.classes)
    model = num_classes_overrides(config.model, num_classes)
    dataset = dataset_of(config)
    scope = config.get('default_scope')
    if dataset and channel_order(dataset, scope).swaps_rgb:
        # CIFAR's data sets return RGB, and OpenCV reads BGR.
        for section, changes in ((config.model, model), (config, overrides)):
            if 'data_preprocessor' in section:
                changes['data_preprocessor.to_rgb'] = True
    return FolderData(overrides, model, summary, num_classes, annotations)


def data_overrides(
    config: Config, data: CocoFolder
) -> Tuple[Dict[str, Any], List[str]]:
    """Return overrides with which a detector trains on a folder.

    Dataset wrappers are kept. The dataset in them gets the folder's paths and
    classes if it reads COCO format; otherwise, a ``CocoDataset`` with the
    student's pipeline replaces it, as it replaces concatenated datasets.
    ``CocoMetric`` replaces other metrics.

    Args:
        config (Config): Student config.
        data (CocoFolder): The folder, whose annotations have been converted
            to COCO format.

    Returns:
        tuple: Overrides by dotted key, and their description by line.

    Raises:
        ConfigError: If the student needs annotations that the folder lacks.
    """
    scope = config.get('default_scope') or 'mmengine'
    overrides: Dict[str, Any] = {}
    changes: Dict[str, List[str]] = {}
    save_best: List[str] = []
    for name, split in splits_of(data).items():
        loader, evaluator = f'{name}_dataloader', f'{name}_evaluator'
        if not config.get(loader):
            continue
        key, dataset, first = find_dataset(
            f'{loader}.dataset', config[loader]['dataset']
        )
        check_annotations(key, first, split, scope)
        settings = split_settings(data, split)
        if reads_coco(dataset, scope):
            overrides.update(prefixed(key, settings))
        else:
            overrides[key] = dict(
                {x: first[x] for x in KEPT_SETTINGS if x in first},
                type='mmdet.CocoDataset',
                test_mode=name != 'train',
                **settings,
            )
            text = f'CocoDataset replaces {type_name(first)}'
            changes.setdefault(text, []).append(loader)
        if config.get(evaluator):
            ann_file = str(data.root / split.ann_file)
            overrides[evaluator], replaced = coco_metric(
                config[evaluator], ann_file, split.has_masks, scope
            )
            if replaced:
                text = f'CocoMetric replaces {replaced}'
                changes.setdefault(text, []).append(evaluator)
            if replaced and name == 'val':
                best, save_best = save_best_overrides(
                    config, overrides[evaluator]
                )
                overrides.update(best)
    return overrides, [
        f'data      {data.root}, {data.format} format, '
        f'{len(data.classes)} classes',
        *(f'          {text} ({", ".join(x)})' for text, x in changes.items()),
        *save_best,
    ]


def class_folder_overrides(
    config: Config, data: ClassFolder
) -> Tuple[Dict[str, Any], List[str]]:
    """Return overrides with which a classifier trains on class folders.

    Dataset wrappers are kept. A ``CustomDataset`` with the pipeline of the
    config replaces the dataset in them, and ``Accuracy`` the metrics.

    Args:
        config (Config): Student config.
        data (ClassFolder): The folders.

    Returns:
        tuple: Overrides by dotted key, and their description by line.
    """
    scope = config.get('default_scope')
    num_classes = len(data.classes)
    overrides: Dict[str, Any] = {}
    replaced: Dict[Tuple[str, str], None] = {}
    topk = (1, 5) if num_classes > 5 else (1,)
    for name, split in splits_of(data).items():
        loader, evaluator = f'{name}_dataloader', f'{name}_evaluator'
        if config.get(loader):
            key, _, first = find_dataset(
                f'{loader}.dataset', config[loader]['dataset']
            )
            replaced['CustomDataset', type_name(first)] = None
            pipeline = first.get('pipeline') or []
            load = 'mmcv.LoadImageFromFile'
            if not any(is_a(x, [load], TRANSFORMS, scope) for x in pipeline):
                # For instance, CIFAR's datasets return pixels.
                pipeline = [dict(type='LoadImageFromFile'), *pipeline]
            overrides[key] = dict(
                type='mmpretrain.CustomDataset',
                data_root=str(data.root),
                data_prefix=split,
                extensions=SUFFIXES,
                pipeline=pipeline,
            )
        if config.get(evaluator):
            overrides[evaluator] = dict(
                type='mmpretrain.Accuracy', topk=topk, _delete_=True
            )
            for _, metric in typed_parts(config[evaluator]):
                replaced['Accuracy', type_name(metric)] = None
    if 'num_classes' in (config.get('data_preprocessor') or {}):
        overrides['data_preprocessor.num_classes'] = num_classes
    best, save_best = save_best_overrides(config, dict(topk=topk))
    return {**overrides, **best}, [
        f'data      {data.root}, {num_classes} classes',
        *(f'          {x} replaces {y}' for x, y in replaced if x != y),
        *save_best,
    ]


def splits_of(data: Union[ClassFolder, CocoFolder]) -> Dict[str, Any]:
    """Return the split of a folder for each dataloader of a config."""
    return dict(train=data.train, val=data.val, test=data.val)


def find_dataset(key: str, config: dict) -> Tuple[str, dict, dict]:
    """Return the dataset that a folder replaces.

    Args:
        key (str): Dotted key of ``config``.
        config (dict): Dataset or dataset wrapper.

    Returns:
        tuple: Key and config of the dataset in all wrappers, and the config
        whose pipeline is kept: the first one of concatenated datasets.
    """
    while isinstance(config.get('dataset'), dict):
        key, config = f'{key}.dataset', config['dataset']
    first = config
    while 'datasets' in first or 'dataset' in first:
        first = first.get('dataset') or first['datasets'][0]
    return key, config, first


def reads_coco(dataset: dict, scope: str) -> bool:
    """Return whether a dataset reads files in the same way as CocoDataset.

    Some subclasses of CocoDataset define other class names only, which this
    function accepts; others read other formats.
    """
    coco = resolve_type('mmdet.CocoDataset', DATASETS)
    dataset_type = resolve_type(dataset, DATASETS, scope)
    methods = ('__init__', 'load_data_list', 'parse_data_info', 'filter_data')
    return dataset_type is not None and all(
        getattr(dataset_type, x, None) is getattr(coco, x) for x in methods
    )


def check_annotations(
    key: str, dataset: dict, split: CocoSplit, scope: str
) -> None:
    """Check that a split has the annotations that a dataset loads.

    Raises:
        ConfigError: If annotations are missing.
    """
    missing = 'proposals' if dataset.get('proposal_file') else None
    # Without this prefix, MMDetection loads no segmentation maps.
    has_maps = bool((dataset.get('data_prefix') or {}).get('seg'))
    for _, step in typed_parts(dataset.get('pipeline')):
        if not is_a(step, ['mmdet.LoadAnnotations'], TRANSFORMS, scope):
            continue
        # It has with_seg=True, with_mask=True by default.
        panoptic = ['mmdet.LoadPanopticAnnotations']
        default = is_a(step, panoptic, TRANSFORMS, scope)
        if step.get('with_seg', default) and has_maps:
            missing = 'segmentation maps'
        elif step.get('with_mask', default) and not split.has_masks:
            missing = missing or f'masks, which {split.ann_file} lacks,'
    if missing:
        raise ConfigError(
            f'--data-root: the student needs {missing} ({key}), but the '
            'folder provides boxes and, if annotated, masks. Use another '
            "folder or student, or set the datasets in the student's config."
        )


def split_settings(data: CocoFolder, split: CocoSplit) -> Dict[str, Any]:
    """Return the arguments with which CocoDataset reads a split."""
    return dict(
        data_root=f'{data.root}/',
        # The dataset's own palette has one color for each of its own classes.
        metainfo=dict(classes=data.classes, palette=None),
        ann_file=split.ann_file,
        data_prefix=dict(img=split.images),
    )


def coco_metric(
    evaluator: Any, ann_file: str, has_masks: bool, scope: str
) -> Tuple[dict, str]:
    """Return a CocoMetric for another annotation file.

    Args:
        evaluator (dict | list): Evaluator of the student, with one or more
            metrics. The first ``CocoMetric`` keeps its settings.
        ann_file (str): Annotation file in COCO format.
        has_masks (bool): Whether the file has masks.
        scope (str): Scope in which types are looked up.

    Returns:
        tuple: The config, and the types of the other metrics as text.
    """
    coco = resolve_type('mmdet.CocoMetric', METRICS)
    metrics = [x for _, x in typed_parts(evaluator)]
    is_coco = [resolve_type(x, METRICS, scope) is coco for x in metrics]
    kept = next((x for x, yes in zip(metrics, is_coco) if yes), {})
    replaced = [type_name(x) for x, yes in zip(metrics, is_coco) if not yes]
    masks = any('segm' in (x.get('metric') or ()) for x in metrics)
    metric = kept.get('metric') or (['bbox', 'segm'] if masks else 'bbox')
    if masks and not has_masks:
        metric = 'bbox'
    config = dict(
        kept,
        type='mmdet.CocoMetric',
        ann_file=ann_file,
        metric=metric,
        format_only=False,  # it is True for a test split without annotations
        _delete_=True,
    )
    return config, ', '.join(dict.fromkeys(replaced))


def num_classes_overrides(model: dict, num_classes: int) -> Dict[str, Any]:
    """Return overrides that set the number of classes of a network."""
    overrides: Dict[str, Any] = {}
    for key, value in walk(model):
        name = key.rpartition('.')[2]
        if name in ('num_classes', 'num_things_classes'):
            if 'rpn' not in key:
                overrides[key] = num_classes
        elif name == 'class_weight' and isinstance(value, (list, tuple)):
            # In detectors, the last weight is that of the background.
            is_classifier = key.startswith('head.')
            weights = value if is_classifier else value[:-1]
            if len(set(weights)) == 1:
                rest = value[len(weights) :]
                overrides[key] = [value[0]] * num_classes + [*rest]
    return overrides
