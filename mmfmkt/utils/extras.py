"""Import of optional dependencies."""

from importlib import import_module
from types import ModuleType

from .errors import ConfigError


def import_extra(name: str, extra: str) -> ModuleType:
    """Import a library that an extra of the package installs.

    Args:
        name (str): Import name.
        extra (str): Name of the extra.

    Raises:
        ConfigError: If the library cannot be imported.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigError(
            f'This command needs {name} ({error}): run pip install '
            f"'mmfmkt[{extra}]', or in a clone pip install '.[{extra}]'."
        ) from error
