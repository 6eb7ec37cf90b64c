"""Options that commands share."""

import argparse
import os
import os.path as osp
from pathlib import Path
from typing import Callable, Optional

from mmengine.config import Config, DictAction

from mmfmkt.utils.configs import read_config


class HelpWithDefaults(
    argparse.ArgumentDefaultsHelpFormatter,
    argparse.RawDescriptionHelpFormatter,
):
    """A description as it is written, and defaults of options."""


def make_parser(
    description: str, defaults: bool = False, prog: Optional[str] = None
) -> argparse.ArgumentParser:
    """Return a parser whose help begins with a docstring.

    Args:
        description (str): The docstring of the command, with examples, in
            which ``%(prog)s`` is the command.
        defaults (bool): Whether the help shows the defaults of options.
        prog (str, optional): What the help calls the command.
    """
    return argparse.ArgumentParser(
        prog=prog,
        description=description,
        formatter_class=HelpWithDefaults
        if defaults
        else argparse.RawDescriptionHelpFormatter,
    )


def int_at_least(least: int) -> Callable[[str], int]:
    """Return an argument type: an integer that is not below ``least``."""

    def integer(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(
                f'must be {least} or more, got {text}'
            )
        return int(text)

    return integer


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that MMDetection's train.py and test.py share."""
    parser.add_argument(
        '--work-dir',
        help='folder for logs, checkpoints and metrics; by default '
        'work_dirs/ and the name of the config',
    )
    add_cfg_options(parser)
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher',
    )
    # torch.distributed.launch passes --local-rank since PyTorch 2.0.
    parser.add_argument(
        '--local_rank',
        '--local-rank',
        type=int,
        default=0,
        help='set by the launcher',
    )


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that tools which train have beside those."""
    parser.add_argument(
        '--amp', action='store_true', help='train in mixed precision'
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='resume from a checkpoint; without a path, from the latest one '
        'in the work folder',
    )
    parser.add_argument(
        '--check-teacher',
        action='store_true',
        help="validate the teacher first, on the student's validation data",
    )
    # Those that MMPretrain's train.py has beside MMDetection's.
    parser.add_argument(
        '--no-validate',
        action='store_true',
        help='train without validating in between',
    )
    parser.add_argument(
        '--no-pin-memory',
        action='store_true',
        help='set pin_memory of all dataloaders to False',
    )
    parser.add_argument(
        '--no-persistent-workers',
        action='store_true',
        help='set persistent_workers of all dataloaders to False',
    )
    add_run_arguments(parser)


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--cfg-options`` and ``--debug``."""
    add_debug(parser)
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override settings of the config, for instance '
        'model.flow.inference_steps=8 or key="[(a,b),(c,d)]" (with the '
        'quotation marks, without white space)',
    )


def add_debug(parser: argparse.ArgumentParser) -> None:
    """Add ``--debug``, which `cli.errors` looks for."""
    parser.add_argument(
        '--debug',
        action='store_true',
        help='show where an error comes from, beside the sentence',
    )


def load_config(args: argparse.Namespace) -> Config:
    """Read the config that the command line means.

    Raises:
        ConfigError: If the file does not exist.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = read_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    # Priority: command line, config, name of the config.
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = osp.join('./work_dirs', Path(args.config).stem)
    return keep_file(cfg)


def keep_file(cfg: Config) -> Config:
    """Return a config whose dump does not replace the file it was read from.

    The Runner dumps the resolved config into the work folder, under the name
    of that file.
    """
    dump = osp.join(cfg.work_dir, osp.basename(cfg.filename))
    if osp.realpath(dump) == osp.realpath(cfg.filename):
        stem, extension = osp.splitext(cfg.filename)
        return Config(cfg.to_dict(), cfg.text, f'{stem}_resolved{extension}')
    return cfg


def set_dataloaders(cfg: Config, args: argparse.Namespace) -> None:
    """Apply the options for validation and dataloaders, as MMPretrain does.

    Args:
        cfg (Config): Changed in place.
        args (argparse.Namespace): With ``no_validate``, ``no_pin_memory``
            and ``no_persistent_workers``.
    """
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    for split in ('train', 'val', 'test'):
        loader = cfg.get(f'{split}_dataloader')
        for key in ('pin_memory', 'persistent_workers'):
            if loader is not None and getattr(args, f'no_{key}'):
                loader[key] = False
