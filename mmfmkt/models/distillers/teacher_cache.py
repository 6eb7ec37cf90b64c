"""What a frozen teacher said of views that it has seen, kept on disk.

A frozen teacher says the same of the same pixels. What it said is found again
by what it was shown: a digest of the values of its view of an image, so
flips, crops and paddings are told apart without anyone having to say how a
view was made, and what has not been seen is asked of the teacher.
"""

import hashlib
import json
import sqlite3
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import torch
from mmengine.logging import print_log
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmfmkt.utils import ConfigError
from mmfmkt.utils.checkpoints import digest

# Bumped where what entries hold changes.
VERSION = 1
GIGABYTE = 1e9
WAIT = 120.0
# SQLite's limit of what one question may name.
MOST = 500
WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
Layout = List[Tuple[str, List[int], str]]


class TeacherCache:
    """An SQLite file of a teacher's outputs; processes may share it.

    Args:
        path (str): The file; it is made where there is none.
        max_gb (float): Size in 10^9 bytes from which on nothing is added.

    Attributes:
        found (int): Views that were read from the file.
        asked (int): Views that were looked for.
        entry_bytes (int): Size of the last view's outputs.

    Raises:
        ConfigError: If the file is something else, or cannot be written.
    """

    def __init__(self, path: str, max_gb: float = 10.0) -> None:
        self.path, self.max_gb = Path(path), max_gb
        self.found = self.asked = self.entry_bytes = 0
        self._teacher = b''
        self._full = False
        self._multipliers: Dict[Tuple[int, str], Tensor] = {}
        with self._open() as file:
            file.execute('PRAGMA journal_mode=WAL')
            file.execute(
                'CREATE TABLE IF NOT EXISTS outputs '
                '(key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID'
            )
            file.execute(
                'CREATE TABLE IF NOT EXISTS layouts '
                '(key BLOB PRIMARY KEY, value TEXT)'
            )

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection for one question: nothing that a fork could share."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = sqlite3.connect(self.path, timeout=WAIT)
            try:
                # What a crash of the machine loses is asked again.
                file.execute('PRAGMA synchronous=NORMAL')
                with file:
                    yield file
            finally:
                file.close()
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(
                f'model.teacher.cache: {str(self.path)!r} cannot be used '
                f'({error}): name another file, or delete it.'
            ) from error

    @property
    def bytes_on_disk(self) -> int:
        """Size of the file and of what is about to enter it."""
        size = 0
        for part in (self.path, self.path.with_name(f'{self.path.name}-wal')):
            # SQLite takes the second away when the last process closes.
            with suppress(FileNotFoundError):
                size += part.stat().st_size
        return size

    def belongs_to(self, teacher: nn.Module, *settings: Any) -> None:
        """Say whose outputs are read and written from here on.

        Args:
            teacher (nn.Module): Weights and structure tell it from others.
            settings: What else its outputs depend on.
        """
        told = repr((VERSION, digest(teacher), str(teacher), settings))
        self._teacher = hashlib.sha256(told.encode()).digest()

    def outputs(
        self,
        view: Tensor,
        data_samples: List[BaseDataElement],
        ask: Callable[[Tensor, List[BaseDataElement]], Dict[str, Any]],
    ) -> Dict[str, Any]:
        """What the teacher says of a batch.

        Args:
            view (Tensor): The teacher's view, ``(B, C, H, W)``.
            data_samples (list): Meta data of the images.
            ask (Callable): Asks the teacher, of a part of the batch.

        Returns:
            dict: As ``ask`` gives it: by tap, tensors or dicts of tensors
            whose first axis is that of the images.
        """
        precision = (str(view.dtype), multiplied_in(view.device))
        front = hashlib.sha256(
            self._teacher + repr((view.shape[1:], precision)).encode()
        ).digest()[:16]
        keys = [front + x for x in self._fingerprints(view)]
        self.asked += len(keys)
        layout, entries = self._read(front, keys)
        missing = [i for i, key in enumerate(keys) if key not in entries]
        self.found += len(keys) - len(missing)
        if missing:
            whole = len(missing) == len(keys)
            told = flat(
                ask(
                    view if whole else view[missing],
                    [data_samples[i] for i in missing],
                )
            )
            check_images(told, len(missing))
            layout = layout_of(told)
            new = {
                keys[i]: pack(told, place) for place, i in enumerate(missing)
            }
            entries.update(new)
            self._write(front, layout, new)
        self.entry_bytes = len(entries[keys[0]])
        return unpack([entries[key] for key in keys], layout, view.device)

    def _fingerprints(self, view: Tensor) -> List[bytes]:
        """128 bits of each image's values, computed where they are.

        Multilinear hashing modulo 2^64 (Thorup, arXiv 1504.06804), first of
        rows, then of images: of two images that differ it gives the same
        with a probability of some 2^-60.
        """
        x = view.contiguous().view(WORDS[view.element_size()])
        x = x.flatten(1, -2).long()
        digests = []
        for seed in range(2):
            rows = self._hash(x, 2 * seed)
            rows = rows ^ (rows >> 29)
            digests.append(self._hash(rows, 2 * seed + 1))
        return [
            b''.join(x.to_bytes(8, 'little', signed=True) for x in pair)
            for pair in torch.stack(digests, 1).tolist()
        ]

    def _hash(self, x: Tensor, seed: int) -> Tensor:
        """Sum of the last axis, each place by a number of its own."""
        size = x.shape[-1]
        key = (seed, size, str(x.device))
        if key not in self._multipliers:
            generator = torch.Generator().manual_seed(seed)
            drawn = torch.randint(
                -(2**63), 2**63 - 1, (size,), generator=generator
            )
            self._multipliers[key] = drawn.to(x.device) | 1
        return (x * self._multipliers[key]).sum(-1)

    def _read(
        self, front: bytes, keys: List[bytes]
    ) -> Tuple[Layout, Dict[bytes, bytes]]:
        with self._open() as file:
            found = file.execute(
                'SELECT value FROM layouts WHERE key = ?', (front,)
            ).fetchone()
            if found is None:
                return [], {}
            entries: Dict[bytes, bytes] = {}
            for start in range(0, len(keys), MOST):
                part = keys[start : start + MOST]
                marks = ', '.join('?' * len(part))
                entries.update(
                    file.execute(
                        'SELECT key, value FROM outputs '
                        f'WHERE key IN ({marks})',
                        part,
                    )
                )
            return json.loads(found[0]), entries

    def _write(
        self, front: bytes, layout: Layout, entries: Dict[bytes, bytes]
    ) -> None:
        if self._full:
            return
        if self.bytes_on_disk > self.max_gb * GIGABYTE:
            self._full = True
            print_log(
                f'model.teacher.cache: {self.path} has reached max_gb, '
                f'{self.max_gb}: what it lacks is asked of the teacher.',
                logger='current',
            )
            return
        with self._open() as file:
            file.execute(
                'INSERT OR REPLACE INTO layouts VALUES (?, ?)',
                (front, json.dumps(layout)),
            )
            file.executemany(
                'INSERT OR IGNORE INTO outputs VALUES (?, ?)', entries.items()
            )


def multiplied_in(device: torch.device) -> str:
    """The type that matrices are multiplied in here."""
    one = torch.ones(1, 1, device=device)
    return str((one @ one).dtype)


def flat(told: Dict[str, Any]) -> Dict[str, Tensor]:
    """Outputs by tap, or by tap and level, as one dict of tensors."""
    found = {}
    for tap, output in told.items():
        if isinstance(output, Tensor):
            found[tap] = output
        else:
            found.update({f'{tap}|{i}': x for i, x in output.items()})
    return found


def check_images(told: Dict[str, Tensor], count: int) -> None:
    """Insist on outputs that belong to one image each.

    Raises:
        ConfigError: If some do not.
    """
    for name, tensor in told.items():
        if len(tensor) != count:
            raise ConfigError(
                f'model.teacher.cache keeps outputs of single images, but at '
                f'{name.split("|")[0]!r} {count} images give '
                f'{len(tensor)}: leave it out.'
            )


def layout_of(told: Dict[str, Tensor]) -> Layout:
    """Names, shapes and types of one image's outputs."""
    return [
        (name, list(x.shape[1:]), str(x.dtype).removeprefix('torch.'))
        for name, x in told.items()
    ]


def pack(told: Dict[str, Tensor], place: int) -> bytes:
    """The bytes of one image's outputs."""
    parts = [x[place].detach().contiguous() for x in told.values()]
    return b''.join(
        x.cpu().reshape(-1).view(torch.uint8).numpy().tobytes() for x in parts
    )


def unpack(
    entries: List[bytes], layout: Layout, device: torch.device
) -> Dict[str, Any]:
    """The outputs of a batch from those of its images."""
    raw = torch.frombuffer(bytearray(b''.join(entries)), dtype=torch.uint8)
    raw = raw.view(len(entries), -1)
    found: Dict[str, Any] = {}
    start = 0
    for name, shape, dtype in layout:
        kind = getattr(torch, dtype)
        size = torch.Size(shape).numel() * kind.itemsize
        part = raw[:, start : start + size].clone().view(kind)
        tensor = part.view(len(entries), *shape).to(device)
        start += size
        tap, level, index = name.partition('|')
        if level:
            found.setdefault(tap, {})[int(index)] = tensor
        else:
            found[tap] = tensor
    return found
