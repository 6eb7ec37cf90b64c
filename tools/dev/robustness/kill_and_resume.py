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
from contextlib import suppress
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import psutil
import torch
from tqdm import tqdm

from mmfmkt.cli.errors import exit_on_error
from mmfmkt.cli.options import add_debug, make_parser
from mmfmkt.engine.resume.latest_checkpoint import (
    checkpoints_of,
    latest_checkpoint,
)
from mmfmkt.utils import ConfigError

ROOT = Path(__file__).resolve().parents[3]
STAGES = ('half written', 'written aside', 'renamed')
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
        '--seed', type=int, default=SEED, help='seed of the random times'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='override settings of the config',
    )
    add_debug(parser)
    return parser.parse_args()


def command(args: argparse.Namespace, folder: Path, *front: str) -> List[str]:
    """Return the command that trains in a folder."""
    tool = (
        [str(Path(__file__)), *front]
        if front
        else [str(ROOT / 'tools/train.py')]
    )
    start = [sys.executable]
    options = ['--work-dir', str(folder), '--resume']
    if args.processes > 1:
        start += ['-m', 'torch.distributed.run', '--standalone']
        start += [f'--nproc_per_node={args.processes}']
        options += ['--launcher', 'pytorch']
    if args.cfg_options:
        options += ['--cfg-options', *args.cfg_options]
    return [*start, *tool, args.config, *options]


def start(args: argparse.Namespace, folder: Path, *front: str) -> Any:
    """Start a training in a process group of its own."""
    log = open(folder.with_suffix('.log'), 'ab')
    return subprocess.Popen(
        command(args, folder, *front),
        stdout=log,
        stderr=log,
        start_new_session=True,
        env=dict(os.environ, CUBLAS_WORKSPACE_CONFIG=':4096:8'),
    )


def end(process: Any, number: int) -> int:
    """Send a signal to a training, and wait for all of its processes.

    Args:
        process (Popen): The training, or its launcher. A launcher forwards
            SIGTERM; SIGKILL is sent to each process.
        number (int): The signal.
    """
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    killed = family if number == signal.SIGKILL else []
    for member in [process, *killed]:
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            member.send_signal(number)
    code = process.wait()
    for member in family:
        with suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
            member.wait(60)
    return code


def uninterrupted(
    args: argparse.Namespace, folder: Path
) -> Tuple[float, float]:
    """Train; return the seconds until the first checkpoint, and in total."""
    began = time.monotonic()
    process, first = start(args, folder), None
    while process.poll() is None:
        time.sleep(0.1)
        if first is None and checkpoints_of(folder):
            first = time.monotonic() - began
    if process.returncode or first is None:
        raise ConfigError(
            f'The uninterrupted training of {args.config} ended with code '
            f'{process.returncode}; see {folder.with_suffix(".log")}.'
        )
    return first, time.monotonic() - began


def interrupted(
    args: argparse.Namespace, folder: Path, first: float, last: float
) -> Dict[str, int]:
    """Kill and resume a training; return the number of each interruption."""
    draws = random.Random(args.seed)
    plan = ['killed'] * args.kills + ['terminated'] * args.terminations
    plan += [STAGES[i % len(STAGES)] for i in range(args.in_write)]
    draws.shuffle(plan)
    count: Dict[str, int] = {}
    # From before the first iteration to a few checkpoints later.
    span = 0.8 * first, first + max(1.6 * (last - first) / len(plan), 0.5)
    for what in tqdm(plan, desc='kills', disable=None):
        if what in STAGES:
            process = start(
                args, folder, 'die-in-write', what, str(draws.randint(1, 3))
            )
            hit = process.wait() != 0
        else:
            process = start(args, folder)
            try:
                process.wait(draws.uniform(*span))
                hit = False  # it had ended
            except subprocess.TimeoutExpired:
                number = signal.SIGKILL if what == 'killed' else signal.SIGTERM
                hit = end(process, number) != 0
        key = what if hit else 'ended before'
        count[key] = count.get(key, 0) + 1
        if not hit:
            break
    process = start(args, folder)
    if process.wait():
        raise ConfigError(
            'A training could not be resumed: see '
            f'{folder.with_suffix(".log")}.'
        )
    return count


def die_in_write(stage: str, writes: int, argv: List[str]) -> None:
    """Run ``tools/train.py``, killed in the n-th write of a checkpoint."""
    fsync, replace = os.fsync, os.replace
    seen = 0

    def dying_fsync(number: int) -> None:
        nonlocal seen
        fsync(number)
        name = os.readlink(f'/proc/self/fd/{number}')
        if name.endswith('.pth.part'):
            seen += 1
            if stage == 'half written' and seen == writes:
                os.ftruncate(number, os.fstat(number).st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)

    def dying_replace(source: Any, target: Any) -> None:
        checkpoint = str(target).endswith('.pth')
        here = seen == writes
        if here and stage == 'written aside' and checkpoint:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)
        if here and stage == 'renamed' and checkpoint:
            os.kill(os.getpid(), signal.SIGKILL)

    os.fsync, os.replace = dying_fsync, dying_replace
    sys.argv = [str(ROOT / 'tools/train.py'), *argv]
    runpy.run_path(sys.argv[0], run_name='__main__')


def tensors(part: Any, name: str = '') -> Iterator[Tuple[str, torch.Tensor]]:
    """Yield name and tensor of all tensors in a part of a checkpoint."""
    if isinstance(part, torch.Tensor):
        yield name, part
    elif isinstance(part, dict):
        for key, value in part.items():
            yield from tensors(value, f'{name}.{key}')
    elif isinstance(part, (list, tuple)):
        for index, value in enumerate(part):
            yield from tensors(value, f'{name}.{index}')


def compare(left: dict, right: dict) -> Tuple[int, int, float]:
    """Return the number of tensors, of differing ones, and the difference."""
    parts = ('state_dict', 'ema_state_dict', 'optimizer')
    expected, found = (
        dict(tensors({k: x[k] for k in parts if k in x}))
        for x in (left, right)
    )
    if set(expected) != set(found):
        raise ConfigError('The two runs save different tensors.')
    differ, largest = 0, 0.0
    for name, tensor in expected.items():
        if not torch.equal(tensor, found[name]):
            differ += 1
            error = (tensor.double() - found[name].double()).abs().max()
            largest = max(largest, error.item())
    return len(expected), differ, largest


def main(args: Optional[argparse.Namespace] = None) -> None:
    args = args or parse_args()
    folder = Path(args.work_dir)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    whole, parts = folder / 'uninterrupted', folder / 'interrupted'
    args.cfg_options = [f'randomness.seed={SEED}', *args.cfg_options]
    first, last = uninterrupted(args, whole)
    print(f'uninterrupted: {last:.0f} s, first checkpoint after {first:.0f} s')
    count = interrupted(args, parts, first, last)
    print('kills:', ', '.join(f'{n} {what}' for what, n in count.items()))
    (_, left), (_, right) = latest_checkpoint(whole), latest_checkpoint(parts)
    total, differ, largest = compare(left, right)
    print(
        f'{total} tensors, {differ} of them different, largest difference '
        f'{largest:g}'
    )
    if differ:
        sys.exit(1)


if __name__ == '__main__':
    if sys.argv[1:2] == ['die-in-write']:
        die_in_write(sys.argv[2], int(sys.argv[3]), sys.argv[4:])
    else:
        with exit_on_error():
            main()
