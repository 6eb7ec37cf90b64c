"""The metric of ``save_best`` after a replacement of the evaluator."""

from typing import Any, Dict, List, Tuple

from mmengine.config import Config


def save_best_overrides(
    config: Config, metric: dict
) -> Tuple[Dict[str, str], List[str]]:
    """Return overrides of ``save_best`` if it names a replaced metric.

    MMEngine would raise a KeyError after the first validation.

    Args:
        config (Config): Config whose evaluator is replaced.
        metric (dict): The new evaluator, an Accuracy or a CocoMetric.

    Returns:
        tuple: Overrides by dotted key, and their description by line.
    """
    if 'topk' in metric:
        evaluated = [f'accuracy/top{k}' for k in metric['topk']]
    else:
        kinds, prefix = metric['metric'], metric.get('prefix') or 'coco'
        kinds = [kinds] if isinstance(kinds, str) else kinds
        sizes = ('', '_50', '_75', '_s', '_m', '_l')
        evaluated = [f'{prefix}/{x}_mAP{y}' for x in kinds for y in sizes]
    key = 'default_hooks.checkpoint'
    hook = (config.get('default_hooks') or {}).get('checkpoint') or {}
    names: Any = hook.get('save_best') or 'auto'
    names = [names] if isinstance(names, str) else names
    if set(names) <= {'auto', *evaluated}:
        return {}, []
    text = f'save_best: {evaluated[0]} replaces {", ".join(names)}'
    overrides = {f'{key}.save_best': evaluated[0], f'{key}.rule': 'greater'}
    return overrides, [f'          {text}']
