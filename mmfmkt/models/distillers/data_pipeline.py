"""Normalization of pixels by the transforms of a data set.

A data set is an object or a config. The teacher's data set is never built. The
student's is read from the Runner's config, which MMEngine publishes in the
message hub, because a model has no access to the Runner's data loaders.
"""

import ast
import sys
from contextlib import suppress
from functools import partial
from typing import Any, Callable, Dict, Iterator, List, Optional

import torch
from mmengine.logging import MessageHub
from mmengine.registry import DATASETS, TRANSFORMS

from mmfmkt.utils import ConfigError
from mmfmkt.utils.types import resolve_type

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
        key (str): Config key of the data set, for errors.
        scope (str, optional): Scope of the config's types; default: the
            scope of the run.

    Raises:
        ConfigError: If concatenated data sets normalize differently.
    """
    scope = get_field(dataset, '_scope_') or scope
    wrapped = [
        pipeline_normalization(x, key, scope)
        for x in wrapped_datasets(dataset)
    ]
    total = wrapped[0] if wrapped else channel_order(dataset, scope)
    if not all(x.equals(total) for x in wrapped):
        raise ConfigError(
            f'{key}: its data sets normalize images differently, so the '
            "teacher's normalization is ambiguous; give all of them the same "
            'Normalize, or normalize in the data_preprocessor.'
        )
    for step in normalizations_of(get_field(dataset, 'pipeline'), scope):
        total = total.then(step)
    return total


def channel_order(dataset: Any, scope: Optional[str] = None) -> Normalization:
    """Return the order in which a data set loads color channels.

    It is RGB for MMPretrain's CIFAR data sets, and BGR for all others.

    Args:
        dataset, scope: As `pipeline_normalization`.
    """
    scope = get_field(dataset, '_scope_') or scope
    if wrapped := wrapped_datasets(dataset):
        return channel_order(wrapped[0], scope)
    source = dataset if isinstance(dataset, dict) else type(dataset)
    # This imports the library that has the class.
    cls = resolve_type(source, DATASETS, scope)
    if cls is None or 'mmpretrain.datasets' not in sys.modules:
        return IDENTITY
    from mmpretrain.datasets import CIFAR10

    return Normalization(swaps_rgb=issubclass(cls, CIFAR10))


def normalizations_of(
    transform: Any, scope: Optional[str]
) -> Iterator[Normalization]:
    """Yield the normalizations of transforms, including nested ones.

    Args:
        transform (Any): A transform or a sequence of transforms, which are
            objects or configs.
        scope (str, optional): Scope of the types of configs.
    """
    if isinstance(transform, (list, tuple)):
        for x in transform:
            yield from normalizations_of(x, scope)
        return
    scope = get_field(transform, '_scope_') or scope
    with TRANSFORMS.switch_scope_and_registry(scope) as registry:
        if isinstance(transform, dict):
            cls = transform.get('type')
        else:
            # MMPretrain wraps a transform of torchvision as attribute t.
            transform = getattr(transform, 't', transform)
            cls = type(transform)
        if isinstance(cls, str):
            with suppress(RuntimeError):  # name that is not registered
                cls = registry.get(cls)
        if isinstance(cls, partial):  # registered wrapper of torchvision's
            cls = cls.keywords.get('transform')
        for normalizer, convert in normalizing_transforms().items():
            if isinstance(cls, type) and issubclass(cls, normalizer):
                if convert is None:
                    return
                built = (
                    registry.build(transform)
                    if isinstance(transform, dict)
                    else transform
                )
                yield convert(getattr(built, 't', built))
                return
    nested = get_field(transform, 'transforms') or get_field(
        transform, 'pipeline'
    )
    yield from normalizations_of(nested or (), scope)


def normalizing_transforms() -> Dict[
    type, Optional[Callable[[Any], Normalization]]
]:
    """Return functions from transforms to normalizations, by class.

    None marks a wrapper of Albumentations, whose transforms are in no
    registry of OpenMMLab.
    """
    from mmcv.transforms import Normalize

    def from_mean_and_std(transform: Any) -> Normalization:
        mean, std = (
            torch.as_tensor(x, dtype=torch.float32).view(-1, 1, 1)
            for x in (transform.mean, transform.std)
        )
        return Normalization(mean, std, getattr(transform, 'to_rgb', False))

    converters = {Normalize: from_mean_and_std}
    # No pipeline uses transforms of a library that has not been imported.
    if 'mmdet.datasets' in sys.modules:
        from mmdet.datasets.transforms import Albu

        converters[Albu] = None
    if 'mmpretrain.datasets' in sys.modules:
        from mmpretrain.datasets.transforms import (
            Albumentations,
            NumpyToPIL,
            PILToNumpy,
        )
        from torchvision import transforms as vision

        converters.update(
            {
                Albumentations: None,
                NumpyToPIL: lambda x: Normalization(swaps_rgb=x.to_rgb),
                PILToNumpy: lambda x: Normalization(swaps_rgb=x.to_bgr),
                vision.ToTensor: lambda _: Normalization(std=UINT8_MAX),
                vision.Normalize: from_mean_and_std,
            }
        )
    return converters


def get_field(source: Any, name: str) -> Any:
    """Return a value of a config or an attribute of an object, or None."""
    if isinstance(source, dict):
        return source.get(name)
    return getattr(source, name, None)


def wrapped_datasets(dataset: Any) -> List[Any]:
    """Return the data sets that a wrapper contains, or their configs.

    Args:
        dataset (Dataset | dict, optional): The wrapper; of any other data
            set, the result is empty.
    """
    wrapped = get_field(dataset, 'datasets') or [get_field(dataset, 'dataset')]
    return [x for x in wrapped if x is not None]


def dataset_of(config: dict) -> Optional[dict]:
    """Return the config of the data set for training, or else of that for
    testing or validation.

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
