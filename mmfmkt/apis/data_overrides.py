"""Config overrides that put a COCO folder in the place of a data set."""

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

# Settings of a data set that make sense for any other one.
GENERAL = ('filter_cfg', 'return_classes')


class Node(NamedTuple):
    """A data set, or a wrapper of data sets, in a config.

    Attributes:
        config (dict): Its config.
        path (str): Where ``config`` stands, as an inheriting config has it.
        scope (str): Scope in which types are looked up.
        children (list[Node]): What it wraps.
    """

    config: dict
    path: str
    scope: str
    children: List['Node']


def data_overrides(
    config: Config, data: CocoFolder
) -> Tuple[Dict[str, Any], List[str]]:
    """Return overrides by which a detector trains on a folder.

    A data set that reads COCO's format gets other paths and classes and keeps
    its wrappers. Any other becomes one ``CocoDataset`` with the student's
    pipeline, evaluated by ``CocoMetric``; wrappers that repeat, balance or
    join data sets are left out. ``MultiImageMixDataset`` stays, since its
    pipeline is a part of the student's augmentation.

    Args:
        config (Config): The student's config.
        data (CocoFolder): The folder.

    Returns:
        tuple: The overrides by key, and lines that describe them.

    Raises:
        ConfigError: If the student reads annotations that the folder lacks.
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
        foreign = not all(x.children or reads_coco(x) for x in nodes) or any(
            'datasets' in x.config for x in nodes
        )
        dataset = new_dataset(root, data, split, foreign)
        overrides[key] = dict(dataset=replacing(dataset))
        if foreign:
            gone = [x.config for x in nodes if belongs_to_data(x)]
            text = f'CocoDataset replaces {names_of(gone)}'
            changes.setdefault(text, []).append(key)
        key = f'{name}_evaluator'
        if name == 'train' or not config.get(key):
            continue
        ann_file = str(data.root / split.ann_file)
        metrics, gone = new_evaluator(
            config[key],
            f'_base_.{key}',
            ann_file,
            split.has_masks,
            foreign,
            scope,
        )
        overrides[key] = replacing(metrics)
        if gone:
            text = f'CocoMetric replaces {names_of(gone)}'
            changes.setdefault(text, []).append(key)
    return overrides, [
        f'data      {data.root}, {len(data.classes)} classes',
        *(f'          {text} ({", ".join(x)})' for text, x in changes.items()),
    ]


def read_node(config: dict, path: str, scope: str) -> Node:
    """Return a data set of a config with all that it wraps."""
    scope = config.get('_scope_') or scope
    wrapped = {f'{path}.dataset': config.get('dataset')}
    for i, child in enumerate(config.get('datasets') or []):
        wrapped[f'{path}.datasets[{i}]'] = child
    children = [
        read_node(child, where, scope)
        for where, child in wrapped.items()
        if isinstance(child, dict)
    ]
    return Node(config, path, scope, children)


def nodes_of(node: Node) -> Iterator[Node]:
    """Yield a node and all that it wraps, the outermost first."""
    yield node
    for child in node.children:
        yield from nodes_of(child)


def reads_coco(node: Node) -> bool:
    """Whether a data set reads files as ``CocoDataset`` does.

    Some subclasses name other classes alone; others read other files.
    """
    coco = resolve_type('mmdet.CocoDataset', DATASETS)
    kind = resolve_type(node.config, DATASETS, node.scope)
    methods = ('__init__', 'load_data_list', 'parse_data_info', 'filter_data')
    return issubclass(kind or object, coco or ()) and all(
        getattr(kind, x) is getattr(coco, x) for x in methods
    )


def belongs_to_data(node: Node) -> bool:
    """Whether a node goes with its data, as a data set itself does.

    Wrappers that repeat, balance or join data sets are set up for these.
    """
    kind = resolve_type(node.config, DATASETS, node.scope)
    return (
        not node.children
        or 'datasets' in node.config
        or issubclass(kind or object, (RepeatDataset, ClassBalancedDataset))
    )


def check_annotations(node: Node, split: CocoSplit) -> None:
    """Insist on the annotations that a data set's pipeline loads.

    Raises:
        ConfigError: If the folder does not have them.
    """
    key = node.path.replace('_base_.', '', 1)
    loader = resolve_type('mmdet.LoadAnnotations', TRANSFORMS)
    panoptic = resolve_type('mmdet.LoadPanopticAnnotations', TRANSFORMS)
    lacking = 'proposals' if node.config.get('proposal_file') else None
    # Without a folder of them, MMDetection loads none either.
    has_maps = bool((node.config.get('data_prefix') or {}).get('seg'))
    for _, step in walk(node.config.get('pipeline')):
        kind = resolve_type(step, TRANSFORMS, node.scope) or object
        if not isinstance(step, dict) or not issubclass(kind, loader or ()):
            continue
        # Both are on by default where panoptic annotations are loaded.
        default = issubclass(kind, panoptic or ())
        if step.get('with_seg', default) and has_maps:
            lacking = 'segmentation maps'
        elif step.get('with_mask', default) and not split.has_masks:
            lacking = lacking or f'masks and {split.ann_file} has none'
    if lacking:
        raise ConfigError(
            f'--data-root: the student reads {lacking} ({key}); --data-root '
            'supplies boxes, and masks where it has them: give another '
            "folder or student, or set the data sets in the student's config."
        )


def new_dataset(
    node: Node, data: CocoFolder, split: CocoSplit, foreign: bool
) -> dict:
    """Return the config of a data set that reads a split of the folder.

    Args:
        node (Node): The student's data set.
        data (CocoFolder): The folder.
        split (CocoSplit): A split of it.
        foreign (bool): Whether the student's reads another format.
    """
    if node.children:
        inner = new_dataset(node.children[0], data, split, foreign)
        if foreign and belongs_to_data(node):
            return inner
        return Derived(node.path, dataset=inner)
    config = node.config
    settings: Dict[str, Any] = dict(
        data_root=f'{data.root}/',
        metainfo=dict(classes=data.classes),
        ann_file=split.ann_file,
        data_prefix=dict(img=split.images),
    )
    if any(x.get('backend_args') for x in config.get('pipeline') or []):
        settings['pipeline'] = local_pipeline(config['pipeline'], node.path)
    if not foreign:
        if config.get('backend_args'):
            settings['backend_args'] = None
        return Derived(node.path, **settings)
    settings.update({key: config[key] for key in GENERAL if key in config})
    if split is not data.train:
        settings['test_mode'] = True
    if 'pipeline' in config:
        whole = Expression(f'{node.path}.pipeline')
        settings.setdefault('pipeline', whole)
    return dict(type='mmdet.CocoDataset', **settings)


def local_pipeline(pipeline: list, path: str) -> list:
    """Return a pipeline whose steps read files from the disk.

    Args:
        pipeline (list): The student's.
        path (str): Where its data set stands, as an inheriting config has it.
    """
    return [
        Derived(f'{path}.pipeline[{i}]', backend_args=None)
        if step.get('backend_args')
        else Expression(f'{path}.pipeline[{i}]')
        for i, step in enumerate(pipeline)
    ]


def new_evaluator(
    evaluator: Any,
    path: str,
    ann_file: str,
    has_masks: bool,
    foreign: bool,
    scope: str,
) -> Tuple[Any, List[dict]]:
    """Return the config of an evaluator that reads another annotation file.

    Args:
        evaluator (dict | list): The student's: a metric, several, or an
            evaluator with ``metrics``.
        path (str): Where it stands, as an inheriting config has it.
        ann_file (str): The annotation file, in COCO format.
        has_masks (bool): Whether that has masks.
        foreign (bool): Whether the student's data set has another format.
        scope (str): Scope in which types are looked up.

    Returns:
        tuple: The evaluator, and the metrics that ``CocoMetric`` replaces.
    """
    if isinstance(evaluator, dict) and 'metrics' in evaluator:
        inner, removed = new_evaluator(
            evaluator['metrics'],
            f'{path}.metrics',
            ann_file,
            has_masks,
            foreign,
            scope,
        )
        return inner if foreign else Derived(path, metrics=inner), removed
    metrics = {path: evaluator}
    if not isinstance(evaluator, dict):
        metrics = {f'{path}[{i}]': x for i, x in enumerate(evaluator)}
    coco = resolve_type('mmdet.CocoMetric', METRICS)
    kept: List[dict] = []
    removed = []
    for where, metric in metrics.items():
        kind = resolve_type(metric, METRICS, scope) or object
        if foreign and kind is not coco and not issubclass(kind, DumpResults):
            removed.append(metric)
            continue
        kept.append(Derived(where))
        if metric.get('ann_file'):
            kept[-1]['ann_file'] = ann_file
        if metric.get('backend_args'):
            kept[-1]['backend_args'] = None
        if evaluates_masks(metric) and not has_masks:
            kept[-1]['metric'] = 'bbox'
    if removed and not any(
        resolve_type(x, METRICS, scope) is coco for x in metrics.values()
    ):
        masks = has_masks and any(map(evaluates_masks, removed))
        kinds = ['bbox', 'segm'] if masks else 'bbox'
        kept.insert(
            0, dict(type='mmdet.CocoMetric', ann_file=ann_file, metric=kinds)
        )
    return kept[0] if len(kept) == 1 else kept, removed


def evaluates_masks(metric: dict) -> bool:
    """Whether a metric of COCO's kind evaluates masks."""
    return 'segm' in (metric.get('metric') or ())


def replacing(section: Any) -> Any:
    """Return a section that takes the place of the base config's whole."""
    if isinstance(section, Derived):
        return Derived(section.base, _delete_=True, **section)
    if isinstance(section, dict):
        return dict(_delete_=True, **section)
    return section


def names_of(configs: Iterable[dict]) -> str:
    """Return the types of configs, each once, for a message."""
    return ', '.join(dict.fromkeys(map(type_name, configs)))
