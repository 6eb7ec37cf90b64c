"""Checks one config, in a process that is thrown away after it."""

import json
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import Callable

import torch
from mmengine.config import Config
from mmengine.config import config as config_module

from .equivalence import check_equivalence
from .errors import CannotRunError, NotAStudentError, one_line
from .recipes import read, sizes_to_try
from .variants import check_variants

CHECKS = dict(equivalence=check_equivalence, variants=check_variants)
# What larger pictures do not mend.
HOPELESS = (
    'device cpu not found',
    'is not installed',
    'pip install',
    'huggingface',
    'No module named',
)


def run_one(library: str, config: str, check: str, out: Path) -> None:
    """Check a config and write what was found to a file.

    Args:
        library (str): ``'mmdet'`` or ``'mmpretrain'``.
        config (str): A config below the library's ``configs``.
        check (str): A key of ``CHECKS``.
        out (Path): File for the result.
    """
    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    # Laying configs out nicely takes a fourth of the time.
    config_module.FormatCode = lambda text, **_: (text, True)
    try:
        found = large_enough(CHECKS[check], readable(library, config))
    except NotAStudentError as error:
        found = dict(status='cannot apply', reason=str(error))
    except CannotRunError as error:
        found = dict(status='cannot run', reason=one_line(error.__cause__))
    except Exception as error:
        traceback.print_exc()
        found = dict(status='failed', reason=one_line(error))
    out.write_text(json.dumps(found))


def readable(library: str, config: str) -> Config:
    """Read a config; some are broken where they are."""
    try:
        return read(library, config)
    except NotAStudentError:
        raise
    except Exception as error:
        raise CannotRunError from error


def large_enough(check: Callable, cfg: Config) -> dict:
    """Check a config with pictures as large as its plain training needs."""
    sizes = sizes_to_try(cfg)
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            try:
                return check(cfg, size, Path(folder))
            except CannotRunError as error:
                reason = str(error.__cause__)
                if size == sizes[-1] or any(x in reason for x in HOPELESS):
                    raise
                traceback.print_exc()
    raise AssertionError('a config has at least one size')
