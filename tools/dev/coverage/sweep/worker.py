"""Check of one config, in a process of its own."""

import json
import tempfile
import traceback
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Callable

import torch
from mmengine.config import Config
from mmengine.config import config as config_module
from yapf.yapflib import yapf_api

from .equivalence import check_equivalence
from .errors import CannotRunError, NotAStudentError, one_line
from .recipes import read, sizes_to_try
from .variants import check_variants

CHECKS = dict(equivalence=check_equivalence, variants=check_variants)


def run_one(library: str, config: str, check: str, out: Path) -> None:
    """Check a config, and write the result to a file.

    Args:
        library (str): ``'mmdet'`` or ``'mmpretrain'``.
        config (str): Config relative to the library's ``configs``.
        check (str): A key of ``CHECKS``.
        out (Path): JSON file of the result.
    """
    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    # Formatting configs takes a fourth of the time. MMEngine imports
    # `FormatCode` at each use, before version 0.10 together with the module.
    yapf_api.FormatCode = lambda text, **_: (text, True)
    config_module.FormatCode = yapf_api.FormatCode
    try:
        result = check_at_sizes(CHECKS[check], read_or_raise(library, config))
    except NotAStudentError as error:
        result = dict(status='cannot apply', reason=str(error))
    except CannotRunError as error:
        result = dict(status='cannot run', reason=one_line(error.__cause__))
    except Exception as error:
        traceback.print_exc()
        result = dict(status='failed', reason=one_line(error))
    out.write_text(json.dumps(result))


def read_or_raise(library: str, config: str) -> Config:
    """Read a config, and raise a `CannotRunError` if it has an error."""
    try:
        return read(library, config)
    except NotAStudentError:
        raise
    except Exception as error:
        raise CannotRunError from error


def check_at_sizes(check: Callable, cfg: Config) -> dict:
    """Check a config at the smallest image size at which it trains."""

    def check_at(size: int) -> dict:
        with tempfile.TemporaryDirectory() as folder:
            return check(cfg, size, Path(folder))

    *smaller, largest = sizes_to_try(cfg)
    for size in smaller:
        with suppress(CannotRunError):
            return check_at(size)
    return check_at(largest)
