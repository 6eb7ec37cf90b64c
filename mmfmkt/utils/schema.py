"""Validation of config settings against the annotations of constructors.

The annotations of a constructor, such as ``Positive``, are a schema for
pydantic. Settings are checked against it before an object is built.
"""

import inspect
from difflib import get_close_matches
from functools import cache
from typing import (
    Annotated,
    Any,
    Dict,
    Iterable,
    Mapping,
    Tuple,
    get_type_hints,
)

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from mmfmkt.models.bounds import (  # noqa: F401 (types for schemas)
    Finite,
    NonNegative,
    NonNegativeInt,
    Positive,
    PositiveInt,
    UnitInterval,
)

from .errors import ConfigError

STRICT = ConfigDict(arbitrary_types_allowed=True, strict=True)
VARIADIC = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
# Type names in the locations of pydantic's errors, which are not config keys.
TYPES = ('int', 'float', 'str', 'bool', 'dict', 'list', 'tuple', 'sequence')
# Replacements of pydantic's messages.
FRIENDLY_MESSAGES = {
    "'str' instances are not allowed as a Sequence value": 'a list',
    'Input should be an instance of Sequence': 'a list',
}
BUILTIN_TYPES = (int, float, str, bool, type(None), list, tuple, dict)


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)``, or '' if no name is similar.

    Args:
        name (str): The unknown name.
        names (Iterable[str]): The valid names.
    """
    similar = get_close_matches(str(name), [str(x) for x in names], n=1)
    return f' (did you mean {similar[0]!r}?)' if similar else ''


@cache
def type_adapter(annotation: Any) -> TypeAdapter:
    """Return pydantic's validator of an annotation."""
    return TypeAdapter(Annotated[annotation, Field()], config=STRICT)


def check_value(value: Any, annotation: Any, key: str) -> None:
    """Check a value of a config against an annotation.

    Args:
        value (Any): The value.
        annotation (Any): The annotation.
        key (str): The config key, for the error.

    Raises:
        ConfigError: If the value is invalid.
    """
    try:
        type_adapter(annotation).validate_python(to_builtins(value))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        subkey = ''.join(
            f'[{x}]' if isinstance(x, int) else f'.{x}'
            for x in first['loc']
            if not str(x).startswith(('constrained', 'function', 'dict['))
            and str(x) not in TYPES
        )
        messages = sorted({x['msg'] for x in error.errors(include_url=False)})
        accepted = dict.fromkeys(FRIENDLY_MESSAGES.get(x, x) for x in messages)
        rule = f'must be {" or ".join(accepted)}'
        rule = rule.replace('Input should be ', '')
        rule = rule.replace('be Value should have', 'have')
        got = short_repr(first['input'])
        raise ConfigError(f'{key}{subkey} {rule}, got {got}.') from None


def to_builtins(value: Any) -> Any:
    """Convert ConfigDict to dict, which pydantic's strict mode requires."""
    if isinstance(value, Mapping):
        return {key: to_builtins(x) for key, x in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(to_builtins(x) for x in value)
    return value


def short_repr(value: Any) -> str:
    """Return the repr of a value, shortened to 79 characters."""
    text = repr(value)
    return text if len(text) < 80 else f'{text[:76]}...'


@cache
def constructor_arguments(cls: type) -> Tuple[Dict[str, Any], frozenset]:
    """Return the arguments of a class's constructor.

    Args:
        cls (type): The class. If its constructor takes ``**kwargs``, the
            arguments of its bases are included.

    Returns:
        tuple: Annotations by name, and the names of required arguments.
    """
    constructors = [
        vars(x)['__init__'] for x in cls.__mro__ if '__init__' in vars(x)
    ]
    annotations: Dict[str, Any] = {}
    required = frozenset()
    for index, function in enumerate(constructors):
        hints = get_type_hints(function, include_extras=True)
        _, *parameters = inspect.signature(function).parameters.values()
        named = [x for x in parameters if x.kind not in VARIADIC]
        no_default = frozenset(x.name for x in named if x.default is x.empty)
        required = required if index else no_default
        for parameter in named:
            # The class passes the required arguments of its bases itself.
            if not index or parameter.name not in no_default:
                hint = hints.get(parameter.name, Any)
                annotations.setdefault(parameter.name, hint)
        if len(named) == len(parameters):
            break
    return annotations, required


def check_keys(
    settings: Mapping,
    schema: Mapping[str, Any],
    key: str,
    required: Iterable[str] = (),
    owner: str = '',
) -> None:
    """Check a section of a config against annotations by key.

    Args:
        settings (Mapping): The section.
        schema (Mapping): The annotations.
        key (str): The config key of the section, for the error.
        required (Iterable[str]): Required keys.
        owner (str): Text after ``key`` in errors, such as ``' (PKDLoss)'``.

    Raises:
        ConfigError: If a key is unknown or missing, or a value is invalid.
    """
    for name in settings:
        if name not in schema:
            raise ConfigError(
                f'{key}{owner} has no key {name!r}'
                f'{did_you_mean(name, schema)}; its keys are '
                f'{", ".join(schema)}.'
            )
    for name in required:
        if name not in settings:
            raise ConfigError(f'{key}{owner} needs the key {name!r}.')
    for name, value in settings.items():
        check_value(value, schema[name], f'{key}.{name}')


def check_arguments(cls: type, settings: Mapping, key: str) -> None:
    """Check settings against the constructor of a class.

    Args:
        cls (type): A class of mmfmkt.
        settings (Mapping): Arguments of the constructor.
        key (str): The config key of these settings, for the error.

    Raises:
        ConfigError: If an argument is unknown, missing or invalid.
    """
    annotations, required = constructor_arguments(cls)
    # Arguments that are not config values, such as modules, are not checked.
    unchecked = {
        name: Any
        for name, x in settings.items()
        if name in annotations and not isinstance(x, BUILTIN_TYPES)
    }
    schema = {**annotations, **unchecked}
    check_keys(settings, schema, key, sorted(required), f' ({cls.__name__})')
