"""What the command line tools share with each other."""

import argparse
import atexit
import gc
import os
import os.path as osp
import re
import sys
import traceback
from contextlib import contextmanager, nullcontext
from typing import ContextManager, Iterator, Optional
from urllib.error import URLError

import torch.distributed
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.registry import MODELS, RUNNERS, STRATEGIES, DefaultScope
from mmengine.runner import Runner
from torch import nn

from mmfmkt.engine.resume import resume_from_latest
from mmfmkt.utils import ConfigError, require
from mmfmkt.utils.checkpoints import (
    load_checkpoint,
    running_nothing,
    unrestricted_torch_load,
    verified,
)
from mmfmkt.utils.configs import import_mmfmkt
from mmfmkt.utils.error_messages import errors_as_config_errors, reason_of
from mmfmkt.utils.types import resolve_type

from .robustness import (
    add_hooks,
    check_own_hooks,
    complete_robustness,
    with_robustness,
)

# Where the documentation helps with an error, by what its sentence names.
PAGES = (
    (r'is not a finite number', 'docs/faq.md#loss-is-nan'),
    (r'teacher\.cache', 'docs/cost.md#a-cache-of-the-teacher'),
    (r'model\.teacher|--teacher', 'docs/teachers.md'),
    (r'model\.flow|model\.variant', 'docs/choosing.md'),
    (r'model\.(tap|levels|student)', 'docs/configs.md'),
    (r'dataloader|evaluator|--data-root', 'docs/own_data.md'),
    (r'--resume|load_from', 'docs/trust.md'),
    (r'--launcher|strategy', 'docs/distributed.md'),
    (r'mmfmkt\[onnx\]', 'docs/install.md#extras'),
)


class Described(argparse.RawDescriptionHelpFormatter):
    """A description with its examples as they are written."""


class DescribedWithDefaults(argparse.ArgumentDefaultsHelpFormatter, Described):
    """The same, and defaults of options."""


def parser_of(
    description: str, defaults: bool = False
) -> argparse.ArgumentParser:
    """A parser whose help is what a tool says of itself, with examples.

    Args:
        description (str): The tool's own docstring.
        defaults (bool): Whether the help tells defaults of options.
    """
    return argparse.ArgumentParser(
        description=description,
        formatter_class=DescribedWithDefaults if defaults else Described,
    )


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


def train(cfg: Config, args: argparse.Namespace) -> None:
    """Complete a config and train.

    Args:
        cfg (Config): The config.
        args (argparse.Namespace): What `add_train_arguments` adds.

    Raises:
        ConfigError: If the run cannot be built, or its first iteration fails.
    """
    if args.resume:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    with errors_as_config_errors(cfg):
        if args.amp:
            use_amp(cfg)
        set_dataloaders(cfg, args)
        complete_distillation(cfg)
        complete_robustness(cfg)
        if args.check_teacher:
            add_hooks(cfg, ['mmfmkt.TeacherCheckHook'])
        check_own_hooks(cfg)
    with checkpoint_guard(cfg):
        if cfg.get('resume') and (
            cfg.robustness.exact_resume or cfg.robustness.safe_checkpoints
        ):
            resume_from_latest(cfg)
        loaded = verify_load_from(cfg)
        with errors_as_config_errors(cfg):
            runner = build_runner(with_robustness(cfg))
            # Builds it, which `train` does first, too.
            _ = runner.train_loop
        # The dumped config has what the user wrote, and the switches.
        runner.cfg = cfg
        runner.dump_config()
        check_fits(runner.model, loaded)
        first = (loaded or {}).get('meta', {}).get('iter', 0)
        begin = first if cfg.get('resume') else 0
        with errors_as_config_errors(cfg, lambda: runner.iter > begin):
            runner.train()


def checkpoint_guard(cfg: Config) -> ContextManager:
    """Return the context that ``robustness.safe_checkpoints`` asks for."""
    safe = (cfg.get('robustness') or {}).get('safe_checkpoints', True)
    return nullcontext() if safe else unrestricted_torch_load()


def verify_load_from(cfg: Config) -> Optional[dict]:
    """Read the checkpoint that a run begins with.

    A digest behind it, ``#sha256=...``, is held to.

    Args:
        cfg (Config): With ``load_from``.

    Returns:
        dict, optional: What the checkpoint holds.

    Raises:
        ConfigError: If it is not there, or no checkpoint.
    """
    path, _, digest = (cfg.get('load_from') or '').partition('#sha256=')
    if digest:
        cfg.load_from = path = verified(path, digest)
    return load_checkpoint(path) if path else None


def check_fits(model: nn.Module, checkpoint: Optional[dict]) -> None:
    """Refuse a checkpoint of which no tensor fits the model.

    Args:
        model (nn.Module): The model of a runner.
        checkpoint (dict, optional): What a checkpoint holds.

    Raises:
        ConfigError: If it has none of the model's tensors.
    """
    if checkpoint is None or model is None:  # a strategy builds it later
        return
    state = checkpoint.get('state_dict', checkpoint)
    # Models in wrappers, of data parallelism or test-time augmentation, and
    # their checkpoints may have the prefix.
    own, shapes = (
        {
            name.removeprefix('module.'): getattr(x, 'shape', None)
            for name, x in tensors.items()
        }
        for tensors in (model.state_dict(), state)
    )
    if not any(shapes.get(name) == shape for name, shape in own.items()):
        raise ConfigError(
            f'load_from: the checkpoint has {len(shapes)} tensors, and none '
            f'of them is one of the {len(own)} of this model: give a '
            'checkpoint of this config.'
        )


def build_model(cfg: Config) -> None:
    """Build the model of a config, to see that it can be.

    Args:
        cfg (Config): The config of a training.
    """
    import_mmfmkt(cfg)
    scope = cfg.get('default_scope')
    with (
        errors_as_config_errors(cfg),
        DefaultScope.overwrite_default_scope(scope),
    ):
        MODELS.build(cfg.model)


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
    """Add ``--debug``, which `plain_errors` looks for."""
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
        name = osp.splitext(osp.basename(args.config))[0]
        cfg.work_dir = osp.join('./work_dirs', name)
    keep_file(cfg)
    return cfg


def keep_file(cfg: Config) -> None:
    """See to it that the Runner does not write over the config's own file.

    It writes the resolved config into the work folder, under the name of the
    file that it was read from.
    """
    dump = osp.join(cfg.work_dir, osp.basename(cfg.filename))
    if osp.realpath(dump) == osp.realpath(cfg.filename):
        stem, extension = osp.splitext(cfg.filename)
        # What is set on a Config is set in what it holds.
        object.__setattr__(cfg, '_filename', f'{stem}_resolved{extension}')


def read_config(path: str, cfg_options=None) -> Config:
    """Read a config file and apply overrides.

    Raises:
        ConfigError: If the file does not exist.
    """
    if not osp.isfile(path):
        raise ConfigError(f'The config file {path!r} does not exist.')
    try:
        cfg = Config.fromfile(path)
    except Exception as error:  # A config is a program.
        raise ConfigError(
            f'The config {path!r} fails in itself, or in one that it is '
            f'based on: {type(error).__name__}: {" ".join(str(error).split())}'
        ) from error
    if cfg_options:
        try:
            cfg.merge_from_dict(cfg_options)
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise ConfigError(f'--cfg-options: {error}.') from error
    if not isinstance(cfg.get('model'), dict):
        raise ConfigError(f"The config {path!r} has no section 'model'.")
    return cfg


def complete_distillation(cfg: Config) -> None:
    """Add what every distillation has, so that no preset need define it.

    A preset with hooks or imports could not stand beside a student's config
    that has its own: MMEngine refuses bases that share a key. Set
    ``default_hooks.export_student`` to None to do without the export.
    """
    if 'student' in cfg.model:
        import_mmfmkt(cfg)
        # What setdefault returns of a Config is not what it has set.
        cfg.setdefault('default_hooks', {})
        hooks = cfg.default_hooks
        hooks.setdefault(
            'export_student', dict(type='mmfmkt.ExportStudentHook')
        )
        if hooks.export_student is None:
            # MMEngine takes None for its own default hooks alone.
            hooks.pop('export_student')
        teacher = cfg.model.get('teacher')
        if isinstance(teacher, dict) and teacher.get('cache'):
            add_hooks(cfg, ['mmfmkt.TeacherCacheHook'])


def use_amp(cfg: Config) -> None:
    """Switch mixed precision on: float16 on GPUs, bfloat16 on CPUs."""
    if get_device() == 'cpu':
        cfg.optim_wrapper.type = 'mmfmkt.CPUAmpOptimWrapper'
        for key in ('loss_scale', 'dtype', 'use_fsdp'):
            # What only AmpOptimWrapper takes.
            cfg.optim_wrapper.pop(key, None)
    else:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')


def build_runner(cfg: Config) -> Runner:
    """Build the config's runner, on CPUs also for several processes."""
    if cfg.launcher != 'none' and get_device() == 'cpu':
        prepare_cpu_processes(cfg)
    if 'runner_type' in cfg:
        return RUNNERS.build(cfg)
    return Runner.from_cfg(cfg)


def prepare_cpu_processes(cfg: Config) -> None:
    """Make data parallelism work without GPUs, which MMEngine presumes.

    Raises:
        ConfigError: For a launcher other than PyTorch's.
    """
    if cfg.launcher != 'pytorch':
        raise ConfigError(
            f'--launcher {cfg.launcher} needs GPUs, and none was found; on '
            'CPUs use tools/dist_train.sh.'
        )
    scope = cfg.get('default_scope')
    strategy = resolve_type(cfg.get('strategy'), STRATEGIES, scope)
    if strategy not in (None, STRATEGIES.get('DDPStrategy')):
        raise ConfigError(
            f'strategy: {strategy.__name__} of MMEngine needs GPUs, and none '
            'was found.'
        )
    torch.distributed.init_process_group('gloo')
    atexit.register(leave_processes)
    cfg.model_wrapper_cfg = dict(
        type='MMDistributedDataParallel',
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )


def leave_processes() -> None:
    """End the group and its threads, before Python itself ends.

    Gloo's threads end with the last reference to their group, and a wrapped
    model that waits for the garbage collector still has one. A thread that
    frees the tensors of its last message while Python ends aborts it.
    """
    gc.collect()
    torch.distributed.destroy_process_group()


@contextmanager
def plain_errors() -> Iterator[None]:
    """End the program with one line where a config is at fault.

    Other errors show their traceback first. Meanwhile no checkpoint that is
    read runs code.
    """
    try:
        require('torch', 'mmengine')
        require('mmcv', 'mmdet', 'mmpretrain', optional=True)
        with running_nothing():
            yield
    except ConfigError as error:
        end(error, str(error))
    except URLError as error:
        end(
            error,
            f'something could not be fetched ({error.reason}): put data '
            'where data_root says, or name a checkpoint that is here.',
        )
    except Exception as error:
        traceback.print_exception(error)
        print(f'error: {reason_of(error)}', file=sys.stderr)
        sys.exit(1)


def end(error: Exception, line: str) -> None:
    """End the program with one line; with ``--debug``, a traceback, too."""
    if '--debug' in sys.argv:
        traceback.print_exception(error)
    page = next((page for key, page in PAGES if re.search(key, line)), None)
    if page:
        print(f'help: {page}', file=sys.stderr)
    print(f'error: {" ".join(line.split())}', file=sys.stderr)
    sys.exit(2)
