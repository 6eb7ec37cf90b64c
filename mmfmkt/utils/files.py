"""Files that are there whole or not at all."""

import io
import os
from pathlib import Path
from typing import Any, Union

import torch
from mmengine.fileio import LocalBackend, register_backend


def write_whole(path: Union[str, Path], data: Union[bytes, str]) -> None:
    """Write a file aside, see it onto the disk, and put it in its place.

    A process that is killed meanwhile leaves what was there before.

    Args:
        path (str | Path): The file; its folder is made.
        data (bytes | str): What it is to hold.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f'{path.name}.part')
    with open(aside, 'wb') as file:
        file.write(data.encode() if isinstance(data, str) else data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)


def save_whole(path: Union[str, Path], content: Any) -> None:
    """``torch.save``, whole or not at all.

    Args:
        path (str | Path): The file; its folder is made.
        content (Any): What it is to hold.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_whole(path, buffer.getvalue())


@register_backend('whole', force=True)
class WholeFiles(LocalBackend):
    """MMEngine's backend for local files, but files are written whole.

    It serves where ``backend_args`` are ``dict(backend='whole')``.
    """

    def put(self, obj: bytes, filepath: Union[str, Path]) -> None:
        """Write a file; see `write_whole`.

        Args:
            obj (bytes): What it is to hold.
            filepath (str | Path): The file.
        """
        write_whole(filepath, obj)
