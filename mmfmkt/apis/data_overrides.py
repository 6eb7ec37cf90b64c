"""Config overrides that replace the datasets by a folder."""

from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Tuple

from mmengine.config import Config
from mmengine.dataset import ClassBalancedDataset, RepeatDataset
from mmengine.evaluator import DumpResults
from mmengine.registry import DATASETS, EVALUATOR, METRICS, TRANSFORMS

from mmfmkt.datasets.coco_folder import CocoFolder, CocoSplit
from mmfmkt.utils import ConfigError
from mmfmkt.utils.config_text import prefixed
from mmfmkt.utils.configs import walk
from mmfmkt.utils.types import is_a, resolve_type, type_name

# Settings that a dataset keeps when CocoDataset replaces it.
KEPT_SETTINGS = ('pipeline', 'filter_cfg', 'return_classes')


class DatasetNode(NamedTuple):
    """Dataset or dataset wrapper in a config.

    Attributes:
        key (str): Dotted key, such as ``train_dataloader.dataset``.
        config (dict): Config of the dataset.
        scope (str): Scope in which types are looked up.
        is_wrapper (bool): Whether it wraps other datasets.
    """

    key: str
    config: dict
    scope: str
    is_wrapper: bool


def data_overrides(
    config: Config, data: CocoFolder
) -> Tuple[Dict[str, Any], List[str]]:
    """Return overrides with which a detector trains on a folder.

    A dataset in COCO format gets the folder's paths and classes, and keeps
    its wrappers. Any other dataset is replaced by a ``CocoDataset`` with the
    student's pipeline and evaluated by ``CocoMetric``; wrappers that repeat,
    balance or concatenate datasets are removed then. ``MultiImageMixDataset``
    is kept, since its pipeline is part of the augmentation.

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
    for name, split in (
        ('train', data.train),
        ('val', data.val),
        ('test', data.val),
    ):
        key = f'{name}_dataloader'
        if not config.get(key):
            continue
        dataset = config[key]['dataset']
        nodes = list(dataset_nodes(f'{key}.dataset', dataset, scope))
        for node in nodes:
            check_annotations(node, split)
        # Datasets of another format, and concatenated ones, are replaced.
        replace = not all(x.is_wrapper or reads_coco(x) for x in nodes) or any(
            'datasets' in x.config for x in nodes
        )
        if replace:
            overrides[f'{key}.dataset'] = new_dataset(nodes, data, split)
            removed = [x.config for x in nodes if depends_on_data(x)]
            text = f'CocoDataset replaces {names_of(removed)}'
            changes.setdefault(text, []).append(key)
        else:
            settings = split_settings(data, split)
            overrides.update(prefixed(nodes[-1].key, settings))
        key = f'{name}_evaluator'
        if name == 'train' or not config.get(key):
            continue
        metrics, removed = evaluator_overrides(
            key,
            config[key],
            str(data.root / split.ann_file),
            split.has_masks,
            replace,
            scope,
        )
        overrides.update(metrics)
        if removed:
            text = f'CocoMetric replaces {names_of(removed)}'
            changes.setdefault(text, []).append(key)
    return overrides, [
        f'data      {data.root}, {data.format} format, '
        f'{len(data.classes)} classes',
        *(f'          {text} ({", ".join(x)})' for text, x in changes.items()),
    ]


def dataset_nodes(key: str, config: dict, scope: str) -> Iterator[DatasetNode]:
    """Yield a dataset and, recursively, the datasets that it wraps."""
    scope = config.get('_scope_') or scope
    wrapped = {f'{key}.dataset': config.get('dataset')}
    for i, child in enumerate(config.get('datasets') or []):
        wrapped[f'{key}.datasets.{i}'] = child
    wrapped = {k: x for k, x in wrapped.items() if isinstance(x, dict)}
    yield DatasetNode(key, config, scope, bool(wrapped))
    for child_key, child in wrapped.items():
        yield from dataset_nodes(child_key, child, scope)


def reads_coco(node: DatasetNode) -> bool:
    """Return whether a dataset reads files in the same way as CocoDataset.

    Some subclasses of CocoDataset define other class names only, which this
    function accepts; others read other formats.
    """
    coco = resolve_type('mmdet.CocoDataset', DATASETS)
    dataset_type = resolve_type(node.config, DATASETS, node.scope)
    methods = ('__init__', 'load_data_list', 'parse_data_info', 'filter_data')
    return dataset_type is not None and all(
        getattr(dataset_type, x, None) is getattr(coco, x) for x in methods
    )


def depends_on_data(node: DatasetNode) -> bool:
    """Return whether a node is removed when CocoDataset replaces the data.

    Datasets, and wrappers that repeat, balance or concatenate datasets, are
    removed.
    """
    repeated = (RepeatDataset, ClassBalancedDataset)
    return (
        not node.is_wrapper
        or 'datasets' in node.config
        or is_a(node.config, repeated, DATASETS, node.scope)
    )


def check_annotations(node: DatasetNode, split: CocoSplit) -> None:
    """Check that a split has the annotations that a dataset loads.

    Raises:
        ConfigError: If annotations are missing.
    """
    missing = 'proposals' if node.config.get('proposal_file') else None
    # Without this prefix, MMDetection loads no segmentation maps.
    has_maps = bool((node.config.get('data_prefix') or {}).get('seg'))
    for _, step in walk(node.config.get('pipeline')):
        if not isinstance(step, dict) or not is_a(
            step, ['mmdet.LoadAnnotations'], TRANSFORMS, node.scope
        ):
            continue
        # It has with_seg=True, with_mask=True by default.
        panoptic = ['mmdet.LoadPanopticAnnotations']
        default = is_a(step, panoptic, TRANSFORMS, node.scope)
        if step.get('with_seg', default) and has_maps:
            missing = 'segmentation maps'
        elif step.get('with_mask', default) and not split.has_masks:
            missing = missing or f'masks, which {split.ann_file} lacks,'
    if missing:
        raise ConfigError(
            f'--data-root: the student needs {missing} ({node.key}), but the '
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


def new_dataset(
    nodes: List[DatasetNode], data: CocoFolder, split: CocoSplit
) -> dict:
    """Return a CocoDataset of a split, in the wrappers that are kept.

    Args:
        nodes (list[DatasetNode]): Result of `dataset_nodes`. The settings
            are those of the first dataset that is no wrapper.
        data (CocoFolder): The folder.
        split (CocoSplit): Split of the folder.
    """
    index = next(i for i, x in enumerate(nodes) if not x.is_wrapper)
    config = nodes[index].config
    dataset = dict(type='mmdet.CocoDataset', **split_settings(data, split))
    dataset.update({x: config[x] for x in KEPT_SETTINGS if x in config})
    if split is not data.train:
        dataset['test_mode'] = True
    for node in reversed(nodes[:index]):
        if not depends_on_data(node):
            dataset = dict(node.config, dataset=dataset)
    return dataset


def evaluator_overrides(
    key: str,
    evaluator: Any,
    ann_file: str,
    has_masks: bool,
    replace: bool,
    scope: str,
) -> Tuple[Dict[str, Any], List[dict]]:
    """Return overrides with which an evaluator reads another annotation file.

    Args:
        key (str): Config key of the evaluator.
        evaluator (dict | list): Evaluator of the student: a metric, a list
            of metrics, or a dict with ``metrics``.
        ann_file (str): Annotation file in COCO format.
        has_masks (bool): Whether the file has masks.
        replace (bool): Whether CocoDataset replaces the student's dataset.
        scope (str): Scope in which types are looked up.

    Returns:
        tuple: Overrides by dotted key, and the metrics of ``evaluator`` that
        ``CocoMetric`` replaces.
    """
    # It has a metric for each of several data sets, which become one.
    several = ['mmdet.MultiDatasetsEvaluator']
    has_several = is_a(evaluator, several, EVALUATOR, scope)
    replaced = [evaluator] if has_several else []
    if has_several:
        metric = evaluator['metrics']
        evaluator = [metric] if isinstance(metric, dict) else metric[:1]
    elif isinstance(evaluator, dict) and 'metrics' in evaluator:
        evaluator, key = evaluator['metrics'], f'{key}.metrics'
    metrics = {key: evaluator}
    if not isinstance(evaluator, dict):
        metrics = {f'{key}.{i}': x for i, x in enumerate(evaluator)}
    coco = resolve_type('mmdet.CocoMetric', METRICS)
    overrides: Dict[str, Any] = {}
    kept, removed, has_coco = [], replaced, False
    for metric_key, metric in metrics.items():
        is_coco = resolve_type(metric, METRICS, scope) is coco
        has_coco |= is_coco
        is_kept = is_coco or is_a(metric, [DumpResults], METRICS, scope)
        if replace and not is_kept:
            removed.append(metric)
            continue
        changes: Dict[str, Any] = {}
        if metric.get('ann_file'):
            changes['ann_file'] = ann_file
        if metric.get('format_only'):  # for a test split without annotations
            changes['format_only'] = False
        if evaluates_masks(metric) and not has_masks:
            changes['metric'] = 'bbox'
        overrides.update(prefixed(metric_key, changes))
        kept.append(dict(metric, **changes))
    if not removed:
        return overrides, []
    if not has_coco:
        masks = has_masks and any(map(evaluates_masks, removed))
        metric = ['bbox', 'segm'] if masks else 'bbox'
        kept.insert(
            0, dict(type='mmdet.CocoMetric', ann_file=ann_file, metric=metric)
        )
    if isinstance(evaluator, dict) and len(kept) == 1 and '.' not in key:
        return {key: dict(kept[0], _delete_=True)}, removed
    return {key: kept}, removed


def evaluates_masks(metric: dict) -> bool:
    """Return whether a CocoMetric evaluates masks."""
    return 'segm' in (metric.get('metric') or ())


def names_of(configs: Iterable[dict]) -> str:
    """Return the distinct types of configs as text."""
    return ', '.join(dict.fromkeys(map(type_name, configs)))
