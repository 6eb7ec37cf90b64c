"""Former names of methods and arguments, which work for one more release."""

import warnings
from typing import Any, Callable, Optional, TypeVar

T = TypeVar('T')


def warn_renamed(old: str, new: str, stacklevel: int = 3) -> None:
    """Warn that a name has been replaced.

    Args:
        old (str): Former name.
        new (str): Current name.
        stacklevel (int): As in ``warnings.warn``; 3 is the caller of the
            function that calls this one.
    """
    warnings.warn(
        f'{old} is deprecated and will be removed in the next release; '
        f'use {new}.',
        FutureWarning,
        stacklevel=stacklevel,
    )


def renamed_method(old: str, new: str) -> Callable:
    """Return a method that warns and calls another.

    Args:
        old (str): Former name of the method.
        new (str): Current name, of the method that is called.
    """

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        warn_renamed(f'{type(self).__name__}.{old}', new)
        return getattr(self, new)(*args, **kwargs)

    return method


def renamed_argument(
    old_name: str, old_value: Optional[T], new_name: str, new_value: T
) -> T:
    """Return the value of an argument that is set by its current or former
    name.

    Args:
        old_name (str): Former name.
        old_value (Any, optional): Value under the former name; None if it is
            not set.
        new_name (str): Current name.
        new_value (Any): Value under the current name.
    """
    if old_value is None:
        return new_value
    warn_renamed(f'argument {old_name!r}', repr(new_name), stacklevel=4)
    return old_value
