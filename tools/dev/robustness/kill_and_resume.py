"""Kill and resume a training repeatedly, and compare the result.

    python tools/dev/robustness/kill_and_resume.py CONFIG --in-write 10
    python tools/dev/robustness/kill_and_resume.py CONFIG --processes 2

CONFIG is trained once without interruption, and once with interruptions: it is
killed by SIGKILL at random times, also while a checkpoint is written, and
resumed after each kill. Both runs must end with the same bits in every tensor
of weights, moving averages and optimizer state.
"""

import argparse
import os
import random
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, Dict, List, Tuple

import psutil
import torch
from torch.testing import assert_close
from tqdm import tqdm

from mmfmkt.cli.errors import exit_on_error
from mmfmkt.cli.options import add_debug, make_parser
from mmfmkt.engine.resume.latest_checkpoint import (
    checkpoints_of,
    latest_checkpoint,
)
from mmfmkt.utils import ConfigError
from mmfmkt.utils.configs import walk

ROOT = Path(__file__).resolve().parents[3]
TRAIN = str(ROOT / 'tools/train.py')
# Stages of writing a checkpoint.
STAGES = ('half written', 'before renaming', 'after renaming')
# First argument of this script in a training that kills itself.
KILL_IN_WRITE = 'kill-in-write'
# Compared parts of a checkpoint.
PARTS = ('state_dict', 'ema_state_dict', 'optimizer')
SEED = 0


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument('config', help='path of a training config')
    parser.add_argument(
        '--kills', type=int, default=50, help='number of kills at random times'
    )
    parser.add_argument(
        '--in-write',
        type=int,
        default=10,
        help='number of additional kills while a checkpoint is written',
    )
    parser.add_argument(
        '--terminations',
        type=int,
        default=0,
        help='number of additional SIGTERMs at random times',
    )
    parser.add_argument(
        '--processes',
        type=int,
        default=1,
        help='number of data-parallel processes',
    )
    parser.add_argument(
        '--work-dir',
        default='work_dirs/kill_and_resume',
        help='folder for both runs; existing contents are deleted',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='override settings of the config',
    )
    add_debug(parser)
    args = parser.parse_args()
    if not args.kills + args.in_write + args.terminations:
        parser.error('at least one interruption is needed')
    return args


def start(
    args: argparse.Namespace, folder: Path, *script: str
) -> subprocess.Popen:
    """Start a training in a process group of its own.

    Args:
        args (Namespace): Config, options and number of processes.
        folder (Path): Work directory.
        script (str): Script and arguments, by default tools/train.py.
    """
    command = [sys.executable]
    options = ['--work-dir', str(folder), '--resume']
    if args.processes > 1:
        command += ['-m', 'torch.distributed.run', '--standalone']
        command += [f'--nproc_per_node={args.processes}']
        options += ['--launcher', 'pytorch']
    command += [*(script or [TRAIN]), args.config, *options]
    command += ['--cfg-options', *args.cfg_options]
    log = open(folder.with_suffix('.log'), 'ab')
    return subprocess.Popen(
        command,
        stdout=log,
        stderr=log,
        start_new_session=True,
        env=dict(os.environ, CUBLAS_WORKSPACE_CONFIG=':4096:8'),
    )


def interrupt(process: subprocess.Popen, signal_number: int) -> int:
    """Send a signal to a training, and wait for all of its processes.

    Args:
        process (Popen): The training, or its launcher. A launcher forwards
            SIGTERM; SIGKILL is sent to each process.
        signal_number (int): The signal.
    """
    children = []
    with suppress(psutil.NoSuchProcess):
        children = psutil.Process(process.pid).children(recursive=True)
    killed = children if signal_number == signal.SIGKILL else []
    for member in [process, *killed]:
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            member.send_signal(signal_number)
    code = process.wait()
    psutil.wait_procs(children, timeout=60)
    return code


def train_uninterrupted(
    args: argparse.Namespace, folder: Path
) -> Tuple[float, float]:
    """Train; return the seconds until the first checkpoint, and in total."""
    start_time = time.monotonic()
    process, first = start(args, folder), None
    while process.poll() is None:
        time.sleep(0.1)
        if first is None and checkpoints_of(folder):
            first = time.monotonic() - start_time
    if process.returncode or first is None:
        raise ConfigError(
            f'The uninterrupted training of {args.config} ended with code '
            f'{process.returncode}; see {folder.with_suffix(".log")}.'
        )
    return first, time.monotonic() - start_time


def train_interrupted(
    args: argparse.Namespace, folder: Path, first: float, last: float
) -> Counter:
    """Kill and resume a training; return the number of each interruption.

    Args:
        args (Namespace): Command line.
        folder (Path): Work directory.
        first (float): Seconds until the first checkpoint.
        last (float): Seconds of the uninterrupted training.
    """
    rng = random.Random(SEED)
    interruptions = ['killed'] * args.kills + [
        'terminated'
    ] * args.terminations
    interruptions += [STAGES[i % len(STAGES)] for i in range(args.in_write)]
    rng.shuffle(interruptions)
    counts: Counter = Counter()
    # Seconds until a signal: from before the first iteration to a few
    # checkpoints later.
    span = (
        0.8 * first,
        first + max(1.6 * (last - first) / len(interruptions), 0.5),
    )
    for interruption in tqdm(interruptions, desc='kills', disable=None):
        if interruption in STAGES:
            write = str(rng.randint(1, 3))
            script = (str(Path(__file__)), KILL_IN_WRITE, interruption, write)
            interrupted = start(args, folder, *script).wait() != 0
        else:
            process = start(args, folder)
            try:
                process.wait(rng.uniform(*span))
                interrupted = False  # the training has ended
            except subprocess.TimeoutExpired:
                killed = interruption == 'killed'
                sent = signal.SIGKILL if killed else signal.SIGTERM
                interrupted = interrupt(process, sent) != 0
        counts[interruption if interrupted else 'ended before'] += 1
        if not interrupted:
            break
    if start(args, folder).wait():
        raise ConfigError(
            'A training could not be resumed: see '
            f'{folder.with_suffix(".log")}.'
        )
    return counts


def kill_in_write(stage: str, write: int, argv: List[str]) -> None:
    """Run ``tools/train.py``, killed during the n-th write of a checkpoint.

    Args:
        stage (str): One of ``STAGES``.
        write (int): Number of the write, from 1.
        argv (list[str]): Arguments of ``tools/train.py``.
    """
    fsync, replace = os.fsync, os.replace
    writes = 0

    def kill_if(condition: bool) -> None:
        if condition and writes == write:
            os.kill(os.getpid(), signal.SIGKILL)

    def killing_fsync(descriptor: int) -> None:
        nonlocal writes
        fsync(descriptor)
        name = os.readlink(f'/proc/self/fd/{descriptor}')
        if name.endswith('.pth.part'):
            writes += 1
            if stage == 'half written' and writes == write:
                os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
            kill_if(stage == 'half written')

    def killing_replace(source: Any, target: Any) -> None:
        is_checkpoint = str(target).endswith('.pth')
        kill_if(is_checkpoint and stage == 'before renaming')
        replace(source, target)
        kill_if(is_checkpoint and stage == 'after renaming')

    os.fsync, os.replace = killing_fsync, killing_replace
    sys.argv = [TRAIN, *argv]
    runpy.run_path(TRAIN, run_name='__main__')


def tensors_of(checkpoint: dict) -> Dict[str, torch.Tensor]:
    """Return weights, averages and optimizer state of a checkpoint by name."""
    parts = {k: checkpoint[k] for k in PARTS if k in checkpoint}
    return {name: x for name, x in walk(parts) if isinstance(x, torch.Tensor)}


def main() -> None:
    args = parse_args()
    folder = Path(args.work_dir)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    folders = folder / 'uninterrupted', folder / 'interrupted'
    args.cfg_options = [f'randomness.seed={SEED}', *args.cfg_options]
    first, last = train_uninterrupted(args, folders[0])
    print(f'uninterrupted: {last:.0f} s, first checkpoint after {first:.0f} s')
    counts = train_interrupted(args, folders[1], first, last)
    print('kills:', ', '.join(f'{n} {name}' for name, n in counts.items()))
    expected, actual = (tensors_of(latest_checkpoint(x)[1]) for x in folders)
    try:
        assert_close(actual, expected, rtol=0, atol=0)
    except AssertionError as error:
        sys.exit(f'The runs end with different tensors: {error}')
    print(f'{len(expected)} tensors, equal in every bit')


if __name__ == '__main__':
    if sys.argv[1:2] == [KILL_IN_WRITE]:
        kill_in_write(sys.argv[2], int(sys.argv[3]), sys.argv[4:])
    else:
        with exit_on_error():
            main()
