"""Cache of a frozen teacher's outputs on disk, keyed by its input images.

A key is a hash of an image's values after augmentation, so each flip, crop
and padding has a different key. The teacher runs only on images that are not
in the cache.
"""

import hashlib
import json
import sqlite3
from contextlib import closing, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import torch
from mmengine.logging import print_log
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmfmkt.utils import ConfigError
from mmfmkt.utils.checkpoints import digest
from mmfmkt.utils.schema import Positive

# Version of the format of the entries.
VERSION = 2
GIGABYTE = 1e9
# Limit of the wait for a lock on the database, in seconds.
TIMEOUT_S = 120.0
# Integer types by element size in bytes, to read values as integers.
INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class TeacherCache:
    """SQLite file of a teacher's outputs, which processes may share.

    Args:
        path (str): Path of the file, which is created if it is missing.
        max_gb (float): Size in 10^9 bytes at which writing stops.

    Attributes:
        hits (int): Number of images that were in the cache.
        lookups (int): Number of images that were looked up.
        entry_bytes (int): Size of the outputs of one image, in bytes.

    Raises:
        ConfigError: If the file is not a cache or cannot be written.
    """

    def __init__(self, path: str, max_gb: Positive = 10.0) -> None:
        self.path, self.max_gb = Path(path), max_gb
        self.hits = self.lookups = self.entry_bytes = 0
        self._teacher = b''
        self._is_full = False
        with self._open() as connection:
            connection.execute('PRAGMA journal_mode=WAL')
            connection.execute(
                'CREATE TABLE IF NOT EXISTS outputs '
                '(key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID'
            )

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Open a connection for one transaction.

        Forked processes must not share a connection.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(
                sqlite3.connect(self.path, timeout=TIMEOUT_S)
            ) as connection:
                # A power failure may lose entries.
                connection.execute('PRAGMA synchronous=NORMAL')
                with connection:
                    yield connection
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(
                f'model.teacher.cache: {str(self.path)!r} cannot be used '
                f'({error}): name another file, or delete it.'
            ) from error

    @property
    def bytes_on_disk(self) -> int:
        """Size of the database in bytes."""
        with self._open() as connection:
            return connection.execute(
                'SELECT page_count * page_size '
                'FROM pragma_page_count, pragma_page_size'
            ).fetchone()[0]

    def set_teacher(self, teacher: nn.Module, *settings: Any) -> None:
        """Set the teacher whose outputs are read and written.

        Args:
            teacher (nn.Module): The teacher, which is identified by its
                weights and its structure.
            settings: Further values on which its outputs depend.
        """
        identity = repr((VERSION, digest(teacher), str(teacher), settings))
        self._teacher = hashlib.sha256(identity.encode()).digest()

    def outputs(
        self,
        images: Tensor,
        data_samples: List[BaseDataElement],
        run: Callable[[Tensor, List[BaseDataElement]], Dict[str, Any]],
    ) -> Dict[str, Any]:
        """Return the teacher's outputs for a batch.

        Args:
            images (Tensor): The teacher's input, ``(B, C, H, W)``.
            data_samples (list): Meta data of the images.
            run (Callable): Function that runs the teacher on images and
                their meta data.

        Returns:
            dict: Result of ``run``: by tap, tensors or dicts of tensors whose
            first axis is the images.
        """
        precision = (str(images.dtype), matmul_dtype(images.device))
        prefix = hashlib.sha256(
            self._teacher + repr((images.shape[1:], precision)).encode()
        ).digest()[:16]
        keys = [prefix + x for x in hash_images(images)]
        entries = self._read(keys)
        missing = [i for i, key in enumerate(keys) if key not in entries]
        self.lookups += len(keys)
        self.hits += len(keys) - len(missing)
        if missing:
            outputs = run(images[missing], [data_samples[i] for i in missing])
            new_entries = {
                keys[i]: pack(outputs, j) for j, i in enumerate(missing)
            }
            entries.update(new_entries)
            self._write(new_entries)
        self.entry_bytes = len(entries[keys[0]])
        return unpack([entries[key] for key in keys], images.device)

    def _read(self, keys: List[bytes]) -> Dict[bytes, bytes]:
        """Return the cached entries by key."""
        with self._open() as connection:
            rows = {
                key: connection.execute(
                    'SELECT value FROM outputs WHERE key = ?', (key,)
                ).fetchone()
                for key in keys
            }
        return {key: row[0] for key, row in rows.items() if row}

    def _write(self, entries: Dict[bytes, bytes]) -> None:
        if self._is_full:
            return
        if self.bytes_on_disk > self.max_gb * GIGABYTE:
            self._is_full = True
            print_log(
                f'model.teacher.cache: {self.path} has reached max_gb, '
                f'{self.max_gb}: the teacher runs on images that are not in '
                'the cache.',
                logger='current',
            )
            return
        with self._open() as connection:
            connection.executemany(
                'INSERT OR IGNORE INTO outputs VALUES (?, ?)', entries.items()
            )


def hash_images(images: Tensor) -> List[bytes]:
    """Return a 128-bit hash of each image, computed on its device.

    Multilinear hashing modulo 2^64 (Thorup, arXiv 1504.06804), first of rows,
    then of images. Two different images collide with a probability of about
    2^-60.
    """
    x = images.contiguous().view(INTEGERS[images.element_size()])
    x = x.flatten(1, -2).long()
    hashes = []
    for seed in range(2):
        rows = (x * odd_numbers(2 * seed, x.shape[-1], x.device)).sum(-1)
        rows = rows ^ (rows >> 29)
        weights = odd_numbers(2 * seed + 1, rows.shape[-1], x.device)
        hashes.append((rows * weights).sum(-1))
    return [
        b''.join(x.to_bytes(8, 'little', signed=True) for x in pair)
        for pair in torch.stack(hashes, 1).tolist()
    ]


@lru_cache(maxsize=256)
def odd_numbers(seed: int, size: int, device: torch.device) -> Tensor:
    """Return random odd 64-bit integers, which depend on the seed alone."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randint(-(2**63), 2**63 - 1, (size,), generator=generator)
    return numbers.to(device) | 1


def matmul_dtype(device: torch.device) -> str:
    """Return the type of matrix products, which depends on autocast."""
    matrix = torch.ones(1, 1, device=device)
    return str((matrix @ matrix).dtype)


def pack(outputs: Dict[str, Any], index: int) -> bytes:
    """Return the outputs of one image as bytes: a line of JSON, then values.

    The JSON lists tap, level, shape and type of each tensor. Outputs without
    levels, such as logits, have the level None.

    Args:
        outputs (dict): The teacher's outputs for a batch, by tap.
        index (int): Index of the image in the batch.
    """
    layout, values = [], []
    for tap, output in outputs.items():
        levels = output if isinstance(output, dict) else {None: output}
        for level, tensor in levels.items():
            tensor = tensor[index].detach().contiguous().cpu()
            dtype_name = str(tensor.dtype).removeprefix('torch.')
            layout.append((tap, level, list(tensor.shape), dtype_name))
            raw = tensor.reshape(-1).view(torch.uint8)
            values.append(raw.numpy().tobytes())
    return b'\n'.join([json.dumps(layout).encode(), b''.join(values)])


def unpack(entries: List[bytes], device: torch.device) -> Dict[str, Any]:
    """Return the outputs of a batch from the entries of its images."""
    raw = torch.frombuffer(bytearray(b''.join(entries)), dtype=torch.uint8)
    raw = raw.view(len(entries), -1)
    outputs: Dict[str, Any] = {}
    start = entries[0].index(b'\n') + 1
    # Images of a batch have equal shapes.
    for tap, level, shape, dtype_name in json.loads(entries[0][:start]):
        dtype = getattr(torch, dtype_name)
        size = torch.Size(shape).numel() * dtype.itemsize
        # The copy aligns the values, which may start at any byte of an entry.
        values = raw[:, start : start + size].clone(
            memory_format=torch.contiguous_format
        )
        tensor = values.view(dtype).view(len(entries), *shape).to(device)
        start += size
        if level is None:
            outputs[tap] = tensor
        else:
            outputs.setdefault(tap, {})[level] = tensor
    return outputs
