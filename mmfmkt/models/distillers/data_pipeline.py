"""Normalization of pixels by the transforms of a data set.

Data sets are read built or as configs: a teacher's is never built, and a
model in training knows only its Runner's config, which MMEngine publishes in
the message hub.
"""

import ast
import sys
from contextlib import suppress
from functools import partial
from typing import Any, Callable, Dict, Iterator, Optional

import torch
from mmengine.logging import MessageHub
from mmengine.registry import TRANSFORMS

from mmfmkt.utils import ConfigError

from .teacher_input import AS_LOADED, Normalization

# Divisor of torchvision's ToTensor.
LEVELS = torch.full((1, 1, 1), 255.0)
LOADERS = ('train_dataloader', 'test_dataloader', 'val_dataloader')


def pipeline_normalization(
    dataset: Any, key: str, scope: Optional[str] = None
) -> Normalization:
    """Return the normalization that reaches the data preprocessor.

    Args:
        dataset (Dataset | dict, optional): A data set, which may wrap
            others, or its config.
        key (str): Its config key, for errors.
        scope (str, optional): Scope of the config's types; default: that of
            the run.

    Raises:
        ConfigError: If concatenated data sets normalize differently.
    """
    scope = field_of(dataset, '_scope_') or scope
    inner = field_of(dataset, 'datasets') or [field_of(dataset, 'dataset')]
    inner = [
        pipeline_normalization(x, key, scope) for x in inner if x is not None
    ]
    total = inner[0] if inner else AS_LOADED
    if not all(x.equals(total) for x in inner):
        raise ConfigError(
            f'{key}: its data sets normalize images in different ways, so '
            "the teacher's images are unknown; give all of them the same "
            'Normalize, or leave it to the data_preprocessor.'
        )
    for step in normalizations_of(field_of(dataset, 'pipeline'), scope):
        total = total.then(step)
    return total


def normalizations_of(
    part: Any, scope: Optional[str]
) -> Iterator[Normalization]:
    """Yield the normalizations of transforms, including nested ones.

    Args:
        part (Any): Transforms, built or as configs, or one with others
            inside.
        scope (str, optional): Scope of the types of configs.
    """
    if isinstance(part, (list, tuple)):
        for transform in part:
            yield from normalizations_of(transform, scope)
        return
    scope = field_of(part, '_scope_') or scope
    with TRANSFORMS.switch_scope_and_registry(scope) as registry:
        if isinstance(part, dict):
            kind = part.get('type')
        else:
            part = getattr(part, 't', part)  # torchvision's in MMPretrain
            kind = type(part)
        if isinstance(kind, str):
            with suppress(RuntimeError):  # unknown name
                kind = registry.get(kind)
        if isinstance(kind, partial):  # as MMPretrain registers those
            kind = kind.keywords.get('transform')
        for known, read in readers().items():
            if isinstance(kind, type) and issubclass(kind, known):
                if read is None:
                    return
                built = (
                    registry.build(part) if isinstance(part, dict) else part
                )
                yield read(getattr(built, 't', built))
                return
    yield from normalizations_of(
        field_of(part, 'transforms') or field_of(part, 'pipeline') or (), scope
    )


def readers() -> Dict[type, Optional[Callable[[Any], Normalization]]]:
    """Return a function for each transform that normalizes.

    None marks transforms whose inner transforms are in no registry.
    """
    from mmcv.transforms import Normalize

    def normalized(transform: Any) -> Normalization:
        mean, std = (
            torch.as_tensor(x, dtype=torch.float32).view(-1, 1, 1)
            for x in (transform.mean, transform.std)
        )
        return Normalization(mean, std, getattr(transform, 'to_rgb', False))

    known = {Normalize: normalized}
    # A library that has not been imported has no transforms here.
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
                NumpyToPIL: lambda x: Normalization(flips=x.to_rgb),
                PILToNumpy: lambda x: Normalization(flips=x.to_bgr),
                vision.ToTensor: lambda _: Normalization(std=LEVELS),
                vision.Normalize: normalized,
            }
        )
    return known


def field_of(part: Any, name: str) -> Any:
    """Return a value of a config, or an attribute of a built object."""
    if isinstance(part, dict):
        return part.get(name)
    return getattr(part, name, None)


def dataset_of(config: dict) -> Optional[dict]:
    """Return the config of a config's data set, of training if possible."""
    found = (field_of(config.get(name), 'dataset') for name in LOADERS)
    return next((x for x in found if x is not None), None)


def training_config() -> dict:
    """Return the Runner's config, from MMEngine's RuntimeInfoHook.

    It is text in which classes are dotted paths, so it is parsed and not
    executed. Empty without a Runner.
    """
    text = MessageHub.get_current_instance().runtime_info.get('cfg') or ''
    with suppress(SyntaxError):  # MMEngine cannot format some configs
        return {
            statement.targets[0].id: read_value(statement.value)
            for statement in ast.parse(text).body
            if isinstance(statement, ast.Assign)
        }
    return {}


def read_value(node: ast.expr) -> Any:
    """Return the value of an expression in the text of a config."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) == 'dict':
        args = [read_value(x) for x in node.args]
        kwargs = {x.arg: read_value(x.value) for x in node.keywords}
        return dict(*args, **kwargs)
    if isinstance(node, ast.Dict):
        return {
            read_value(key): read_value(value)
            for key, value in zip(node.keys, node.values)
        }
    if isinstance(node, (ast.List, ast.Tuple)):
        return [read_value(x) for x in node.elts]
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)
