"""Reading checkpoints, and running nothing that came in them.

A checkpoint is a pickle, which can name any function of any library to be
called as it is read. Here it can name what MMEngine's own checkpoints are
made of, and nothing else (Python's documentation of pickle, "Restricting
Globals"): tensors, arrays, plain containers, its schedulers and its buffers
of logged values.
"""

import hashlib
import os
import pickle
import re
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Iterator
from urllib.parse import urlparse

import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from torch import nn

from .errors import ConfigError

TRUST = 'MMFMKT_TRUST_CHECKPOINTS'
CURE = (
    'which could run code: get it from a source that you trust, as tensors '
    f'alone, or, if it is your own, set {TRUST}=1 in the environment'
)
SCHEDULERS = 'mmengine.optim.scheduler.'
ALLOWED = re.compile(
    r'collections\.(OrderedDict|defaultdict|Counter)'
    r'|builtins\.(set|frozenset|complex|slice|bytes|bytearray|range|int|float|str'
    r'|bool|list|tuple|dict|object)'
    # As PyTorch's own loading of weights alone allows it: a tensor that has
    # attributes, such as the marks of a compiler.
    r'|torch\._tensor\._rebuild_from_type_v2'
    r'|_codecs\.encode|copyreg\._reconstructor|argparse\.Namespace'
    r'|torch\._utils\._rebuild_(tensor|tensor_v2|tensor_v3|parameter'
    r'|parameter_with_state|sparse_tensor|qtensor|meta_tensor_no_storage'
    r'|device_tensor_from_numpy|device_tensor_from_cpu_tensor)'
    r'|torch\.(nn\.parameter\.)?(Parameter|Buffer|Tensor|Size|device|dtype)'
    r'|torch\.(storage\.)?\w*Storage'
    r'|torch\.(b?float\d*|double|half|u?int\d+|long|short|bool|complex\d+)'
    r'|numpy\.(ndarray|dtype|bool_?|u?int\d*|float\d*|complex\d*|longlong'
    r'|str_|bytes_|dtypes\.\w+DType)'
    r'|numpy\.(_core|core)\.(multiarray|numeric)\.'
    r'(_reconstruct|scalar|_frombuffer)'
    r'|mmengine\.logging\.history_buffer\.HistoryBuffer'
    r'|mmengine\.config\.config\.ConfigDict'
)


class UntrustedCheckpointError(ConfigError):
    """A checkpoint that could run code; one sentence that says what to do."""


class DamagedCheckpointError(ConfigError):
    """What is no checkpoint, or no longer; one sentence."""


class RestrictedUnpickler(pickle.Unpickler):
    """Finds what checkpoints are made of, and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        # As old protocols have it.
        module = 'builtins' if module == '__builtin__' else module
        if (module, name) == ('builtins', 'getattr'):
            return method_of
        if ALLOWED.fullmatch(f'{module}.{name}'):
            return super().find_class(module, name)
        if module.startswith(SCHEDULERS) and '.' not in name:
            found = super().find_class(module, name)
            if isinstance(found, type) and found.__module__ == module:
                return found
        raise UntrustedCheckpointError(f'names {module}.{name}, {CURE}')


def method_of(owner: Any, name: str) -> Any:
    """Python's ``getattr``, for methods that MMEngine saves.

    Its buffers are saved with their statistics, some schedulers with the
    function that they follow.
    """
    kind = owner if isinstance(owner, type) else type(owner)
    saves = kind is HistoryBuffer or kind.__module__.startswith(SCHEDULERS)
    if not saves or name.startswith('__') or not hasattr(kind, name):
        raise UntrustedCheckpointError(
            f'asks for {name!r} of a {kind.__name__}, {CURE}'
        )
    return getattr(owner, name)


RESTRICTED = SimpleNamespace(
    __name__='pickle',
    Unpickler=RestrictedUnpickler,
    load=lambda file, **kwargs: RestrictedUnpickler(file, **kwargs).load(),
    UnpicklingError=pickle.UnpicklingError,
)


@contextmanager
def restricted_torch_load() -> Iterator[None]:
    """Have ``torch.load`` run nothing, whoever calls it meanwhile.

    Raises:
        UntrustedCheckpointError: Where a file names what could run code.
    """
    whole = torch.load
    if os.environ.get(TRUST) == '1' or isinstance(whole, partial):
        yield  # trusted, or guarded already
        return
    torch.load = partial(load_restricted, whole)
    try:
        yield
    finally:
        torch.load = whole


@contextmanager
def unrestricted_torch_load() -> Iterator[None]:
    """Have ``torch.load`` be PyTorch's own again, as `TRUST` does."""
    guarded, trusted = torch.load, os.environ.get(TRUST)
    if isinstance(guarded, partial):
        torch.load = guarded.args[0]
    os.environ[TRUST] = '1'
    try:
        yield
    finally:
        torch.load = guarded
        if trusted is None:
            del os.environ[TRUST]


def load_restricted(whole: Any, file: Any, *args: Any, **kwargs: Any) -> Any:
    """``torch.load`` with the restricted unpickler.

    Args:
        whole (Callable): The real one.
        file (str | Path | BinaryIO): What to read.
        args: As ``torch.load``.
        kwargs: As ``torch.load``.
    """
    kwargs.pop('weights_only', None)
    kwargs.pop('pickle_module', None)
    device = args[:1]
    try:
        return whole(
            file,
            *device,
            pickle_module=RESTRICTED,
            weights_only=False,
            **kwargs,
        )
    except UntrustedCheckpointError as error:
        raise UntrustedCheckpointError(
            f'The checkpoint {name_of(file)} {error}.'
        ) from None
    except OSError:
        raise
    except Exception as error:  # Bytes that are no pickle fail in any way.
        raise DamagedCheckpointError(
            f'The checkpoint {name_of(file)} cannot be read; it is damaged, '
            f'or no checkpoint of PyTorch ({type(error).__name__}: {error}).'
        ) from error


def name_of(file: Any) -> str:
    """What a file is called, where it has a name."""
    name = getattr(file, 'name', file)
    return str(name) if isinstance(name, (str, Path)) else ''


def load_checkpoint(path: str) -> dict:
    """Read a checkpoint that holds tensors by name.

    Args:
        path (str): As `read_checkpoint`.

    Raises:
        UntrustedCheckpointError: As `read_checkpoint`.
        DamagedCheckpointError: Also if it holds something else.
    """
    state = loaded = read_checkpoint(path)
    if isinstance(loaded, dict):
        state = loaded.get('state_dict', loaded)
    values = state.values() if isinstance(state, dict) else ()
    if not any(isinstance(x, torch.Tensor) for x in values):
        raise DamagedCheckpointError(
            f'The checkpoint {path} holds no tensors by name.'
        )
    return loaded


def read_checkpoint(path: str) -> Any:
    """Read a checkpoint onto the CPU, as MMEngine does, but run nothing.

    Args:
        path (str): Path or URL, in any form that MMEngine takes. With
            ``#sha256=...`` behind it, the file must have that digest, or
            one that begins so.

    Raises:
        UntrustedCheckpointError: If it names what could run code, or has another
            digest.
        DamagedCheckpointError: If it cannot be read or fetched.
    """
    file, _, digest = path.partition('#sha256=')
    try:
        if digest:
            file = verify_sha256(file, digest)
        with restricted_torch_load():
            return CheckpointLoader.load_checkpoint(file, map_location='cpu')
    except OSError as error:
        raise DamagedCheckpointError(
            f'The checkpoint {path} cannot be read ({error}).'
        ) from error


def verify_sha256(path: str, digest: str) -> str:
    """The path of a file, fetched if it must be, that has a digest.

    Args:
        path (str): Path or http(s) URL.
        digest (str): First digits, or all, of its SHA-256.
    """
    digest = digest.lower()
    file = Path(path).expanduser()
    if '://' in path:
        folder = Path(torch.hub.get_dir()) / 'checkpoints'
        file = folder / Path(urlparse(path).path).name
        if not file.exists():
            folder.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(path, str(file))
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if not found.startswith(digest):
        raise UntrustedCheckpointError(
            f'The checkpoint {file} is not the one that was asked for: its '
            f'SHA-256 is {found}, expected was {digest}; delete it to have it '
            'fetched again, or correct the digest.'
        )
    return str(file)


def digest(network: nn.Module) -> str:
    """SHA-256 of a network's tensors, by their names.

    Args:
        network (nn.Module): The network, on any device.
    """
    found = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        found.update(name.encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        found.update(flat.view(torch.uint8).numpy())
    return found.hexdigest()
