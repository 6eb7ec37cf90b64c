"""Loading of checkpoints without executing code from them.

A checkpoint is a pickle, which can call any importable function while it is
loaded. The unpickler here only finds the classes and functions of MMEngine's
checkpoints: tensors, arrays, containers, parameter schedulers and history
buffers ("Restricting Globals" in Python's documentation of pickle).
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
REMEDY = (
    'which could run code. Use a checkpoint that holds tensors only or, if '
    f'you trust its source, set the environment variable {TRUST}=1'
)
SCHEDULERS = 'mmengine.optim.scheduler.'
ALLOWED = re.compile(
    r'collections\.(OrderedDict|defaultdict|Counter)'
    r'|builtins\.(set|frozenset|complex|slice|bytes|bytearray|range|int|float|str'
    r'|bool|list|tuple|dict|object)'
    # Tensors with attributes; torch.load(weights_only=True) allows it, too.
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
    """Checkpoint that could run code, or with another SHA-256 digest."""


class DamagedCheckpointError(ConfigError):
    """File that is missing, damaged or not a checkpoint."""


class RestrictedUnpickler(pickle.Unpickler):
    """Unpickler that only finds the globals of MMEngine's checkpoints."""

    def find_class(self, module: str, name: str) -> Any:
        # Name in old pickle protocols.
        module = 'builtins' if module == '__builtin__' else module
        if (module, name) == ('builtins', 'getattr'):
            return restricted_getattr
        if ALLOWED.fullmatch(f'{module}.{name}'):
            return super().find_class(module, name)
        if module.startswith(SCHEDULERS) and '.' not in name:
            found = super().find_class(module, name)
            if isinstance(found, type) and found.__module__ == module:
                return found
        raise UntrustedCheckpointError(f'names {module}.{name}, {REMEDY}')


def restricted_getattr(owner: Any, name: str) -> Any:
    """Return a method of a history buffer or a scheduler.

    MMEngine saves history buffers with their statistics and some schedulers
    with a method.
    """
    kind = owner if isinstance(owner, type) else type(owner)
    allowed = kind is HistoryBuffer or kind.__module__.startswith(SCHEDULERS)
    if not allowed or name.startswith('__') or not hasattr(kind, name):
        raise UntrustedCheckpointError(
            f'asks for {name!r} of a {kind.__name__}, {REMEDY}'
        )
    return getattr(owner, name)


# Module for torch.load's argument ``pickle_module``.
RESTRICTED_PICKLE = SimpleNamespace(
    __name__='pickle',
    Unpickler=RestrictedUnpickler,
    load=lambda file, **kwargs: RestrictedUnpickler(file, **kwargs).load(),
    UnpicklingError=pickle.UnpicklingError,
)


@contextmanager
def restricted_torch_load() -> Iterator[None]:
    """Replace ``torch.load`` by a version that executes no code of files.

    Raises:
        UntrustedCheckpointError: If a file could run code.
    """
    original_load = torch.load
    if os.environ.get(TRUST) == '1' or isinstance(original_load, partial):
        yield  # trusted, or nested in another such context
        return
    torch.load = partial(load_restricted, original_load)
    try:
        yield
    finally:
        torch.load = original_load


@contextmanager
def unrestricted_torch_load() -> Iterator[None]:
    """Undo `restricted_torch_load` inside of it."""
    restricted_load, trusted = torch.load, os.environ.get(TRUST)
    if isinstance(restricted_load, partial):
        torch.load = restricted_load.args[0]
    os.environ[TRUST] = '1'
    try:
        yield
    finally:
        torch.load = restricted_load
        if trusted is None:
            del os.environ[TRUST]


def load_restricted(
    original_load: Any, file: Any, *args: Any, **kwargs: Any
) -> Any:
    """Call ``torch.load`` with the restricted unpickler.

    Args:
        original_load (Callable): PyTorch's ``torch.load``.
        file (str | Path | BinaryIO): File to load.
        args: As ``torch.load``.
        kwargs: As ``torch.load``.
    """
    kwargs.update(weights_only=False, pickle_module=RESTRICTED_PICKLE)
    name = getattr(file, 'name', file)
    try:
        # The second positional argument is map_location, the third one
        # pickle_module.
        return original_load(file, *args[:1], **kwargs)
    except UntrustedCheckpointError as error:
        raise UntrustedCheckpointError(
            f'The checkpoint {name} {error}.'
        ) from None
    except OSError:
        raise
    except Exception as error:  # unpickling other bytes may raise anything
        raise DamagedCheckpointError(
            f'The checkpoint {name} cannot be read; it is damaged '
            f'or not a PyTorch file ({type(error).__name__}: {error}).'
        ) from error


def load_checkpoint(path: str) -> dict:
    """Load a checkpoint with a state dict.

    Args:
        path (str): As `read_checkpoint`.

    Raises:
        UntrustedCheckpointError: As `read_checkpoint`.
        DamagedCheckpointError: Also if the file has no state dict.
    """
    loaded = read_checkpoint(path)
    is_dict = isinstance(loaded, dict)
    state = loaded.get('state_dict', loaded) if is_dict else {}
    if not any(isinstance(x, torch.Tensor) for x in state.values()):
        raise DamagedCheckpointError(
            f'The checkpoint {path} has no state dict.'
        )
    return loaded


def read_checkpoint(path: str) -> Any:
    """Load a file to the CPU with MMEngine, without executing its code.

    Args:
        path (str): Path or URL in any form that MMEngine accepts. With the
            suffix ``#sha256=...``, the file must have that digest, which may
            be shortened.

    Raises:
        UntrustedCheckpointError: If the file could run code or has another
            digest.
        DamagedCheckpointError: If the file cannot be read or downloaded.
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
    """Verify the SHA-256 digest of a file; download a URL first.

    Args:
        path (str): Path or http(s) URL.
        digest (str): SHA-256 of the file, or its first digits.

    Returns:
        str: Path of the local file.
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
            f'The checkpoint {file} has the SHA-256 {found}, expected '
            f'{digest}. Delete the file to download it again, or correct the '
            'digest.'
        )
    return str(file)


def digest(network: nn.Module) -> str:
    """Return the SHA-256 of a network's state dict.

    Args:
        network (nn.Module): The network, on any device.
    """
    found = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        found.update(name.encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        found.update(flat.view(torch.uint8).numpy())
    return found.hexdigest()
