"""Types of a config as classes: names, scoped names and classes alike."""

from typing import Any, Optional

from mmengine.registry import Registry


def resolve_type(
    part: Any, registry: Registry, scope: Optional[str] = None
) -> Any:
    """Return the class that a part of a config is built from.

    Args:
        part (dict | str | type | Any): The part, or its type alone: a name
            with or without a scope, or a class.
        registry (Registry): The root registry of its kind.
        scope (str, optional): The default scope of the config.

    Returns:
        type | None: The class, or a registered function; None if there is
        none of this name, or if the part is not a config.

    Examples:
        >>> from mmengine.registry import HOOKS
        >>> resolve_type(dict(type='mmengine.EMAHook'), HOOKS).__name__
        'EMAHook'
    """
    if isinstance(part, dict):
        scope = part.get('_scope_') or scope
        part = part.get('type')
    if isinstance(part, str):
        with registry.switch_scope_and_registry(scope) as local:
            return local.get(part)
    return part if callable(part) else None


def is_ours(kind: Any) -> bool:
    """Whether a class or function is defined in mmfmkt.

    Args:
        kind (type | Any): The class.
    """
    module = getattr(kind, '__module__', None) or ''
    return module.split('.')[0] == 'mmfmkt'
