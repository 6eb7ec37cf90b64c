"""One sentence for what a library says of a config that does not work.

The libraries refuse bad settings where they meet them, with a traceback of
their own code. Until training has begun the config is what is at fault:
which of its keys is found by the names in the error.
"""

import inspect
import re
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Iterator, List, Optional, Tuple

from mmengine.config import Config
from mmengine.registry import Registry, root
from torch.utils.data import DataLoader

from .schema import nearest

OURS = str(Path(__file__).resolve().parents[1])
NOT_THERE = re.compile(r"'?(\S+) is not in the (.+?) registry")
NOT_TAKEN = re.compile(
    r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'"
)
IN_WORKER = re.compile(r'^Caught (\w+) in DataLoader worker')
# MMEngine's Runner raises a TypeError of a hook anew, and says of which.
IN_HOOK = re.compile(r' in <\S+ object at 0x[0-9a-f]+>$')
# Methods of MMEngine's Runner, and what they build from.
SECTIONS = dict(
    build_train_loop='train_cfg',
    build_val_loop='val_cfg',
    build_test_loop='test_cfg',
    build_dataloader='train_dataloader',
    build_optim_wrapper='optim_wrapper',
    build_param_scheduler='param_scheduler',
    build_evaluator='val_evaluator',
    build_visualizer='visualizer',
    build_log_processor='log_processor',
    register_hook='custom_hooks',
    register_hooks='default_hooks',
    setup_env='env_cfg',
    parse_args='the command line',
    set_randomness='randomness',
    wrap_model='model_wrapper_cfg',
    build_model='model',
    resume='--resume',
    load_checkpoint='load_from',
    first_batch='train_dataloader, in the first batch',
    try_losses='model, in the first batch',
    try_clipping='optim_wrapper.clip_grad',
)

KNOWN = {
    'need at least one array to concatenate': 'the data set is empty: of its '
    'images none is left, by their classes, boxes or filter_cfg',
}

# What the tools note here as they go.
said = SimpleNamespace(config=None, training=False)


def explain(error: BaseException) -> Optional[str]:
    """Say what a config has that a library refuses.

    Args:
        error (BaseException): As it reached a tool.

    Returns:
        str, optional: A sentence, or None where the config is not at fault:
        once training has begun, and for what broke in mmfmkt itself.
    """
    chain = list(origins(error))
    frames = traceback.extract_tb(chain[-1].__traceback__)
    in_worker = IN_WORKER.match(str(error))
    if said.training or not frames:
        return None
    ours = frames[-1].filename.startswith(OURS)
    # What cannot be built is refused by a constructor, of a library or ours.
    if ours and frames[-1].name != '__init__' and not in_worker:
        return None
    config = said.config or Config()
    key = place(chain, config)
    front = f'{key}: ' if key else ''
    reason = reason_of(chain[-1], frames).rstrip('. ')
    return f'{front}{reason} (--debug shows where).'


def origins(error: BaseException) -> Iterator[BaseException]:
    """An error, and those that it comes from, the first one last."""
    while error is not None:
        yield error
        hidden = error.__suppress_context__ and not IN_HOOK.search(str(error))
        error = error.__cause__ or (None if hidden else error.__context__)


def place(chain: List[BaseException], config: Config) -> str:
    """The config key that is at fault."""
    for error in chain:
        if found := NOT_THERE.search(str(error)):
            if key := path_of(config, found[1]):
                return key
    calls = [x for error in chain for x in calls_of(error)]
    # The innermost part that the config names.
    for name, values in calls[::-1]:
        kind = values.get('obj_type') if name == 'build_from_cfg' else None
        kind = getattr(kind, '__name__', kind)
        key = path_of(config, str(kind)) if kind else ''
        if key.endswith('.type'):
            key = key.removesuffix('.type')
            taken = NOT_TAKEN.search(str(chain[-1]))
            return f'{key}.{taken[2]}' if taken else key
    for name, _ in calls[::-1]:
        if name in SECTIONS:
            return SECTIONS[name]
    return ''


def calls_of(error: BaseException) -> Iterator[Tuple[str, dict]]:
    """Functions that were running, the outermost first, and their values."""
    entry = error.__traceback__
    while entry is not None:
        frame = entry.tb_frame
        yield frame.f_code.co_name, frame.f_locals
        entry = entry.tb_next


def path_of(part: Any, wanted: str, front: str = '') -> str:
    """The dotted key of a value in a config; empty where it is not there."""
    rows = (
        part.items()
        if isinstance(part, (dict, Config))
        else enumerate(part)
        if isinstance(part, (list, tuple))
        else ()
    )
    for key, value in rows:
        path = f'{front}.{key}' if front else str(key)
        if isinstance(value, str) and value.split('.')[-1] == wanted:
            return path
        if found := path_of(value, wanted, path):
            return found
    return ''


def reason_of(error: BaseException, frames: List[Any]) -> str:
    """What an error says, in a line."""
    text = ' '.join(str(error.args[0] if error.args else '').split())
    if found := NOT_THERE.search(text):
        name, registry = found.groups()
        hint = nearest(name, all_names())
        return f'there is no {name!r} in the {registry} registry{hint}'
    if IN_WORKER.match(text):
        return str(error).strip().splitlines()[-1]  # of the worker's own
    if not text and isinstance(error, AssertionError):
        text = f'{frames[-1].line!r} does not hold'
    if found := NOT_TAKEN.search(text):
        text += nearest(found[2], parameters_of(found[1]))
    if isinstance(error, OSError):
        text = str(error)
    text = KNOWN.get(text) or (
        f'{type(error).__name__}: {text}' if text else repr(error)
    )
    return text if len(text) < 400 else f'{text[:396]}...'


def modules() -> Iterator[dict]:
    """What is registered, by name, of all registries of all libraries."""
    todo = [x for x in vars(root).values() if isinstance(x, Registry)]
    while todo:
        registry = todo.pop()
        yield registry.module_dict
        todo += registry.children.values()


def all_names() -> List[str]:
    """All names that are registered."""
    return [name for names in modules() for name in names]


def parameters_of(name: str) -> List[str]:
    """What a registered class, and its bases, can be built with."""
    for names in ({'DataLoader': DataLoader}, *modules()):
        kind = names.get(name)
        if inspect.isclass(kind):
            return [
                parameter
                for base in kind.__mro__
                if '__init__' in vars(base)
                for parameter in inspect.signature(base.__init__).parameters
                if parameter not in ('self', 'args', 'kwargs')
            ]
    return []
