"""Prepares the virtual environment of quick_start.sh and run_tests.sh.

Prints the path of its Python on stdout, everything else on stderr. Each
finished step leaves a stamp, so that a repeated call starts at once and an
interrupted one continues. Needs nothing but the standard library.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 10)


class Pins(NamedTuple):
    """A stack that can be installed, and what its versions ask for."""

    folder: str  # of its requirement files
    suffix: str  # of its environment's folder
    newest: tuple[int, int]  # Python that its torch has wheels for
    cuda: str  # that its torch on PyPI is compiled for


PINS = {
    'onedl': Pins('requirements', '', (3, 13), '13.0'),
    'upstream': Pins('requirements/upstream', '-upstream', (3, 11), '12.1'),
}
ONEDL = PINS['onedl']

# The steps in the order of installation and the files they depend on. mmcv
# is compiled against torch, so it has to be looked at again with torch; the
# tests' needs must leave torch as it is.
STEPS = {
    'build tools': ('{pins}/build.txt',),
    'torch': ('{pins}/torch.txt',),
    'openmmlab': ('{pins}/openmmlab.txt',),
    'mmcv': ('{pins}/mmcv.txt', '{pins}/torch.txt'),
    'tests': ('{pins}/tests.txt', '{pins}/torch.txt'),
    'mmfmkt': ('setup.py', 'pyproject.toml', 'mmfmkt/version.py'),
}
# The steps that a working stack replaces, and a module of each.
STACK = {'torch': 'torch', 'openmmlab': 'mmdet', 'mmcv': 'mmcv.ops'}
PACKAGES = ('torch', 'mmengine', 'mmcv', 'mmdet')
NOTES = {
    'torch': 'torch, a download of over 2 GB',
    'openmmlab': 'mmengine, mmdet and mmpretrain',
    'mmcv': 'mmcv, compiled once: about 5 to 10 minutes on 2 cores',
    'mmfmkt': 'mmfmkt itself, as a link to this folder',
}

MARK = '.mmfmkt'  # folder of the stamps: marks a venv as made by this set-up
OUTSIDE = 'outside '  # opens the stamp of a step that a found stack covers
HEARTBEAT = 20.0  # seconds between two signs of life in a log
AGAIN = 'then run the same command again, it continues here'
NETWORK = 'check the network and the package index (pip config list), ' + AGAIN

# Imports the modules in argv, tries an operator of mmcv on the GPU if torch
# can use one, and tells where everything was found.
PROBE = """
import importlib, json, sys
modules = [importlib.import_module(name) for name in sys.argv[1:]]
import torch
if torch.cuda.is_available():
    from mmcv.ops import nms
    box = torch.tensor([[0., 0., 9., 9.]], device='cuda')
    nms(box, box.new_ones(1), 0.5)
print(json.dumps([
    {m.__name__: m.__file__ for m in modules},
    {m.__name__: m.__version__ for m in modules if hasattr(m, '__version__')},
    [p for p in sys.path if p.endswith(('site-packages', 'dist-packages'))]]))
"""


class SetUpError(Exception):
    """Something that the user has to put right; the text says how."""


class Probe(NamedTuple):
    """What importing a set of modules in a fresh process gave."""

    python: str
    files: dict[str, str]
    versions: dict[str, str]
    paths: list[str]
    error: str  # empty if all went well


def say(text: str) -> None:
    """Print a message of this set-up to stderr."""
    print(f'set-up: {text}', file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Write a time as people do: ``4.2 s`` or ``3 min 20 s``."""
    if seconds < 60:
        return f'{seconds:.1f} s'
    return f'{int(seconds) // 60} min {int(seconds) % 60} s'


# Running commands


def progress(label: str, output: bytes, seconds: float) -> str:
    """Say how far a command is; counts files where ninja compiles."""
    counts = re.findall(rb'\[(\d+)/(\d+)\]', output)
    files = '{}/{} files, '.format(*map(int, counts[-1])) if counts else ''
    return f'{label}: {files}{duration(seconds)}'


def wait(
    process: subprocess.Popen,
    report: Callable[[float], str] | None,
    interval: float = HEARTBEAT,
) -> int:
    """Wait for the leader of a process group, which ends if we do.

    Args:
        process: The process.
        report: Gives the line to print from the seconds passed; None if
            the process itself shows what it does.
        interval: Seconds between two lines. On a terminal one line changes
            every second instead.

    Returns:
        The exit status.
    """
    live, start = sys.stderr.isatty(), time.monotonic()
    erase = '\r\033[K' if live and report else ''
    try:
        while True:
            try:
                return process.wait(1 if live else interval)
            except subprocess.TimeoutExpired:
                text = report(time.monotonic() - start) if report else ''
                if erase:
                    print(erase + text, end='', file=sys.stderr, flush=True)
                elif text:
                    say(text)
    finally:
        print(erase, end='', file=sys.stderr, flush=True)
        if process.poll() is None:
            end_group(process)


def end_group(process: subprocess.Popen, patience: float = 10.0) -> None:
    """End a process group; at first gently, so that pip can clean up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
            return


def run(
    command: list[str],
    venv: Path,
    label: str,
    hint: str,
    env: dict[str, str] | None = None,
    show: bool = False,
    interval: float = HEARTBEAT,
) -> str:
    """Run a long command, its output going to ``setup.log`` in the venv.

    Args:
        command: What to run.
        venv: The virtual environment.
        label: What the command does, for the progress report.
        hint: What to try if it fails.
        env: Environment variables to add.
        show: It is pip and may draw its own bars if stderr is a terminal.
        interval: Seconds between two signs of life.

    Returns:
        What it wrote, empty if that went to the terminal.

    Raises:
        SetUpError: If the command fails.
    """
    log = venv / 'setup.log'
    live = sys.stderr.isatty()
    show = show and live
    with open(log, 'ab') as sink:
        sink.write(f'$ {" ".join(map(shlex.quote, command))}\n'.encode())
        sink.flush()
        offset = sink.tell()
        process = subprocess.Popen(
            command + (['--log', str(log)] if show else []),
            stdin=None if live else subprocess.DEVNULL,
            stdout=sys.stderr if show else sink,
            stderr=sys.stderr if show else sink,
            env={
                **os.environ,
                'PIP_DISABLE_PIP_VERSION_CHECK': '1',
                **(env or {}),
            },
            start_new_session=True,
            # A child that outlives us keeps the lock, see locked().
            close_fds=False,
        )

    def output() -> bytes:
        return b'' if show else log.read_bytes()[offset:]

    code = wait(
        process,
        None if show else lambda seconds: progress(label, output(), seconds),
        interval,
    )
    text = output().decode(errors='replace')
    if code:
        print(*text.splitlines()[-30:], sep='\n', file=sys.stderr)
        raise SetUpError(f'{label} failed: {hint}. All output is in {log}')
    return text


def query(*command: str | Path, **kwargs) -> subprocess.CompletedProcess:
    """Run a short command and keep what it prints."""
    kwargs.setdefault('input', '')
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, **kwargs
    )


def ask(python: str | Path, code: str, *args: str) -> str:
    """Run a line of Python elsewhere; empty if it fails or prints nothing."""
    done = query(python, '-c', code, *args, cwd=ROOT)
    return done.stdout.strip() if done.returncode == 0 else ''


def probe(python: str | Path, *modules: str, cwd: Path = ROOT) -> Probe:
    """Import modules in a fresh process and try mmcv on the GPU."""
    done = query(python, '-c', PROBE, *modules, cwd=cwd)
    if done.returncode:
        last = (done.stderr.strip() or 'it crashed').splitlines()[-1]
        return Probe(str(python), {}, {}, [], last)
    found = json.loads(done.stdout.splitlines()[-1])
    return Probe(str(python), *found, error='')


# The virtual environment and its stamps


def venv_python(venv: Path) -> Path:
    """The path of the environment's Python."""
    return venv / 'bin' / 'python'


def venv_version(venv: Path) -> str:
    """The environment's Python as ``3.11``; empty if it does not work."""
    # Without pyvenv.cfg its python would be the one outside.
    if not (venv / 'pyvenv.cfg').exists() or not venv_python(venv).exists():
        return ''
    return ask(
        venv_python(venv),
        'import sys, pip; print("%d.%d" % sys.version_info[:2])',
    )


def stamp(venv: Path, step: str) -> Path:
    """The file that says that a step is finished."""
    return venv / MARK / step.replace(' ', '-')


def digest(
    step: str, version: str, root: Path = ROOT, pins: Pins = ONEDL
) -> str:
    """Hash all that a step's result depends on.

    Args:
        step: One of ``STEPS``.
        version: The environment's Python, as ``3.11``.
        root: The repository.
        pins: The stack.
    """
    value = hashlib.sha256(version.encode())
    for name in STEPS[step]:
        path = root / name.format(pins=pins.folder)
        value.update(path.read_bytes() if path.exists() else b'')
    if step == 'mmcv':
        value.update(nvidia_driver().encode())
    if step == 'mmfmkt':  # the environment may serve several clones
        value.update(str(root).encode())
    return value.hexdigest()


def is_done(
    venv: Path, step: str, version: str, root: Path = ROOT, pins: Pins = ONEDL
) -> bool:
    """Whether a step's stamp is there and valid."""
    path = stamp(venv, step)
    if not path.exists():
        return False
    text = path.read_text()
    if text.startswith(OUTSIDE):
        return Path(text[len(OUTSIDE) :]).exists()
    return text == digest(step, version, root, pins)


def plan(venv: Path, root: Path = ROOT, pins: Pins = ONEDL) -> list[str]:
    """The steps that are still to be done, 'venv' being the first."""
    version = venv_version(venv)
    if not version:
        return ['venv', *STEPS]
    return [
        step for step in STEPS if not is_done(venv, step, version, root, pins)
    ]


def check_disposable(venv: Path) -> None:
    """Raise if a folder in the way may hold something of the user's."""
    if not venv.exists() or (venv / MARK).exists() or not any(venv.iterdir()):
        return
    packages = [
        info
        for info in venv.glob('lib/python*/site-packages/*.dist-info')
        if not info.name.startswith(('pip-', 'setuptools-'))
    ]
    if packages or not (venv / 'pyvenv.cfg').exists():
        raise SetUpError(
            f'{venv} is in the way: it is no working virtual environment '
            'with pip that was made by this set-up. Remove it, or set '
            'MMFMKT_VENV to another folder'
        )


def create_venv(venv: Path) -> None:
    """Make the environment anew from the Python that runs this."""
    check_disposable(venv)
    if venv.exists():
        shutil.rmtree(venv)
    (venv / MARK).mkdir(parents=True)
    run(
        [sys.executable, '-m', 'venv', str(venv)],
        venv,
        'virtual environment',
        f'check that {sys.executable} can make one',
    )


@contextlib.contextmanager
def locked(venv: Path) -> Iterator[None]:
    """Let one set-up at a time work on an environment."""
    venv.parent.mkdir(parents=True, exist_ok=True)
    with open(venv.parent / f'{venv.name}.lock', 'a') as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f'waits for another set-up of {venv} to end')
            fcntl.flock(handle, fcntl.LOCK_EX)
        # If we are killed, a pip that lives on keeps the next one waiting.
        os.set_inheritable(handle.fileno(), True)
        yield


# A stack that is already there


def find_stack(venv: Path) -> Probe | None:
    """Look for a working torch, mmengine, mmcv and mmdet to build on.

    Looks in the environment if the user made it, then in the Python that
    runs this.

    Returns:
        What was found, None if the stack is to be installed.

    Raises:
        SetUpError: If the user's own environment holds a part of a stack,
            which installing the rest might replace.
    """
    code = (
        'import sys; from importlib.util import find_spec; '
        'print(*[n for n in sys.argv[1:] '
        'if getattr(find_spec(n), "origin", None)])'
    )
    modules = (*PACKAGES, 'mmcv.ops', 'mmfmkt')
    version = venv_version(venv)
    if version and not (venv / MARK).exists():
        names = ask(venv_python(venv), code, *PACKAGES)
        if names:
            found = probe(venv_python(venv), *modules)
            if found.error:
                raise SetUpError(
                    f'{venv} was not made by this set-up and holds {names}, '
                    f'but not a working stack ({found.error}). Mend or '
                    'remove it, or set MMFMKT_VENV to another folder'
                )
            return found
    running = '{}.{}'.format(*sys.version_info)
    names = ask(sys.executable, code, *PACKAGES).split()
    if len(names) < len(PACKAGES) or version not in ('', running):
        return None
    found = probe(sys.executable, *modules)
    if found.error:
        say(f'the stack of {sys.executable} is not used: {found.error}')
        return None
    return found


def adopt(venv: Path, stack: Probe) -> None:
    """Make an environment see a stack, and stamp the steps it replaces."""
    versions = ', '.join(f'{n} {stack.versions[n]}' for n in PACKAGES)
    say(
        f'uses the stack of {stack.python} ({versions}); '
        'nothing of it is installed or replaced'
    )
    if Path(stack.python) != venv_python(venv):
        site = ask(
            venv_python(venv),
            'import sysconfig; print(sysconfig.get_path("purelib"))',
        )
        # addsitedir and not the bare path: it minds .pth files in there,
        # by which packages installed with pip install -e are found.
        Path(site, 'mmfmkt_stack.pth').write_text(
            ''.join(
                f'import site; site.addsitedir({path!r})\n'
                for path in stack.paths
            )
        )
    (venv / MARK).mkdir(exist_ok=True)
    for step, module in STACK.items():
        stamp(venv, step).write_text(OUTSIDE + stack.files[module])


# What has to be there before a start


def nvidia_driver() -> str:
    """The driver of the NVIDIA GPU, empty if there is none to be used."""
    if os.environ.get('CUDA_VISIBLE_DEVICES') in (
        '',
        '-1',
    ) or not shutil.which('nvidia-smi'):
        return ''
    done = query(
        'nvidia-smi', '--query-gpu=driver_version', '--format=csv,noheader'
    )
    return done.stdout.partition('\n')[0] if done.returncode == 0 else ''


def cuda_home() -> Path | None:
    """The folder of a CUDA toolkit with compiler and headers, if any."""
    given = os.environ.get('CUDA_HOME') or os.environ.get('CUDA_PATH')
    nvcc = shutil.which('nvcc')
    # nvcc may be a link or a script that stands apart from the headers.
    homes = (
        [given]
        if given
        else [
            *(
                str(Path(path).parent.parent)
                for path in (nvcc, nvcc and os.path.realpath(nvcc))
                if path
            ),
            '/usr/local/cuda',
            '/opt/cuda',
        ]
    )
    for home in map(Path, homes):
        headers = [
            *home.glob('include/cuda_runtime.h'),
            *home.glob('targets/*/include/cuda_runtime.h'),
        ]
        if headers and (home / 'bin/nvcc').exists():
            return home
    return None


def find_compiler() -> str:
    """The command of the C++ compiler, ``CXX`` if that is set."""
    names = ('c++', 'g++', 'clang++')
    return os.environ.get('CXX') or next(filter(shutil.which, names), '')


def compiler_problem() -> str:
    """Why C++17 cannot be compiled, empty if it can."""
    command = find_compiler()
    if not command:
        return 'no C++ compiler was found'
    try:
        done = query(
            *shlex.split(command),
            '-std=c++17',
            '-fsyntax-only',
            '-x',
            'c++',
            '-',
            input='#include <optional>\n',
        )
    except OSError:
        return f'the C++ compiler {command} does not start'
    return f'{command} does not compile C++17' if done.returncode else ''


def preflight(
    venv: Path,
    steps: list[str],
    version: tuple[int, int] = sys.version_info[:2],
    free_gb: float | None = None,
    pins: Pins = ONEDL,
) -> list[str]:
    """Check for what would stop the set-up half-way.

    Args:
        venv: The virtual environment.
        steps: The steps to be done; 'mmcv' if it has to be compiled.
        version: The Python that the environment is or will be made of.
        free_gb: Free disk at the environment, None to measure it.
        pins: The stack.

    Returns:
        One sentence for each thing that is missing, with its cure.
    """
    problems = []
    name = f'python{version[0]}.{version[1]}'
    if not OLDEST <= tuple(version) <= pins.newest:
        problems.append(
            f'Python 3.{OLDEST[1]} to 3.{pins.newest[1]} is needed, this is '
            f'{version[0]}.{version[1]}: install one, for instance from '
            'python.org, and name it by PYTHON=/path/to/python3'
        )
    if 'venv' in steps and not all(
        map(importlib.util.find_spec, ('venv', 'ensurepip'))
    ):
        problems.append(
            f'Python has no venv module: sudo apt install '
            f'{name}-venv (Debian, Ubuntu)'
        )
    if 'mmcv' in steps:
        problems += compile_problems(venv, name, pins)
    need = 8 if 'torch' in steps else 2 if 'mmcv' in steps else 0.3
    place = venv
    while not place.exists():
        place = place.parent
    if free_gb is None:
        free_gb = shutil.disk_usage(place).free / 1e9
    if free_gb < need:
        problems.append(
            f'{need} GB of free disk are needed at {place}, {free_gb:.1f} GB '
            'are free: make room, or set MMFMKT_VENV to a folder elsewhere'
        )
    temp = tempfile.gettempdir()
    if (
        'torch' in steps
        and os.stat(temp).st_dev != os.stat(place).st_dev
        and shutil.disk_usage(temp).free < 3e9
    ):
        problems.append(
            f'3 GB of free disk are needed in {temp} for '
            'downloads: make room, or set TMPDIR elsewhere'
        )
    return problems


def compile_problems(venv: Path, name: str, pins: Pins = ONEDL) -> list[str]:
    """What is missing to compile mmcv, see :func:`preflight`."""
    problems = []
    python = venv_python(venv)
    include = ask(
        python if python.exists() else sys.executable,
        'import sysconfig; print(sysconfig.get_config_var("INCLUDEPY"))',
    )
    problem = compiler_problem()
    if problem:
        problems.append(
            f'{problem}: sudo apt install g++ (Debian, Ubuntu), sudo dnf '
            'install gcc-c++ (Fedora), xcode-select --install (macOS), or '
            'name one by CXX=/path/to/g++'
        )
    if not Path(include, 'Python.h').exists():
        problems.append(
            f'Python.h is not in {include}: sudo apt install {name}-dev '
            '(Debian, Ubuntu), sudo dnf install python3-devel (Fedora)'
        )
    if nvidia_driver() and not cuda_home():
        problems.append(
            'there is an NVIDIA GPU but no CUDA toolkit (nvcc) to compile '
            f'mmcv for it: install the CUDA version of torch ({pins.cuda} '
            'for the wheel on PyPI) from '
            'developer.nvidia.com/cuda-toolkit-archive and set CUDA_HOME, '
            "or set CUDA_VISIBLE_DEVICES='' to go on with the CPU"
        )
    return problems


# The steps


def pip_install(
    venv: Path,
    label: str,
    *args: str,
    hint: str = NETWORK,
    env: dict[str, str] | None = None,
    show: bool = True,
) -> str:
    """Run ``pip install`` in the environment, see :func:`run`."""
    # --no-user: a user's pip configuration may say otherwise.
    return run(
        [str(venv_python(venv)), '-m', 'pip', 'install', '--no-user', *args],
        venv,
        label,
        hint,
        env,
        show,
    )


def requirements(name: str, pins: Pins) -> str:
    """The path of a requirement file."""
    return str(ROOT / pins.folder / f'{name}.txt')


def build_jobs() -> int:
    """How many files to compile at once: by cores and 2 GB of memory each."""
    cores = (
        len(os.sched_getaffinity(0))
        if hasattr(os, 'sched_getaffinity')
        else os.cpu_count() or 1
    )
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    info = Path('/proc/meminfo')
    if info.exists():
        memory = 1024 * int(
            re.search(r'MemAvailable:\s+(\d+)', info.read_text())[1]
        )
    limit = Path('/sys/fs/cgroup/memory.max')  # of a container
    if limit.exists() and limit.read_text().strip().isdigit():
        memory = min(memory, int(limit.read_text()))
    return max(1, min(cores, int(memory / 2e9)))


def build_env(venv: Path) -> dict[str, str]:
    """The environment variables to compile mmcv with.

    Raises:
        SetUpError: If the CUDA toolkit does not fit torch.
    """
    env = {
        'MMCV_WITH_OPS': '1',
        'MAX_JOBS': os.environ.get('MAX_JOBS') or str(build_jobs()),
        # Debug information doubles the time.
        'CFLAGS': os.environ.get('CFLAGS', '') + ' -g0',
    }
    if not shutil.which('c++'):  # what torch takes unless told otherwise
        env['CXX'] = find_compiler()
    wanted = ask(
        venv_python(venv),
        'import torch; '
        'print(torch.version.cuda if torch.cuda.is_available() else "")',
    )
    if not wanted:
        if nvidia_driver():
            say(
                f'torch cannot use the GPU with driver {nvidia_driver()}: '
                'goes on with the CPU; a newer driver cures that'
            )
        return env
    home = cuda_home()
    text = query(home / 'bin/nvcc', '--version').stdout
    found = re.search(r'release (\d+)\.', text)[1]
    if found != wanted.partition('.')[0]:
        raise SetUpError(
            f'the CUDA toolkit in {home} is version {found}, torch needs '
            f'{wanted}: install that and set CUDA_HOME to it, or set '
            "CUDA_VISIBLE_DEVICES='' to go on with the CPU"
        )
    return {**env, 'FORCE_CUDA': '1', 'CUDA_HOME': str(home)}


def installed_version(venv: Path, name: str) -> str:
    """The version of a distribution in the environment, empty if none."""
    return ask(
        venv_python(venv),
        'import sys; from importlib import metadata; '
        'print(metadata.version(sys.argv[1]))',
        name,
    )


def mmcv_is_ready(venv: Path, pins: Pins) -> bool:
    """Whether mmcv works and is the one pinned or one of the user's."""
    name, _, version = (
        Path(requirements('mmcv', pins)).read_text().strip().partition('==')
    )
    return (
        installed_version(venv, name) in ('', version)
        and not probe(venv_python(venv), 'mmcv.ops').error
    )


def mend_opencv(venv: Path) -> None:
    """Put OpenCV without a GUI in place where a server lacks libGL."""
    error = ask(
        venv_python(venv),
        'try:\n import cv2\nexcept ImportError as e: print(e)',
    )
    if '.so' not in error:
        return
    version = installed_version(venv, 'opencv-python')
    say(
        f'OpenCV does not start here ({error}): '
        f'opencv-python-headless {version} takes its place'
    )
    # Both write to the same folder, so there is nothing to uninstall, and
    # mmcv's requirement of opencv-python stays fulfilled.
    pip_install(
        venv,
        'opencv',
        '--no-deps',
        '--force-reinstall',
        f'opencv-python-headless=={version}',
    )


def install_mmcv(venv: Path, pins: Pins) -> None:
    """Compile mmcv, unless it works or pip's cache has one that does."""
    if mmcv_is_ready(venv, pins):
        return
    hint = (
        'see the errors above; if the compiler was killed, memory was '
        f'short: set MAX_JOBS=1, {AGAIN}'
    )
    args = ('-v', '--no-build-isolation', '-r', requirements('mmcv', pins))
    env = build_env(venv)
    output = pip_install(
        venv,
        'building mmcv',
        *args,
        '-c',
        requirements('torch', pins),
        hint=hint,
        env=env,
        show=False,
    )
    mend_opencv(venv)
    found = probe(venv_python(venv), 'mmcv.ops')
    if found.error and 'Building wheel' not in output:
        # pip's cache knows versions of mmcv, but not of torch.
        say(
            'the mmcv at hand does not work with this torch or GPU: '
            'compiles it anew'
        )
        name = Path(requirements('mmcv', pins)).read_text().partition('==')[0]
        pip_install(
            venv,
            'building mmcv',
            *args,
            '--no-cache-dir',
            '--no-binary',
            name,
            '--force-reinstall',
            '--no-deps',
            hint=hint,
            env=env,
            show=False,
        )
        found = probe(venv_python(venv), 'mmcv.ops')
    if found.error:
        raise SetUpError(f'mmcv was compiled but does not work: {found.error}')


def install_tests(venv: Path, pins: Pins = ONEDL) -> None:
    """Install what the tests need, around the torch that mmcv knows."""
    constraint = Path(requirements('torch', pins))
    if stamp(venv, 'torch').read_text().startswith(OUTSIDE):
        constraint = venv / MARK / 'constraints.txt'
        constraint.write_text(
            ''.join(
                f'{name}=={version}\n'
                for name in ('torch', 'torchvision')
                if (version := installed_version(venv, name))
            )
        )
    pip_install(
        venv, 'tests', '-r', requirements('tests', pins), '-c', str(constraint)
    )


def install_mmfmkt(venv: Path) -> None:
    """Link this repository into the environment and import it all."""
    pip_install(
        venv,
        'mmfmkt',
        '--no-deps',
        '--no-build-isolation',
        '-e',
        str(ROOT),
        hint='see the errors above',
        show=False,
    )
    # From a neutral folder: here the import would work without the link.
    found = probe(venv_python(venv), *PACKAGES, 'mmcv.ops', 'mmfmkt', cwd=venv)
    if found.error:
        raise SetUpError(f'mmfmkt cannot be imported: {found.error}')


INSTALL = {
    'venv': lambda venv, pins: create_venv(venv),
    'build tools': lambda venv, pins: pip_install(
        venv, 'build tools', '-r', requirements('build', pins)
    ),
    'torch': lambda venv, pins: pip_install(
        venv, 'torch', '-r', requirements('torch', pins)
    ),
    'openmmlab': lambda venv, pins: pip_install(
        venv,
        'openmmlab',
        '-r',
        requirements('openmmlab', pins),
        '-c',
        requirements('torch', pins),
    ),
    'mmcv': install_mmcv,
    'tests': install_tests,
    'mmfmkt': lambda venv, pins: install_mmfmkt(venv),
}


def install(venv: Path, pins: Pins) -> dict[str, float]:
    """Do the steps that are still to be done.

    Args:
        venv: The virtual environment.
        pins: The stack.

    Returns:
        The seconds that each step took.

    Raises:
        SetUpError: If something is missing or a step fails.
    """
    steps = plan(venv, pins=pins)
    if 'venv' in steps or pins is not ONEDL:
        check_disposable(venv)
    stack = None
    # What is there is taken for the default; a stack asked for is installed.
    if pins is ONEDL and (
        'venv' in steps or not stamp(venv, 'torch').exists()
    ):
        stack = find_stack(venv)
    if stack:
        steps = [step for step in steps if step not in STACK]
    version = venv_version(venv) or '{}.{}'.format(*sys.version_info)
    compiles = 'mmcv' in steps and (
        'torch' in steps or not mmcv_is_ready(venv, pins)
    )
    problems = preflight(
        venv,
        [step for step in steps if step != 'mmcv' or compiles],
        tuple(map(int, version.split('.'))),
        pins=pins,
    )
    if problems:
        raise SetUpError(
            '\n  - '.join(['before it starts, please see to', *problems])
        )
    say(f'virtual environment {venv}, Python {version}')
    times = {}
    for number, step in enumerate(steps, 1):
        if stack and step != 'venv':
            adopt(venv, stack)
            stack = None
        say(f'{number}/{len(steps)} {NOTES.get(step, step)}')
        start = time.monotonic()
        INSTALL[step](venv, pins)
        times[step] = time.monotonic() - start
        if step != 'venv':
            (venv / MARK).mkdir(exist_ok=True)
            stamp(venv, step).write_text(digest(step, version, pins=pins))
    return times


def main(argv: list[str] | None = None) -> int:
    """Set the environment up and print the path of its Python."""
    parser = argparse.ArgumentParser(
        description='Prepare the virtual environment of mmfmkt (.venv, or '
        'the folder in MMFMKT_VENV) and print the path of its Python.'
    )
    parser.add_argument(
        '--stack',
        choices=PINS,
        default='onedl',
        help='upstream: the last releases of OpenMMLab itself with torch '
        '2.1, for Python 3.10 or 3.11, in a folder of its own: the name of '
        'the default one with -upstream behind it',
    )
    parser.add_argument(
        '--check-python',
        action='store_true',
        help='only tell by the exit status whether this Python will do',
    )
    args = parser.parse_args(argv)
    pins = PINS[args.stack]
    if args.check_python:
        return int(not OLDEST <= sys.version_info[:2] <= pins.newest)
    start = time.monotonic()
    venv = (
        Path(os.environ.get('MMFMKT_VENV') or ROOT / '.venv')
        .expanduser()
        .absolute()
    )
    venv = venv.with_name(venv.name + pins.suffix)
    if (
        sys.prefix != sys.base_prefix
        and Path(sys.prefix).resolve() == venv.resolve()
    ):
        # It is activated; it cannot be made anew while we run in it.
        base = sys._base_executable
        os.execv(base, [base, __file__, *sys.argv[1:]])
    # Ends the children too, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    times = {}
    try:
        if plan(venv, pins=pins):
            with locked(venv):
                times = install(venv, pins)
    except SetUpError as error:
        say(f'stopped: {error}')
        return 1
    except OSError as error:
        say(f'stopped: {error}. MMFMKT_VENV may name a folder elsewhere')
        return 1
    except KeyboardInterrupt:
        if sys.stderr.isatty():  # a progress bar may stand in this line
            print(file=sys.stderr)
        say('interrupted; the same command continues where it stopped')
        return 130
    passed = time.monotonic() - start
    parts = ', '.join(f'{step} {t:.0f} s' for step, t in times.items())
    say(
        f'{passed:.0f} s ({parts})'
        if parts
        else f'nothing to do ({passed:.1f} s)'
    )
    print(venv_python(venv))
    return 0


if __name__ == '__main__':
    sys.exit(main())
