"""Config overrides that replace the datasets by a folder."""

from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Tuple

from mmengine.config import Config
from mmengine.dataset import ClassBalancedDataset, RepeatDataset
from mmengine.evaluator import DumpResults
from mmengine.registry import DATASETS, METRICS, TRANSFORMS

from mmfmkt.datasets.coco_folder import CocoFolder, CocoSplit
from mmfmkt.utils import ConfigError
from mmfmkt.utils.config_text import Derived, Expression
from mmfmkt.utils.configs import walk
from mmfmkt.utils.types import resolve_type, type_name

# Settings that a dataset keeps when CocoDataset replaces it.
KEPT_SETTINGS = ('filter_cfg', 'return_classes')


class DatasetNode(NamedTuple):
    """Dataset or dataset wrapper in a config.

    Attributes:
        config (dict): Config of the dataset.
        path (str): Expression of ``config`` in an inheriting config, such as
            ``_base_.train_dataloader.dataset``.
        scope (str): Scope in which types are looked up.
        children (list[DatasetNode]): Wrapped datasets.
    """

    config: dict
    path: str
    scope: str
    children: List['DatasetNode']


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
        tuple: Overrides by key, and their description by line.

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
        path = f'_base_.{key}.dataset'
        root = read_node(config[key]['dataset'], path, scope)
        nodes = list(nodes_of(root))
        for node in nodes:
            check_annotations(node, split)
        # Datasets of another format, and concatenated ones, are replaced.
        replace = not all(x.children or reads_coco(x) for x in nodes) or any(
            'datasets' in x.config for x in nodes
        )
        dataset = new_dataset(root, data, split, replace)
        overrides[key] = dict(dataset=with_delete(dataset))
        if replace:
            removed = [x.config for x in nodes if depends_on_data(x)]
            text = f'CocoDataset replaces {names_of(removed)}'
            changes.setdefault(text, []).append(key)
        key = f'{name}_evaluator'
        if name == 'train' or not config.get(key):
            continue
        ann_file = str(data.root / split.ann_file)
        metrics, removed = new_evaluator(
            config[key],
            f'_base_.{key}',
            ann_file,
            split.has_masks,
            replace,
            scope,
        )
        overrides[key] = (
            with_delete(metrics[0]) if len(metrics) == 1 else metrics
        )
        if removed:
            text = f'CocoMetric replaces {names_of(removed)}'
            changes.setdefault(text, []).append(key)
    return overrides, [
        f'data      {data.root}, {data.format} format, '
        f'{len(data.classes)} classes',
        *(f'          {text} ({", ".join(x)})' for text, x in changes.items()),
    ]


def read_node(config: dict, path: str, scope: str) -> DatasetNode:
    """Return the tree of a dataset and its wrapped datasets."""
    scope = config.get('_scope_') or scope
    wrapped = {f'{path}.dataset': config.get('dataset')}
    for i, child in enumerate(config.get('datasets') or []):
        wrapped[f'{path}.datasets[{i}]'] = child
    children = [
        read_node(child, child_path, scope)
        for child_path, child in wrapped.items()
        if isinstance(child, dict)
    ]
    return DatasetNode(config, path, scope, children)


def nodes_of(node: DatasetNode) -> Iterator[DatasetNode]:
    """Yield a node and, recursively, its children."""
    yield node
    for child in node.children:
        yield from nodes_of(child)


def reads_coco(node: DatasetNode) -> bool:
    """Return whether a dataset reads files in the same way as CocoDataset.

    Some subclasses of CocoDataset define other class names only, which this
    function accepts; others read other formats.
    """
    coco = resolve_type('mmdet.CocoDataset', DATASETS)
    dataset_type = resolve_type(node.config, DATASETS, node.scope)
    methods = ('__init__', 'load_data_list', 'parse_data_info', 'filter_data')
    return issubclass(dataset_type or object, coco or ()) and all(
        getattr(dataset_type, x) is getattr(coco, x) for x in methods
    )


def depends_on_data(node: DatasetNode) -> bool:
    """Return whether a node is removed when CocoDataset replaces the data.

    Datasets, and wrappers that repeat, balance or concatenate datasets, are
    removed.
    """
    dataset_type = resolve_type(node.config, DATASETS, node.scope)
    return (
        not node.children
        or 'datasets' in node.config
        or issubclass(
            dataset_type or object, (RepeatDataset, ClassBalancedDataset)
        )
    )


def check_annotations(node: DatasetNode, split: CocoSplit) -> None:
    """Check that a split has the annotations that a dataset loads.

    Raises:
        ConfigError: If annotations are missing.
    """
    key = node.path.replace('_base_.', '', 1)
    loader = resolve_type('mmdet.LoadAnnotations', TRANSFORMS)
    panoptic = resolve_type('mmdet.LoadPanopticAnnotations', TRANSFORMS)
    missing = 'proposals' if node.config.get('proposal_file') else None
    # Without this prefix, MMDetection loads no segmentation maps.
    has_maps = bool((node.config.get('data_prefix') or {}).get('seg'))
    for _, step in walk(node.config.get('pipeline')):
        step_type = resolve_type(step, TRANSFORMS, node.scope) or object
        if not isinstance(step, dict) or not issubclass(
            step_type, loader or ()
        ):
            continue
        # LoadPanopticAnnotations has with_seg=True, with_mask=True by default.
        default = issubclass(step_type, panoptic or ())
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


def new_dataset(
    node: DatasetNode, data: CocoFolder, split: CocoSplit, replace: bool
) -> dict:
    """Return the config of a dataset that reads a split of the folder.

    Args:
        node (DatasetNode): Dataset of the student.
        data (CocoFolder): The folder.
        split (CocoSplit): Split of the folder.
        replace (bool): Whether CocoDataset replaces the student's dataset.
            Otherwise, its paths and classes are changed.
    """
    if node.children:
        inner = new_dataset(node.children[0], data, split, replace)
        if replace and depends_on_data(node):
            return inner
        return Derived(node.path, dataset=inner)
    config = node.config
    settings: Dict[str, Any] = dict(
        data_root=f'{data.root}/',
        metainfo=dict(classes=data.classes),
        ann_file=split.ann_file,
        data_prefix=dict(img=split.images),
    )
    if not replace:
        return Derived(node.path, **settings)
    settings.update(
        {key: config[key] for key in KEPT_SETTINGS if key in config}
    )
    if split is not data.train:
        settings['test_mode'] = True
    if 'pipeline' in config:
        settings['pipeline'] = Expression(f'{node.path}.pipeline')
    return dict(type='mmdet.CocoDataset', **settings)


def new_evaluator(
    evaluator: Any,
    path: str,
    ann_file: str,
    has_masks: bool,
    replace: bool,
    scope: str,
) -> Tuple[List[dict], List[dict]]:
    """Return the metrics of an evaluator with another annotation file.

    Args:
        evaluator (dict | list): Evaluator of the student: a metric, a list
            of metrics, or a dict with ``metrics``.
        path (str): Expression of ``evaluator`` in an inheriting config.
        ann_file (str): Annotation file in COCO format.
        has_masks (bool): Whether the file has masks.
        replace (bool): Whether CocoDataset replaces the student's dataset.
        scope (str): Scope in which types are looked up.

    Returns:
        tuple: The metrics, and the metrics of ``evaluator`` that
        ``CocoMetric`` replaces.
    """
    if isinstance(evaluator, dict) and 'metrics' in evaluator:
        evaluator, path = evaluator['metrics'], f'{path}.metrics'
    metrics = {path: evaluator}
    if not isinstance(evaluator, dict):
        metrics = {f'{path}[{i}]': x for i, x in enumerate(evaluator)}
    coco = resolve_type('mmdet.CocoMetric', METRICS)
    types = [resolve_type(x, METRICS, scope) for x in metrics.values()]
    kept: List[dict] = []
    removed = []
    for metric_type, (metric_path, metric) in zip(types, metrics.items()):
        is_kept = metric_type is coco or issubclass(
            metric_type or object, DumpResults
        )
        if replace and not is_kept:
            removed.append(metric)
            continue
        kept.append(Derived(metric_path))
        if metric.get('ann_file'):
            kept[-1]['ann_file'] = ann_file
        if metric.get('format_only'):  # for a test split without annotations
            kept[-1]['format_only'] = False
        if evaluates_masks(metric) and not has_masks:
            kept[-1]['metric'] = 'bbox'
    if removed and coco not in types:
        masks = has_masks and any(map(evaluates_masks, removed))
        metric = ['bbox', 'segm'] if masks else 'bbox'
        kept.insert(
            0, dict(type='mmdet.CocoMetric', ann_file=ann_file, metric=metric)
        )
    return kept, removed


def evaluates_masks(metric: dict) -> bool:
    """Return whether a CocoMetric evaluates masks."""
    return 'segm' in (metric.get('metric') or ())


def with_delete(section: dict) -> dict:
    """Add ``_delete_=True``, which replaces the section of the base config."""
    if isinstance(section, Derived):
        return Derived(section.base, _delete_=True, **section)
    return dict(_delete_=True, **section)


def names_of(configs: Iterable[dict]) -> str:
    """Return the distinct types of configs as text."""
    return ', '.join(dict.fromkeys(map(type_name, configs)))
