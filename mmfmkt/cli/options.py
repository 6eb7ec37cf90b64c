"""Options shared by the commands."""

import argparse
import os
import os.path as osp
import re
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Callable, Dict, Iterator, Optional

from mmengine.config import Config, DictAction

from mmfmkt.apis.distill import Composed
from mmfmkt.utils.configs import read_config, with_importable_types
from mmfmkt.utils.types import is_mmpretrain_config


class HelpWithDefaults(
    argparse.ArgumentDefaultsHelpFormatter,
    argparse.RawDescriptionHelpFormatter,
):
    """Formatter with an unwrapped description and default values."""


def make_parser(
    description: str, defaults: bool = False, prog: Optional[str] = None
) -> argparse.ArgumentParser:
    """Return a parser with a module's docstring as description.

    Args:
        description (str): The docstring; ``%(prog)s`` is the command.
        defaults (bool): Whether the help shows default values.
        prog (str, optional): Program name in the help; default: the script.
    """
    return argparse.ArgumentParser(
        prog=prog,
        description=description,
        formatter_class=HelpWithDefaults
        if defaults
        else argparse.RawDescriptionHelpFormatter,
    )


def int_at_least(minimum: int) -> Callable[[str], int]:
    """Return an argument type for integers of at least ``minimum``."""

    def integer(text: str) -> int:
        if int(text) < minimum:
            raise argparse.ArgumentTypeError(
                f'must be at least {minimum}, got {text}'
            )
        return int(text)

    return integer


def add_flags(parser: argparse.ArgumentParser, flags: Dict[str, str]) -> None:
    """Add options without a value.

    Args:
        parser (argparse.ArgumentParser): The parser.
        flags (dict[str, str]): Help texts by option.
    """
    for option, text in flags.items():
        parser.add_argument(option, action='store_true', help=text)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that MMDetection's train.py and test.py share."""
    parser.add_argument(
        '--work-dir',
        help='directory for logs, checkpoints and metrics; default: '
        'work_dirs/<config>',
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
    """Add the options of commands that train.

    They include those of MMDetection's and MMPretrain's train.py.
    """
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='resume from a checkpoint; without a path, from the latest '
        'checkpoint in the work directory',
    )
    add_flags(
        parser,
        {
            '--amp': 'train in mixed precision',
            '--check-teacher': 'validate the teacher on the validation data '
            'of the student first',
            '--last': 'export the student of the last checkpoint instead of '
            'the best one',
            '--auto-scale-lr': 'scale the learning rate linearly with the '
            'batch size',
            '--no-validate': 'do not validate during training',
            '--no-pin-memory': 'set pin_memory of all dataloaders to False',
            '--no-persistent-workers': 'set persistent_workers of all '
            'dataloaders to False',
        },
    )
    add_run_arguments(parser)


def add_steps(parser: argparse.ArgumentParser, default: str = '') -> None:
    """Add ``--steps``.

    Args:
        parser (argparse.ArgumentParser): The parser.
        default (str): End of the help text.
    """
    parser.add_argument(
        '--steps',
        type=int_at_least(1),
        nargs='+',
        default=(),
        metavar='K',
        help='numbers of Euler steps K at which students with a flow are '
        f'evaluated{default}',
    )


def add_data_root(parser: argparse.ArgumentParser) -> None:
    """Add ``--data-root``."""
    parser.add_argument(
        '--data-root',
        metavar='FOLDER',
        help="dataset that replaces the config's: for detectors, in COCO, "
        'YOLO or Pascal VOC format; for classifiers, with a folder for each '
        'class in train/ and val/',
    )


def add_pair_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options for student, teacher and dataset."""
    parser.add_argument(
        'student',
        help="student config: a file, or a packaged config 'mmdet::...'",
    )
    parser.add_argument(
        '--teacher', help="teacher config; omit it for the variant 'online'"
    )
    parser.add_argument(
        '--teacher-checkpoint',
        help='path or URL; default: random weights',
    )
    parser.add_argument(
        '--teacher-scale',
        type=float,
        help="side of the teacher's images, relative to the student's "
        '(default: 1 if the networks have a stride in common, else the '
        'factor that makes their nearest strides equal)',
    )
    add_data_root(parser)
    class_maps = (
        'also distill the class maps of dense heads, which must have the same '
        'type in both detectors'
    )
    add_flags(parser, {'--class-maps': class_maps})


def pair_name(prefix: str, args: argparse.Namespace) -> str:
    """Return a file name from a prefix and the names of both configs.

    Args:
        prefix (str): First part of the name.
        args (argparse.Namespace): Options of `add_pair_arguments`.
    """
    parts = [prefix, args.teacher, args.student]
    return '_'.join(
        re.sub(r'[^\w.-]', '-', Path(x.split('::')[-1]).stem)
        for x in parts
        if x
    )


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--cfg-options`` and ``--debug``."""
    add_debug(parser)
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override config keys, for example '
        'model.flow.inference_steps=8 or key="[(a,b),(c,d)]" (with '
        'quotation marks and without spaces)',
    )


def add_debug(parser: argparse.ArgumentParser) -> None:
    """Add ``--debug``, which `exit_on_error` reads."""
    add_flags(parser, {'--debug': 'show the traceback of errors'})


def load_config(args: argparse.Namespace, suffix: str = '') -> Config:
    """Read the config and set its launcher and work directory.

    Args:
        args (argparse.Namespace): Options of `add_run_arguments`.
        suffix (str): As in `with_separate_dump`.

    Raises:
        ConfigError: If the config does not exist or cannot be read.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = read_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    # Priority: command line, config, default.
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = osp.join('./work_dirs', Path(args.config).stem)
    return with_separate_dump(cfg, suffix)


def rank_of(launcher: str) -> int:
    """Return the rank of this process, before the process group exists."""
    names = dict(
        pytorch='RANK', slurm='SLURM_PROCID', mpi='OMPI_COMM_WORLD_RANK'
    )
    return int(os.environ.get(names.get(launcher, ''), 0))


@contextmanager
def composing_folder(args: argparse.Namespace) -> Iterator[Path]:
    """Yield the folder for the composed config and its annotation files.

    It is the work directory for rank 0, and a temporary folder for any other
    rank, which reads its files there during the training.
    """
    if rank_of(args.launcher) == 0:
        yield Path(args.work_dir)
    else:
        with TemporaryDirectory() as folder:
            yield Path(folder)


def load_composed(composed: Composed, args: argparse.Namespace) -> Config:
    """Print the summary of a composed config on rank 0; return the config."""
    if rank_of(args.launcher) == 0:
        print('\n'.join(composed.summary))
        print(f'config    {composed.config}')
    args.config = str(composed.config)
    cfg = load_config(args)
    if rank_of(args.launcher) == 0 and args.cfg_options:
        dump = osp.join(cfg.work_dir, osp.basename(cfg.filename))
        print(f'          with --cfg-options, for test and export: {dump}')
    return cfg


def with_separate_dump(cfg: Config, suffix: str = '') -> Config:
    """Return a config whose dump does not overwrite the config file.

    The Runner dumps the resolved config into the work directory, in a file
    with the name of the config file.

    Args:
        cfg (Config): The config.
        suffix (str): Suffix of the name of the dump. By default, there is
            none unless the config file is in the work directory.
    """
    dump = osp.join(cfg.work_dir, osp.basename(cfg.filename))
    if osp.realpath(dump) == osp.realpath(cfg.filename):
        suffix = suffix or '_resolved'
    if not suffix:
        return cfg
    stem, extension = osp.splitext(cfg.filename)
    settings = with_importable_types(cfg).to_dict()
    return Config(settings, cfg.text, f'{stem}{suffix}{extension}')


def set_dataloaders(cfg: Config, args: argparse.Namespace) -> None:
    """Apply ``--no-validate`` and the dataloader options.

    Args:
        cfg (Config): Changed in place.
        args (argparse.Namespace): Options of `add_train_arguments`.
    """
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    for split in ('train', 'val', 'test'):
        loader = cfg.get(f'{split}_dataloader')
        set_loader_defaults(cfg, loader)
        for key in ('pin_memory', 'persistent_workers'):
            if loader is not None and getattr(args, f'no_{key}'):
                loader[key] = False


def set_loader_defaults(cfg: Config, loader: Optional[dict]) -> None:
    """Set the defaults of MMPretrain's tools in a classifier's loader."""
    if loader is not None and is_mmpretrain_config(cfg):
        loader.setdefault('pin_memory', True)
        has_workers = loader.get('num_workers', 0) > 0
        loader.setdefault('persistent_workers', has_workers)
        loader.setdefault('collate_fn', dict(type='default_collate'))
