"""Former names of classes and arguments, kept for one release."""

from functools import wraps
from typing import Any, Callable, Dict, Mapping

from mmfmkt.models.deprecation import warn_renamed


def renamed_arguments(**new_names: str) -> Callable:
    """Decorate a constructor so that it takes arguments by former names.

    Args:
        new_names (str): New names by former name.

    Examples:
        >>> class NanGuardHook:
        ...     @renamed_arguments(most='max_skips')
        ...     def __init__(self, max_skips=100): ...
    """

    def decorate(init: Callable) -> Callable:
        @wraps(init)
        def wrapper(self: Any, *args: Any, **kwargs: Any) -> None:
            for old in new_names.keys() & kwargs.keys():
                warn_renamed(f'Argument {old!r}', repr(new_names[old]))
            init(self, *args, **with_current_names(type(self), kwargs))

        wrapper.new_names = new_names
        return wrapper

    return decorate


def with_current_names(kind: type, arguments: Mapping) -> Dict[str, Any]:
    """Return arguments of a class by their current names."""
    new_names: Dict[str, str] = {}
    for base in kind.__mro__:
        new_names |= getattr(vars(base).get('__init__'), 'new_names', {})
    return {new_names.get(name, name): x for name, x in arguments.items()}
