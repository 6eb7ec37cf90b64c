"""What settings must be, said by the annotations of those who take them.

The annotations of a constructor, such as ``Positive``, are a schema for
pydantic; settings of a config are checked against it before anything is
built.
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
VARIABLE = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
KINDS = ('int', 'float', 'str', 'bool', 'dict', 'list', 'tuple', 'sequence')
PLAINER = {
    "'str' instances are not allowed as a Sequence value": 'a list',
    'Input should be an instance of Sequence': 'a list',
}
PLAIN = (int, float, str, bool, type(None), list, tuple, dict)


def nearest(name: str, names: Iterable[str]) -> str:
    """`` (did you mean ...?)``, or nothing.

    Args:
        name (str): What somebody wrote.
        names (Iterable[str]): What there is.
    """
    found = get_close_matches(str(name), [str(x) for x in names], n=1)
    return f' (did you mean {found[0]!r}?)' if found else ''


@cache
def adapter(kind: Any) -> TypeAdapter:
    """What holds values to an annotation."""
    return TypeAdapter(Annotated[kind, Field()], config=STRICT)


def check_value(value: Any, kind: Any, key: str) -> None:
    """Hold a value to an annotation.

    Args:
        value (Any): What a config has.
        kind (Any): The annotation.
        key (str): The config key, for the error.

    Raises:
        ConfigError: If it does not fit.
    """
    try:
        adapter(kind).validate_python(plain(value))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ''.join(
            f'[{x}]' if isinstance(x, int) else f'.{x}'
            for x in first['loc']
            if not str(x).startswith(('constrained', 'function'))
            and str(x) not in KINDS
        )
        several = {x['msg'] for x in error.errors(include_url=False)}
        wanted = dict.fromkeys(PLAINER.get(x, x) for x in sorted(several))
        raise ConfigError(
            f'{key}{where} is {shown(value)}, but should be '
            f'{" or ".join(wanted).replace("Input should be ", "")}.'
        ) from None


def plain(value: Any) -> Any:
    """A config's containers as Python's own, which pydantic is strict on."""
    if isinstance(value, Mapping):
        return {key: plain(x) for key, x in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(x) for x in value)
    return value


def shown(value: Any) -> str:
    """A value for a sentence."""
    text = repr(value)
    return text if len(text) < 80 else f'{text[:76]}...'


@cache
def arguments(kind: type) -> Tuple[Dict[str, Any], frozenset]:
    """What a class can be built with, and what it must be.

    Args:
        kind (type): A class; where it hands ``**kwargs`` on, those of its
            bases count, too.

    Returns:
        tuple: Annotations by name, and the names that have no default.
    """
    own = [vars(x)['__init__'] for x in kind.__mro__ if '__init__' in vars(x)]
    taken: Dict[str, Any] = {}
    needed = frozenset()
    for index, function in enumerate(own):
        hints = get_type_hints(function, include_extras=True)
        _, *parameters = inspect.signature(function).parameters.values()
        named = [x for x in parameters if x.kind not in VARIABLE]
        bare = frozenset(x.name for x in named if x.default is x.empty)
        needed = needed if index else bare
        for parameter in named:
            # What a base wants without a default, the class gives itself.
            if not index or parameter.name not in bare:
                hint = hints.get(parameter.name, Any)
                taken.setdefault(parameter.name, hint)
        if len(named) == len(parameters):
            break
    return taken, needed


def check_keys(
    settings: Mapping,
    schema: Mapping[str, Any],
    key: str,
    needed: Iterable[str] = (),
    owner: str = '',
) -> None:
    """Hold a section of a config to annotations by key.

    Args:
        settings (Mapping): The section.
        schema (Mapping): The annotations.
        key (str): The config key of the section, for the error.
        needed (Iterable[str]): What must be there.
        owner (str): What takes the section, for the error.

    Raises:
        ConfigError: If a key is unknown or missing, or a value does not fit.
    """
    for name in settings:
        if name not in schema:
            raise ConfigError(
                f'{key}{owner} has no key {name!r}{nearest(name, schema)}; '
                f'its keys are {", ".join(schema)}.'
            )
    for name in needed:
        if name not in settings:
            raise ConfigError(f'{key}{owner} needs the key {name!r}.')
    for name, value in settings.items():
        check_value(value, schema[name], f'{key}.{name}')


def check_arguments(kind: type, settings: Mapping, key: str) -> None:
    """Hold settings to what a class of ours takes.

    Args:
        kind (type): The class.
        settings (Mapping): What it is to be built with.
        key (str): The config key of these settings, for the error.

    Raises:
        ConfigError: If a name is unknown or missing, or a value does not fit.
    """
    taken, needed = arguments(kind)
    # Whatever is built already is the constructor's own business.
    built = {
        name: Any
        for name, x in settings.items()
        if name in taken and not isinstance(x, PLAIN)
    }
    schema = {**taken, **built}
    check_keys(settings, schema, key, sorted(needed), f' ({kind.__name__})')
