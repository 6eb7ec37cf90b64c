"""Generation of config files in MMEngine's ``_base_`` style."""

import inspect
import math
from typing import Any, Dict, List, Sequence

from .types import import_path

LINE_LENGTH = 79
INDENT = 4


def literal(value: Any, indent: int = 0, column: int = 0) -> str:
    """Return the source text of a value, wrapped to 79 columns.

    Args:
        value (Any): A dict, written as a call of ``dict``, a sequence, or any
            object with a valid ``repr``. Classes and functions become import
            paths, which MMEngine's registries accept.
        indent (int): Indentation of the first line.
        column (int): Column of the first line at which the value starts.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    if inspect.isclass(value) or inspect.isfunction(value):
        return repr(import_path(value))
    if isinstance(value, dict):
        as_call = all(str(key).isidentifier() for key in value)
        opening, closing = ('dict(', ')') if as_call else ('{', '}')
        items = [
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


def assignments(
    overrides: Dict[str, Any], defined: Sequence[str] = ()
) -> List[str]:
    """Return the lines of code that override keys of the base config.

    Args:
        overrides (dict): Values by dotted key.
        defined (Sequence[str]): Top-level keys that the config defines before
            these lines.
    """
    lines = []
    sections = set(defined)
    for key, value in overrides.items():
        section, *names = key.split('.')
        if names and section not in sections:
            lines.append(f'{section} = _base_.{section}')
        sections.add(section)
        items = [f'[{x if x.isdigit() else repr(x)}]' for x in names]
        lines.append(assignment(section + ''.join(items), value))
    return lines


def prefixed(prefix: str, overrides: Dict[str, Any]) -> Dict[str, Any]:
    """Return overrides with a prefix before each dotted key."""
    return {f'{prefix}.{key}': value for key, value in overrides.items()}
