"""Record memory, file handles and threads of a training.

    python tools/dev/robustness/long_run.py CONFIG --plot watch.png

Run ``tools/train.py CONFIG``, sample the sums over all of its processes every
few seconds, and print the means of the first and of the last tenth of the
samples.
"""

import argparse
import re
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Dict, List

import psutil

from mmfmkt.cli.errors import exit_on_error
from mmfmkt.cli.options import add_debug, make_parser
from mmfmkt.utils import ConfigError

ROOT = Path(__file__).resolve().parents[3]
# Sampled values; labels of plot and output.
LABELS = dict(
    memory='memory in MiB', handles='file handles', threads='threads'
)


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument('config', help='path of a training config')
    parser.add_argument(
        '--work-dir',
        default='work_dirs/long_run',
        help='work directory of the training (default: %(default)s)',
    )
    parser.add_argument(
        '--every', type=float, default=2.0, help='seconds between two samples'
    )
    parser.add_argument('--plot', help='image file to write')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='override settings of the config',
    )
    add_debug(parser)
    return parser.parse_args()


def sample(process: psutil.Process) -> Dict[str, float]:
    """Return sums of the sampled values over a process and its children.

    Memory is the proportional set size (PSS), which counts shared memory
    once.
    """
    sums = dict.fromkeys(LABELS, 0.0)
    for member in [process, *process.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            sums['memory'] += member.memory_full_info().pss / 2**20
            sums['handles'] += member.num_fds()
            sums['threads'] += member.num_threads()
    return sums


def record(args: argparse.Namespace) -> List[Dict[str, float]]:
    """Run the training, and return the samples."""
    folder = Path(args.work_dir)
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, ROOT / 'tools/train.py', args.config]
    command += ['--work-dir', folder]
    if args.cfg_options:
        command += ['--cfg-options', *args.cfg_options]
    log, samples = folder / 'train.log', []
    with open(log, 'w') as file:
        training = subprocess.Popen(command, stdout=file, stderr=file)
        process, start = psutil.Process(training.pid), time.monotonic()
        while training.poll() is None:
            time.sleep(args.every)
            with suppress(psutil.NoSuchProcess):
                if re.search(r'Epoch\(train\)|Iter\(train\)', tail(log)):
                    row = sample(process)
                    row['seconds'] = time.monotonic() - start
                    samples += [row] if row['memory'] else []
    if training.returncode or len(samples) < 10:
        raise ConfigError(
            f'The training ended with the code {training.returncode} after '
            f'{len(samples)} samples; see {log}.'
        )
    return samples


def tail(path: Path) -> str:
    """Return the end of a log."""
    with open(path, 'rb') as file:
        file.seek(max(path.stat().st_size - 20000, 0))
        return file.read().decode(errors='replace')


def plot(samples: List[Dict[str, float]], path: str) -> None:
    """Plot the samples over time."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(len(LABELS), sharex=True, figsize=(7, 6))
    minutes = [row['seconds'] / 60 for row in samples]
    for axis, (key, label) in zip(axes, LABELS.items()):
        axis.plot(minutes, [row[key] for row in samples], lw=1)
        axis.set_ylabel(label)
        axis.set_ylim(0, 1.2 * max(row[key] for row in samples))
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel('minutes')
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    args = parse_args()
    samples = record(args)
    tenth = max(len(samples) // 10, 1)
    for key, label in LABELS.items():
        first, last = (
            sum(row[key] for row in part) / len(part)
            for part in (samples[:tenth], samples[-tenth:])
        )
        print(
            f'{label}: {first:.1f} in the first tenth, {last:.1f} in the last'
        )
    if args.plot:
        plot(samples, args.plot)


if __name__ == '__main__':
    with exit_on_error():
        main()
