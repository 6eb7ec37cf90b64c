"""Classes of the ``type`` in configs, and their import paths."""

from importlib import import_module
from typing import Any, Iterable, Optional, Union

from mmengine.registry import MODELS, Registry
from mmengine.utils import get_object_from_string


def resolve_type(
    cfg_or_type: Any, registry: Registry, scope: Optional[str] = None
) -> Optional[type]:
    """Return the class that a config builds.

    A type may be a registered name with or without a scope
    (``'mmdet.CocoDataset'``, ``'CocoDataset'``), an import path
    (``'mmdet.datasets.CocoDataset'``), or the class itself, as in new-style
    configs. Compare the returned classes, not the types. `is_a` tests for
    subclasses.

    Args:
        cfg_or_type (dict | str | type): A config with ``type``, or a type. A
            ``_scope_`` in the config overrides ``scope``.
        registry (Registry): MMEngine's root registry, for instance
            ``mmengine.registry.DATASETS``.
        scope (str, optional): ``default_scope`` of the config; None: the
            current default scope, as in ``Registry.build``.

    Returns:
        type | None: The class; None if it cannot be found, or if the type is
        not a class.
    """
    type_ = cfg_or_type
    if isinstance(cfg_or_type, dict):
        type_ = cfg_or_type.get('type')
        scope = cfg_or_type.get('_scope_') or scope
    if isinstance(type_, str):
        with registry.switch_scope_and_registry(scope) as scoped:
            try:
                type_ = scoped.get(type_)
            except (RuntimeError, TypeError):  # raised for '' and './path'
                type_ = None
    return type_ if isinstance(type_, type) else None


def is_a(
    cfg_or_type: Any,
    bases: Iterable[Union[str, type]],
    registry: Registry,
    scope: Optional[str] = None,
) -> bool:
    """Return whether a config builds an instance of one of several classes.

    Args:
        cfg_or_type (dict | str | type): As in `resolve_type`.
        bases (Iterable[str | type]): The classes, or their names with scope;
            names of libraries that are not installed match nothing.
        registry (Registry): As in `resolve_type`.
        scope (str, optional): As in `resolve_type`.
    """
    found = [resolve_type(base, registry) for base in bases]
    return issubclass(
        resolve_type(cfg_or_type, registry, scope) or object,
        tuple(base for base in found if base),
    )


def is_mmpretrain_config(config: dict) -> bool:
    """Return whether a config is one of MMPretrain's.

    New-style configs, whose types are classes, have no ``default_scope``; the
    library is that of the model, or that of the student of a distillation.

    Args:
        config (dict): A whole config.
    """
    if scope := config.get('default_scope'):
        return scope == 'mmpretrain'
    model = resolve_type(config.get('model'), MODELS)
    if library := getattr(model, 'library', None):
        return library == 'mmpretrain'
    bases = getattr(model, '__mro__', ())
    return any(x.__module__.split('.')[0] == 'mmpretrain' for x in bases)


def type_name(cfg_or_type: Any) -> str:
    """Return the name of a type without scope or module, for messages.

    Args:
        cfg_or_type (dict | str | type): A config with ``type``, or a type.
    """
    type_ = cfg_or_type
    if isinstance(cfg_or_type, dict):
        type_ = cfg_or_type.get('type')
    return getattr(type_, '__name__', str(type_)).rpartition('.')[2]


def import_path(obj: Any) -> str:
    """Return an import path by which MMEngine's registries find an object.

    It is ``'package.module.Class'``, or the path of a parent package that
    exports the class. MMEngine (0.10.7) does not find a class in a module
    that shares its name with a function, such as ``L1Loss`` in
    ``mmdet.models.losses.smooth_l1_loss``.

    Args:
        obj (type | Callable): A top-level class or function of a module.
    """
    module = obj.__module__
    while module:
        path = f'{module}.{obj.__qualname__}'
        if get_object_from_string(path) is obj:
            return path
        module = module.rpartition('.')[0]
    return f'{obj.__module__}.{obj.__qualname__}'


def importable_type(type_: Any) -> Any:
    """Return a type by which MMEngine's registries find the class.

    Args:
        type_ (Any): A type. The import path of a class that MMEngine does not
            find (see `import_path`) is replaced; MMEngine writes such paths
            when it dumps new-style configs.
    """
    if isinstance(type_, str) and '.' in type_:
        module, _, name = type_.rpartition('.')
        try:
            if get_object_from_string(type_) is None:
                return import_path(getattr(import_module(module), name))
        except (ImportError, AttributeError, TypeError, ValueError):
            pass  # a name with a scope, or a path that does not exist
    return type_


def is_from_mmfmkt(cls: Any) -> bool:
    """Return whether a class is defined in mmfmkt.

    Args:
        cls (type | None): The class.
    """
    module = getattr(cls, '__module__', None) or ''
    return module.split('.')[0] == 'mmfmkt'
