"""Generation of config files in MMEngine's ``_base_`` style."""

import inspect
import math
from typing import Any, Dict, List

from .types import import_path

LINE_LENGTH = 79
INDENT = 4


class Expression(str):
    """Python code that is written without quotes, such as ``_base_.model``."""


class Derived(dict):
    """Changed dict of the base config, written ``dict(_base_.model, ...)``.

    Args:
        base (str): Expression of the base dict, such as ``'_base_.model'``.
        changes: Added and replaced items.
    """

    def __init__(self, base: str, **changes: Any) -> None:
        super().__init__(changes)
        self.base = base


def literal(value: Any, indent: int = 0, column: int = 0) -> str:
    """Return the source text of a value, wrapped to 79 columns.

    Args:
        value (Any): A dict, written as a call of ``dict``, a sequence, or any
            object with a valid ``repr``. Classes and functions become import
            paths, which MMEngine's registries accept.
        indent (int): Indentation of the first line.
        column (int): Column of the first line at which the value starts.
    """
    if isinstance(value, Expression):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    if inspect.isclass(value) or inspect.isfunction(value):
        return repr(import_path(value))
    if isinstance(value, dict):
        base = value.base if isinstance(value, Derived) else ''
        as_call = base or all(str(key).isidentifier() for key in value)
        opening, closing = ('dict(', ')') if as_call else ('{', '}')
        items = [('', Expression(base))] if base else []
        items += [
            (f'{key}=' if as_call else f'{key!r}: ', x)
            for key, x in value.items()
        ]
    elif isinstance(value, (list, tuple)):
        opening, closing = '[]' if isinstance(value, list) else '()'
        items = [('', x) for x in value]
    else:
        return repr(value)
    parts = [f'{key}{literal(x)}' for key, x in items]
    comma = ',' if isinstance(value, tuple) and len(parts) == 1 else ''
    line = f'{opening}{", ".join(parts)}{comma}{closing}'
    if not parts or column + len(line) <= LINE_LENGTH:
        return line
    item_indent = indent + INDENT
    lines = [
        f'{" " * item_indent}{key}'
        f'{literal(x, item_indent, item_indent + len(key))},'
        for key, x in items
    ]
    return '\n'.join([opening, *lines, f'{" " * indent}{closing}'])


def assignment(name: str, value: Any) -> str:
    """Return the source text of ``name = value``."""
    return f'{name} = {literal(value, column=len(name) + 3)}'


def assignments(variable: str, values: Dict[str, Any]) -> List[str]:
    """Return the lines of code that set items of a dict.

    Args:
        variable (str): Name of the dict.
        values (dict): Values by dotted key.
    """
    lines = []
    for name, value in values.items():
        keys = ''.join(
            f'[{int(key) if key.isdigit() else key!r}]'
            for key in name.split('.')
        )
        lines.append(assignment(f'{variable}{keys}', value))
    return lines
