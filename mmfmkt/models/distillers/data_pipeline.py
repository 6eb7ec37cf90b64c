"""Normalization of pixels by the transforms of a data set.

A data set is given as an object or as a config. The teacher's data set is
never built, and a model in training knows only the config of its Runner,
which MMEngine publishes in the message hub.
"""

import ast
import sys
from contextlib import suppress
from functools import partial
from typing import Any, Callable, Dict, Iterator, List, Optional

import torch
from mmengine.logging import MessageHub
from mmengine.registry import TRANSFORMS

from mmfmkt.utils import ConfigError

from .teacher_input import IDENTITY, Normalization

# Divisor of torchvision's ToTensor.
UINT8_MAX = torch.full((1, 1, 1), 255.0)
LOADERS = ('train_dataloader', 'test_dataloader', 'val_dataloader')


def pipeline_normalization(
    dataset: Any, key: str, scope: Optional[str] = None
) -> Normalization:
    """Return the normalization by the data pipeline of a data set.

    Args:
        dataset (Dataset | dict, optional): A data set, which may wrap
            others, or its config.
        key (str): Its config key, for errors.
        scope (str, optional): Scope of the config's types; default: the
            scope of the run.

    Raises:
        ConfigError: If concatenated data sets normalize differently.
    """
    scope = get_field(dataset, '_scope_') or scope
    inner = [
        pipeline_normalization(x, key, scope)
        for x in wrapped_datasets(dataset)
    ]
    total = inner[0] if inner else IDENTITY
    if not all(x.equals(total) for x in inner):
        raise ConfigError(
            f'{key}: its data sets normalize images differently, so the '
            "teacher's normalization is ambiguous; give all of them the same "
            'Normalize, or normalize in the data_preprocessor.'
        )
    for step in normalizations_of(get_field(dataset, 'pipeline'), scope):
        total = total.then(step)
    return total


def normalizations_of(
    part: Any, scope: Optional[str]
) -> Iterator[Normalization]:
    """Yield the normalizations of transforms, including nested ones.

    Args:
        part (Any): A transform or a sequence of them, built or as configs.
        scope (str, optional): Scope of the types of configs.
    """
    if isinstance(part, (list, tuple)):
        for transform in part:
            yield from normalizations_of(transform, scope)
        return
    scope = get_field(part, '_scope_') or scope
    with TRANSFORMS.switch_scope_and_registry(scope) as registry:
        if isinstance(part, dict):
            cls = part.get('type')
        else:
            part = getattr(part, 't', part)  # MMPretrain wraps torchvision's
            cls = type(part)
        if isinstance(cls, str):
            with suppress(RuntimeError):  # unknown name
                cls = registry.get(cls)
        if isinstance(cls, partial):  # registered wrapper of torchvision's
            cls = cls.keywords.get('transform')
        for known, convert in normalizing_transforms().items():
            if isinstance(cls, type) and issubclass(cls, known):
                if convert is None:
                    return
                built = (
                    registry.build(part) if isinstance(part, dict) else part
                )
                yield convert(getattr(built, 't', built))
                return
    inner = get_field(part, 'transforms') or get_field(part, 'pipeline')
    yield from normalizations_of(inner or (), scope)


def normalizing_transforms() -> Dict[
    type, Optional[Callable[[Any], Normalization]]
]:
    """Return functions from transforms to normalizations, by class.

    None marks a transform whose inner transforms are in no registry.
    """
    from mmcv.transforms import Normalize

    def from_mean_and_std(transform: Any) -> Normalization:
        mean, std = (
            torch.as_tensor(x, dtype=torch.float32).view(-1, 1, 1)
            for x in (transform.mean, transform.std)
        )
        return Normalization(mean, std, getattr(transform, 'to_rgb', False))

    known = {Normalize: from_mean_and_std}
    # No pipeline uses transforms of a library that has not been imported.
    if 'mmdet.datasets' in sys.modules:
        from mmdet.datasets.transforms import Albu

        known[Albu] = None
    if 'mmpretrain.datasets' in sys.modules:
        from mmpretrain.datasets.transforms import (
            Albumentations,
            NumpyToPIL,
            PILToNumpy,
        )
        from torchvision import transforms as vision

        known.update(
            {
                Albumentations: None,
                NumpyToPIL: lambda x: Normalization(swaps_rgb=x.to_rgb),
                PILToNumpy: lambda x: Normalization(swaps_rgb=x.to_bgr),
                vision.ToTensor: lambda _: Normalization(std=UINT8_MAX),
                vision.Normalize: from_mean_and_std,
            }
        )
    return known


def get_field(part: Any, name: str) -> Any:
    """Return a value of a config or an attribute of an object, or None."""
    if isinstance(part, dict):
        return part.get(name)
    return getattr(part, name, None)


def wrapped_datasets(dataset: Any) -> List[Any]:
    """Return the data sets that a wrapper contains, or their configs.

    Args:
        dataset (Dataset | dict, optional): The wrapper or any data set.
    """
    inner = get_field(dataset, 'datasets') or [get_field(dataset, 'dataset')]
    return [x for x in inner if x is not None]


def dataset_of(config: dict) -> Optional[dict]:
    """Return the config of the training data set, or of another one.

    Args:
        config (dict): A whole config.
    """
    datasets = (get_field(config.get(name), 'dataset') for name in LOADERS)
    return next((x for x in datasets if x is not None), None)


def training_config() -> dict:
    """Return the Runner's config, which MMEngine's RuntimeInfoHook publishes.

    The config is published as text in which classes are dotted paths.
    Therefore it is parsed and not executed. Without a Runner it is empty.
    """
    text = MessageHub.get_current_instance().runtime_info.get('cfg') or ''
    with suppress(SyntaxError):  # MMEngine cannot format some configs
        return {
            statement.targets[0].id: parse_value(statement.value)
            for statement in ast.parse(text).body
            if isinstance(statement, ast.Assign)
        }
    return {}


def parse_value(node: ast.expr) -> Any:
    """Return the value of an expression in the text of a config.

    An expression that is not a literal is returned as text.
    """
    if isinstance(node, ast.Call) and ast.unparse(node.func) == 'dict':
        args = [parse_value(x) for x in node.args]
        kwargs = {x.arg: parse_value(x.value) for x in node.keywords}
        return dict(*args, **kwargs)
    if isinstance(node, ast.Dict):
        return {
            parse_value(key): parse_value(value)
            for key, value in zip(node.keys, node.values)
        }
    if isinstance(node, (ast.List, ast.Tuple)):
        return [parse_value(x) for x in node.elts]
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)
