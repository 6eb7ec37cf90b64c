"""Loading of checkpoints without executing code from them.

A checkpoint is a pickle, which can call any importable function while it is
loaded. The unpickler here refuses all but the classes and functions of
MMEngine's checkpoints: tensors, arrays, containers, parameter schedulers and
history buffers ("Restricting Globals" in Python's documentation of pickle).
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
# End of the messages about a class or function that is refused.
REMEDY = (
    'which could run code. Use a checkpoint that holds tensors only or, if '
    f'you trust its source, set the environment variable {TRUST}=1'
)
SCHEDULERS = 'mmengine.optim.scheduler.'
# Full names of the classes and functions that may be loaded.
ALLOWED = re.compile(
    r'collections\.(OrderedDict|defaultdict|Counter)'
    r'|builtins\.(set|frozenset|complex|slice|bytes|bytearray|range|int|float|str'
    r'|bool|list|tuple|dict|object)'
    # Needed for tensors with attributes; weights_only=True allows it, too.
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
    """Checkpoint that could run code or has an unexpected digest."""


class DamagedCheckpointError(ConfigError):
    """File that is missing, damaged or not a checkpoint."""


class RestrictedUnpickler(pickle.Unpickler):
    """Unpickler that refuses classes and functions not in ``ALLOWED``."""

    def find_class(self, module: str, name: str) -> Any:
        # Old pickle protocols use Python 2's name of the module.
        module = 'builtins' if module == '__builtin__' else module
        if (module, name) == ('builtins', 'getattr'):
            return restricted_getattr
        if ALLOWED.fullmatch(f'{module}.{name}'):
            return super().find_class(module, name)
        if module.startswith(SCHEDULERS) and '.' not in name:
            scheduler = super().find_class(module, name)
            if isinstance(scheduler, type) and scheduler.__module__ == module:
                return scheduler
        raise UntrustedCheckpointError(f'names {module}.{name}, {REMEDY}')


def restricted_getattr(owner: Any, name: str) -> Any:
    """Return a method of a history buffer or a scheduler.

    Checkpoints of MMEngine contain methods of these objects, which pickle
    stores as calls of ``getattr``.
    """
    cls = owner if isinstance(owner, type) else type(owner)
    allowed = cls is HistoryBuffer or cls.__module__.startswith(SCHEDULERS)
    if not allowed or name.startswith('__') or not hasattr(cls, name):
        raise UntrustedCheckpointError(
            f'asks for {name!r} of a {cls.__name__}, {REMEDY}'
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
    """Replace ``torch.load`` by a version that refuses files with code.

    Raises:
        UntrustedCheckpointError: If a file could run code.
    """
    original_load = torch.load
    if os.environ.get(TRUST) == '1' or isinstance(original_load, partial):
        yield  # checkpoints are trusted, or this is a nested context
        return
    torch.load = partial(load_restricted, original_load)
    try:
        yield
    finally:
        torch.load = original_load


@contextmanager
def unrestricted_torch_load() -> Iterator[None]:
    """Restore the original ``torch.load`` in `restricted_torch_load`."""
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
        args: Other positional arguments of ``torch.load``.
        kwargs: Keyword arguments of ``torch.load``.
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
    except Exception as error:  # damaged files raise errors of any type
        raise DamagedCheckpointError(
            f'The checkpoint {name} cannot be read; it is damaged '
            f'or not a PyTorch file ({type(error).__name__}: {error}).'
        ) from error


def load_checkpoint(path: str) -> dict:
    """Load a checkpoint with a state dict.

    Args:
        path (str): Path or URL, as for `read_checkpoint`.

    Raises:
        UntrustedCheckpointError: If the file could run code or has another
            digest.
        DamagedCheckpointError: If the file cannot be read or has no state
            dict.
    """
    checkpoint = read_checkpoint(path)
    state = state_dict_of(checkpoint) if isinstance(checkpoint, dict) else {}
    if not any(isinstance(x, torch.Tensor) for x in state.values()):
        raise DamagedCheckpointError(
            f'The checkpoint {path} has no state dict; it must be one, or '
            "have one under the key 'state_dict' or 'model'."
        )
    return checkpoint


def state_dict_of(checkpoint: dict) -> dict:
    """Return the state dict in the content of a checkpoint.

    MMEngine stores it as ``state_dict``, many other projects as ``model``.
    """
    for key in ('state_dict', 'model'):
        if isinstance(checkpoint.get(key), dict):
            return checkpoint[key]
    return checkpoint


def read_checkpoint(path: str) -> Any:
    """Load a file to the CPU with MMEngine, without executing its code.

    Args:
        path (str): Path or URL in any form that MMEngine accepts. With the
            suffix ``#sha256=...``, the file must have that digest; its first
            digits are enough.

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
    actual = hashlib.sha256(file.read_bytes()).hexdigest()
    if not actual.startswith(digest):
        raise UntrustedCheckpointError(
            f'The checkpoint {file} has the SHA-256 {actual}, expected '
            f'{digest}. Delete the file to download it again, or correct the '
            'digest.'
        )
    return str(file)


def digest(network: nn.Module) -> str:
    """Return the SHA-256 of a network's state dict.

    Args:
        network (nn.Module): The network, on any device.
    """
    sha256 = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        sha256.update(name.encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        sha256.update(flat.view(torch.uint8).numpy())
    return sha256.hexdigest()
