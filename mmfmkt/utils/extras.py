"""Libraries that only some of the commands want."""

from importlib import import_module
from types import ModuleType

from .errors import ConfigError


def imported(name: str, extra: str) -> ModuleType:
    """Import a library that is in one of the package's extras.

    Args:
        name (str): Import name.
        extra (str): The extra that has it.

    Raises:
        ConfigError: If it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigError(
            f'{name} is wanted for this ({error}): '
            f"pip install 'mmfmkt[{extra}]', or in a clone "
            f"pip install '.[{extra}]'."
        ) from error
