"""One line for an error of a library, with the config key in front.

The key is found by what the error says and by which classes and functions
were running; values of other libraries' variables are not read.
"""

import inspect
import re
import traceback
from contextlib import contextmanager
from typing import Any, Callable, Iterator, List

from mmengine.config import Config
from mmengine.registry import Registry, root
from mmengine.runner import Runner

from .configs import walk
from .errors import ConfigError
from .schema import did_you_mean

NOT_REGISTERED = re.compile(r"'?(\S+) is not in the (.+?) registry")
NOT_ACCEPTED = re.compile(r"(\w+)\.__init__\(\) got an unexpected .*'(\w+)'")
IN_WORKER = re.compile(r'^Caught (\w+) in DataLoader worker')
# MMEngine's Runner raises a TypeError of a hook anew and suppresses its cause.
IN_HOOK = re.compile(r' in <\S+ object at 0x[0-9a-f]+>$')
# Methods of MMEngine's Runner, and the section that they read, but for
# `build_...`, which have the name of theirs.
SECTIONS = dict(
    build_train_loop='train_cfg',
    build_val_loop='val_cfg',
    build_test_loop='test_cfg',
    register_hook='custom_hooks',
    register_hooks='default_hooks',
    setup_env='env_cfg',
    set_randomness='randomness',
    resume='--resume',
    load_checkpoint='load_from',
)
# What they build of a split, inside the method of its loop.
OF_A_SPLIT = ('dataloader', 'evaluator')
REMEDIES = {
    'need at least one array to concatenate': 'the data set is empty: its '
    'classes, boxes and filter_cfg leave no image',
    'area': "KeyError: 'area': MMDetection wants an 'area' of each annotation",
}


@contextmanager
def errors_as_config_errors(
    cfg: Config, begun: Callable[[], bool] = lambda: False
) -> Iterator[None]:
    """Raise what a library refuses as a `ConfigError` of one line.

    Args:
        cfg (Config): The config that is built or run.
        begun (Callable): Whether the first iteration is over; from then on
            errors pass as they are.

    Raises:
        ConfigError: From the library's error.
    """
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        if begun():
            raise
        raise ConfigError(format_error(error, cfg)) from error


def format_error(error: BaseException, cfg: Any) -> str:
    """Return an error as one line, with the config key where it is known.

    Args:
        error (BaseException): As it was raised.
        cfg (Config): The config that was being built or run.
    """
    chain = list(exception_chain(error))
    key = config_key_of(chain, cfg)
    front = f'{key}: ' if key else ''
    return (
        f'{front}{error_text(chain[-1]).rstrip(". ")} (--debug shows where).'
    )


def exception_chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes, the root cause last."""
    while error is not None:
        yield error
        hidden = error.__suppress_context__ and not IN_HOOK.search(str(error))
        error = error.__cause__ or (None if hidden else error.__context__)


def config_key_of(chain: List[BaseException], cfg: Any) -> str:
    """Return the config key at fault; empty where it is not known."""
    # Without the variables of a config that no run reads.
    names = inspect.signature(Runner).parameters
    cfg = {name: cfg[name] for name in names if name in cfg}
    last = str(chain[-1])
    if match := NOT_REGISTERED.search(last):
        if key := key_of_value(cfg, match[1]):
            return key
    refused = NOT_ACCEPTED.search(last)
    argument = f'.{refused[2]}' if refused else ''
    called = [name for error in chain for name in functions_of(error)]
    called += [f'{refused[1]}.__init__'] if refused else []
    # The innermost class that the config names, or method of a Runner.
    for index, name in reversed(list(enumerate(called))):
        owner, _, method = name.rpartition('.')
        owner = owner.rpartition('.')[2]
        key = key_of_value(cfg, owner) if owner else ''
        if key.endswith('.type'):
            return key.removesuffix('.type') + argument
        section = SECTIONS.get(method) or method.partition('build_')[2]
        if section in OF_A_SPLIT:
            loops = ' '.join(called[:index])
            if match := re.search(r'.*build_(train|val|test)_loop', loops):
                return f'{match[1]}_{section}{argument}'
        if section in names or method in SECTIONS:
            return section + argument
    return ''


def functions_of(error: BaseException) -> Iterator[str]:
    """Yield the functions of a traceback, the outermost first.

    With their class (``Class.method``) from Python 3.11 on.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        yield getattr(frame.f_code, 'co_qualname', frame.f_code.co_name)


def key_of_value(cfg: dict, name: str) -> str:
    """Return the dotted key of a string or class in a config, or ''.

    Args:
        cfg (dict): The config.
        name (str): The string, with or without a scope, or the class's name.
    """
    for key, value in walk(cfg):
        text = getattr(value, '__name__', value)
        if isinstance(text, str) and text.split('.')[-1] == name:
            return key
    return ''


def error_text(error: BaseException) -> str:
    """Return what an error says, in one line."""
    text = ' '.join(str(error.args[0] if error.args else '').split())
    if match := NOT_REGISTERED.search(text):
        name, registry = match.groups()
        hint = did_you_mean(name, registered_names())
        return f'{name!r} is not in the {registry} registry{hint}'
    if IN_WORKER.match(text):
        # The last line of the worker's own traceback.
        return str(error).strip().splitlines()[-1]
    if isinstance(error, OSError):
        text = str(error)
    if not text and isinstance(error, AssertionError):
        line = traceback.extract_tb(error.__traceback__)[-1].line
        text = f'{line!r} does not hold'
    text = REMEDIES.get(text) or f'{type(error).__name__}: {text}'
    return text if len(text) < 400 else f'{text[:396]}...'


def registered_names() -> List[str]:
    """Return all names in all registries of all libraries."""
    todo = [x for x in vars(root).values() if isinstance(x, Registry)]
    names: List[str] = []
    while todo:
        registry = todo.pop()
        names += registry.module_dict
        todo += registry.children.values()
    return names
