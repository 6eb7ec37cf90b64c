"""Former names of classes and arguments, kept for one release."""

import warnings
from functools import wraps
from typing import Any, Callable, Dict, Mapping


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
                warn_renamed(
                    f'argument {old!r} of {type(self).__name__}',
                    repr(new_names[old]),
                )
            init(self, *args, **with_current_names(type(self), kwargs))

        wrapper.new_names = new_names
        return wrapper

    return decorate


def with_current_names(kind: type, arguments: Mapping) -> Dict[str, Any]:
    """Return arguments of a class by their current names."""
    new_names = getattr(kind.__init__, 'new_names', {})
    return {new_names.get(name, name): x for name, x in arguments.items()}


def renamed_class(name: str, kind: type) -> type:
    """Return a subclass under a former name, whose constructor warns."""

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        warn_renamed(name, kind.__name__)
        kind.__init__(self, *args, **kwargs)

    __init__.new_names = getattr(kind.__init__, 'new_names', {})
    doc = f'Former name of `{kind.__name__}`.'
    attributes = dict(
        __init__=__init__, __module__=kind.__module__, __doc__=doc
    )
    return type(name, (kind,), attributes)


def warn_renamed(old: str, new: str) -> None:
    """Warn that a name is deprecated."""
    warnings.warn(
        f'{old} is deprecated and will be removed in the next release; '
        f'use {new}.',
        FutureWarning,
        stacklevel=4,
    )
