"""Atomic writing of files."""

import io
import os
from pathlib import Path
from typing import Any, List, Union

import torch
from mmengine.fileio import LocalBackend, register_backend


def write_atomically(path: Union[str, Path], data: Union[bytes, str]) -> None:
    """Write a temporary file and rename it.

    If the process is killed while writing, the previous file remains.

    Args:
        path (str | Path): The file. Its folder is created.
        data (bytes | str): The content.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'{path.name}.part')
    with open(temporary, 'wb') as file:
        file.write(data.encode() if isinstance(data, str) else data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def save_atomically(path: Union[str, Path], content: Any) -> None:
    """Save an object with ``torch.save``, atomically.

    Args:
        path (str | Path): The file. Its folder is created.
        content (Any): The object.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, buffer.getvalue())


@register_backend('atomic', force=True)
class AtomicLocalBackend(LocalBackend):
    """MMEngine's backend for local files, with atomic writing.

    It is selected by ``backend_args=dict(backend='atomic')``. `remove` only
    marks a file; `delete_removed` deletes the marked files after new ones are
    written, so a killed process always leaves a complete file.
    """

    def __init__(self) -> None:
        self._removed: List[str] = []

    def put(self, obj: bytes, filepath: Union[str, Path]) -> None:
        """Write a file atomically.

        Args:
            obj (bytes): The content.
            filepath (str | Path): The file.
        """
        write_atomically(filepath, obj)

    def remove(self, filepath: str) -> None:
        """Mark a file for deletion.

        Args:
            filepath (str): The file.
        """
        self._removed.append(filepath)

    def delete_removed(self) -> None:
        """Delete the marked files."""
        while self._removed:
            super().remove(self._removed.pop())
