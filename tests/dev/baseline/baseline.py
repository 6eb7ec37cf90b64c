"""Compare the results of the code with a recording of commit 6e8e919.

    python tests/dev/baseline/baseline.py check
    python tests/dev/baseline/baseline.py check --parts combinations --every 9
    python tests/dev/baseline/baseline.py check --files /tmp/files
    python tests/dev/baseline/baseline.py record --code ../at_6e8e919

The parts, on one thread and from fixed seeds:

- ``combinations``: losses, gradients and outputs of every legal combination
  of the method's parts, in float64;
- ``runs``: logged values of six trainings of twenty iterations, tensors of
  their checkpoints, of ``interrupted.pth`` and of exports, predictions, and
  the result of resuming the interrupted runs;
- ``files``, not recorded: commit 6e8e919 writes the files of ``runs`` (or
  they are taken from ``--files``), and the code under test loads them and
  resumes from them.

Results must be bit-identical; ``--tolerance 1e-12`` also accepts results of
operations in another order. Bits also depend on the machine and on library
versions: if these differ from the recorded ones, ``check`` prints them, and
``--recorded fresh`` records 6e8e919 on this machine before the comparison.
"""

import argparse
import gzip
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Dict

from comparison import compare

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
RECORDED = HERE / 'recorded.json.gz'
COMMIT = '6e8e919'
PARTS = ('combinations', 'runs', 'files')
# Settings for equal rounding on different x86 processors.
ENVIRONMENT = dict(
    OMP_NUM_THREADS='1',
    MKL_NUM_THREADS='1',
    MKL_CBWR='COMPATIBLE',
    ATEN_CPU_CAPABILITY='avx2',
    ONEDNN_MAX_CPU_ISA='AVX2',
    CUDA_VISIBLE_DEVICES='',
    PYTHONWARNINGS='ignore',
    PYTHONHASHSEED='0',
)
# Results of `runs`, in the folder of its files.
RESULTS_FILE = 'made.json'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('command', choices=['check', 'record', 'work'])
    parser.add_argument(
        '--code', default=ROOT, type=Path, help='root of the code under test'
    )
    parser.add_argument('--parts', nargs='+', choices=PARTS, default=PARTS)
    parser.add_argument(
        '--only',
        default='',
        help='only combinations and runs with this word in the name',
    )
    parser.add_argument(
        '--every',
        type=int,
        default=1,
        metavar='N',
        help='only every N-th combination',
    )
    parser.add_argument(
        '--tolerance',
        type=float,
        default=0.0,
        help='numbers within this, absolutely or relatively, are equal',
    )
    parser.add_argument(
        '--recorded',
        default=str(RECORDED),
        help='file to compare with or to write; "fresh" records the commit '
        'first, on this machine',
    )
    parser.add_argument(
        '--files',
        type=Path,
        help='folder with files of another version; if it is empty, commit '
        f'{COMMIT} writes them there',
    )
    # Option of worker processes.
    parser.add_argument('--home', type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def machine() -> Dict[str, str]:
    """Return the processor and the versions on which results depend."""
    from importlib.metadata import PackageNotFoundError, version

    import torch

    found = dict(
        machine=platform.machine(),
        torch=torch.__version__,
        capability=torch.backends.cpu.get_cpu_capability(),
    )
    for names in (
        ('numpy',),
        ('onedl-mmengine', 'mmengine'),
        ('onedl-mmcv', 'mmcv', 'mmcv-lite'),
        ('onedl-mmdetection', 'mmdet'),
        ('onedl-mmpretrain', 'mmpretrain'),
    ):
        for name in names:
            with suppress(PackageNotFoundError):
                found[name] = version(name)
    return found


def run_part(args: argparse.Namespace) -> None:
    """Run a part in this process, which imports the code under test."""
    import torch

    torch.set_num_threads(1)
    used = Path(find_spec('mmfmkt').origin).resolve()
    if not used.is_relative_to(args.code.resolve()):
        raise SystemExit(f'{used} would be used instead of {args.code}.')
    found: Dict[str, Any] = {}
    (part,) = args.parts
    if part == 'combinations':
        import combinations

        found = combinations.run(args.only, args.every)
    else:
        import runs

        home = args.home.resolve()
        if part == 'runs':
            found = runs.make(args.code, home, args.only)
        else:
            found = runs.read(args.code, args.files, home, args.only)
    found = dict(machine=machine(), found=found)
    Path(args.recorded).write_text(json.dumps(found))


def processor_time() -> float:
    """Return the processor time of ended child processes in seconds."""
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime


def run_worker(
    part: str, code: Path, args: argparse.Namespace, home: Path, files=None
) -> Dict[str, Any]:
    """Run a part in a process of its own, and return its results."""
    start, used = time.monotonic(), processor_time()
    out = home / f'{part}.json'
    command = [sys.executable, str(HERE / 'baseline.py'), 'work']
    command += ['--code', str(code), '--parts', part]
    command += ['--only', args.only, '--every', str(args.every)]
    command += ['--recorded', str(out), '--home', str(home / part)]
    if files is not None:
        command += ['--files', str(files)]
    path = f'{code}{os.pathsep}{os.environ.get("PYTHONPATH", "")}'
    done = subprocess.run(
        command,
        env={
            **os.environ,
            **ENVIRONMENT,
            'PYTHONPATH': path,
            'BASELINE_CODE': str(code),
        },
        cwd=home,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(
            f'{part} of {code} failed:\n{done.stdout[-2000:]}\n'
            f'{done.stderr[-6000:]}'
        )
    seconds, used = time.monotonic() - start, processor_time() - used
    print(
        f'{part} of {code}: {seconds:.0f} s, {used:.0f} s of them on the '
        'processor',
        flush=True,
    )
    return json.loads(out.read_text())


def code_of_commit(home: Path) -> Path:
    """Unpack the recorded commit."""
    folder = home / COMMIT
    folder.mkdir(parents=True)
    archive = subprocess.run(
        ['git', '-C', str(ROOT), 'archive', COMMIT],
        stdout=subprocess.PIPE,
        check=True,
    )
    subprocess.run(
        ['tar', '-x', '-C', str(folder)], input=archive.stdout, check=True
    )
    return folder


def record(code: Path, args: argparse.Namespace, home: Path) -> Dict[str, Any]:
    """Run the recorded parts, and return their results."""
    found: Dict[str, Any] = {}
    for part in PARTS[:2]:
        if part in args.parts:
            result = run_worker(part, code, args, home)
            found[part] = result['found']
            found['machine'] = result['machine']
    return found


def write_recording(found: Dict[str, Any], path: Path) -> None:
    """Write a recording; equal values give equal bytes."""
    text = json.dumps(found, sort_keys=True, separators=(',', ':'))
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    print(f'{path}: {path.stat().st_size / 1e6:.2f} MB')


def read_recording(path: Path) -> Dict[str, Any]:
    """Read a recording."""
    return json.loads(gzip.decompress(path.read_bytes()))


def selected(
    recorded: Dict[str, Any], part: str, args: argparse.Namespace
) -> Dict[str, Any]:
    """Return the requested entries of a recording."""
    return {
        name: value
        for name, value in recorded[part].items()
        if args.only in name
        and (part == 'runs' or zlib.crc32(name.encode()) % args.every == 0)
    }


def check(args: argparse.Namespace, home: Path) -> int:
    """Compare the code under test; return the number of differences."""
    code, differences = args.code.resolve(), 0
    old = None
    if args.recorded == 'fresh':
        old = code_of_commit(home)
        (home / 'old').mkdir()
        recorded = record(old, args, home / 'old')
    else:
        recorded = read_recording(Path(args.recorded))
    for part in PARTS[:2]:
        if part in args.parts:
            result = run_worker(part, code, args, home)
            if result['machine'] != recorded['machine']:
                print(
                    f'This is {result["machine"]}, but {recorded["machine"]} '
                    'was recorded: bits may differ for that reason; '
                    'see --recorded fresh.'
                )
            expected = selected(recorded, part, args)
            differences += compare(
                part, expected, result['found'], args.tolerance
            )
    if 'files' in args.parts:
        files = args.files and args.files.resolve()
        if args.recorded == 'fresh' and 'runs' in args.parts and not files:
            files = home / 'old' / 'runs'
        files = files or home / 'made' / 'runs'
        if not (files / RESULTS_FILE).exists():
            files.parent.mkdir(parents=True, exist_ok=True)
            old = old or code_of_commit(home)
            make_files(files, old)
        expected = results_of_files(files, args.only)
        found = run_worker('files', code, args, home, files)['found']
        differences += compare('files', expected, found, args.tolerance)
    return differences


def make_files(files: Path, code: Path) -> None:
    """Write the files of a version of the code to a folder."""
    everything = argparse.Namespace(only='', every=1)
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        (home / 'runs').symlink_to(files)
        files.mkdir(exist_ok=True)
        run_worker('runs', code, everything, home)


def results_of_files(files: Path, word: str) -> Dict[str, Any]:
    """Return the results that loading a version's files must reproduce."""
    made = json.loads((files / RESULTS_FILE).read_text())
    expected = {}
    for name, found in made.items():
        if word not in name:
            continue
        if 'error' in found:
            raise SystemExit(f'{name} of {files}: {found["error"]}')
        keys = ('predictions', 'exported_predictions')
        expected[name] = {key: found[key] for key in keys}
        if 'resumed' in found:
            # An interrupted run ends as the uninterrupted one.
            last = found['logged'][-len(found['resumed_logged']) :]
            expected[name].update(
                resumed=found['checkpoint'], resumed_logged=last
            )
    return expected


def main() -> None:
    args = parse_args()
    if args.command == 'work':
        run_part(args)
        return
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        if args.command == 'record':
            found = record(args.code.resolve(), args, home)
            write_recording(found, Path(args.recorded))
            return
        start = time.monotonic()
        differences = check(args, home)
    seconds = time.monotonic() - start
    print(f'{differences} differences, {seconds:.0f} s')
    sys.exit(bool(differences))


if __name__ == '__main__':
    main()
