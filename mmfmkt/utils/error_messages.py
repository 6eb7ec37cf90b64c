"""Conversion of library errors to one line that names the config key.

The key is found from the error's message and the names of the functions in
its traceback. Local variables of libraries are not read.
"""

import inspect
import re
import traceback
from contextlib import contextmanager
from typing import Any, Callable, Iterator, List

from mmengine.config import Config
from mmengine.runner import Runner

from .configs import walk
from .errors import ConfigError

NOT_REGISTERED = re.compile(r"'?(\S+) is not in the (.+?) registry")
WORKER_ERROR = re.compile(r'^Caught (\w+) in DataLoader worker')
# Config keys that methods of MMEngine's Runner read. Other `build_<key>`
# methods have the key in their name.
KEY_OF_METHOD = dict(
    build_train_loop='train_cfg',
    build_val_loop='val_cfg',
    build_test_loop='test_cfg',
    register_hook='custom_hooks',
    register_hooks='default_hooks',
    setup_env='env_cfg',
    set_randomness='randomness',
    resume='--resume',
    load_or_resume='load_from',
)
# Keys with the split as prefix: train_dataloader, val_evaluator, ...
SPLIT_KEYS = ('dataloader', 'evaluator')
# Explanations of library messages that do not name the cause.
EXPLANATIONS = {
    'need at least one array to concatenate': 'the dataset is empty: no '
    'image is left after filtering by classes, boxes and filter_cfg',
}


@contextmanager
def errors_as_config_errors(
    cfg: Config, started: Callable[[], bool] = lambda: False
) -> Iterator[None]:
    """Convert errors of libraries to a `ConfigError` of one line.

    Args:
        cfg (Config): The config that is built or run.
        started (Callable): Returns whether the first iteration is complete;
            later errors are not converted.

    Raises:
        ConfigError: From the library's error.
    """
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        if started():
            raise
        raise ConfigError(format_error(error, cfg)) from error


def format_error(error: BaseException, cfg: Any) -> str:
    """Return an error as one line, with the config key if it is known.

    Args:
        error (BaseException): The error.
        cfg (Config): The config that was being built or run.
    """
    chain = list(exception_chain(error))
    key = config_key_of(chain, cfg)
    prefix = f'{key}: ' if key else ''
    text = error_text(chain[-1]).rstrip('. ')
    return f'{prefix}{text} (--debug shows the traceback).'


def exception_chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes, the root cause last."""
    while error is not None:
        yield error
        # MMEngine's Runner hides the cause of a TypeError in a hook.
        hidden = error.__suppress_context__ and type(error) is not TypeError
        error = error.__cause__ or (None if hidden else error.__context__)


def config_key_of(chain: List[BaseException], cfg: Any) -> str:
    """Return the config key that caused an error, or '' if unknown."""
    # Only keys that a Runner reads, not other variables of the config.
    runner_keys = inspect.signature(Runner).parameters
    cfg = {key: cfg[key] for key in runner_keys if key in cfg}
    message = str(chain[-1])
    if match := NOT_REGISTERED.search(message):
        if key := key_of_value(cfg, match[1]):
            return key
    functions = [name for error in chain for name in functions_of(error)]
    if 'build_teacher' in functions:
        # The student's config may have the same classes.
        return 'model.teacher'
    # Innermost method of a class in the config, or of Runner.
    for index, name in reversed(list(enumerate(functions))):
        qualified_class, _, method = name.rpartition('.')
        class_name = qualified_class.rpartition('.')[2]
        key = key_of_value(cfg, class_name) if class_name else ''
        if key.endswith('.type'):
            return key.removesuffix('.type')
        section = KEY_OF_METHOD.get(method) or method.partition('build_')[2]
        if section in SPLIT_KEYS:
            callers = ' '.join(functions[:index])
            if match := re.search(r'.*build_(train|val|test)_loop', callers):
                return f'{match[1]}_{section}'
        if section in runner_keys or method in KEY_OF_METHOD:
            return section
    return ''


def functions_of(error: BaseException) -> Iterator[str]:
    """Yield the function names of a traceback, the outermost first.

    Since Python 3.11 they are qualified: ``Class.method``.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        yield getattr(frame.f_code, 'co_qualname', frame.f_code.co_name)


def key_of_value(cfg: dict, name: str) -> str:
    """Return the dotted key of a string or class in a config, or ''.

    Args:
        cfg (dict): The config.
        name (str): The string without a scope, or the class's name.
    """
    for key, value in walk(cfg):
        text = getattr(value, '__name__', value)
        if isinstance(text, str) and text.split('.')[-1] == name:
            return key
    return ''


def error_text(error: BaseException) -> str:
    """Return the message of an error on one line."""
    message = str(error)
    if WORKER_ERROR.match(message):
        # The last line of the worker's traceback.
        return message.strip().splitlines()[-1]
    text = ' '.join(message.split())
    if not text and isinstance(error, AssertionError):
        line = traceback.extract_tb(error.__traceback__)[-1].line
        text = f'assertion failed: {line}'
    text = EXPLANATIONS.get(text) or f'{type(error).__name__}: {text}'
    return text if len(text) < 400 else f'{text[:396]}...'
