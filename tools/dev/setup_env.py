"""Prepare the virtual environment of quick_start.sh and run_tests.sh.

Print the path of the environment's Python. uv installs the packages. This
script does what uv does not do: it compiles mmcv for the installed torch,
uses an existing stack, reports missing prerequisites, and passes pip's
settings to uv. A repeated call continues an interrupted set-up.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# A stack is torch and the OpenMMLab packages built for it. Values: folder of
# requirement files, suffix of the environment's folder, newest Python with
# wheels of this torch.
STACKS = {
    'onedl': ('requirements', '', (3, 13)),
    'upstream': ('requirements/upstream', '-upstream', (3, 11)),
}
MARK = '.mmfmkt'  # folder that marks an environment of this script
RETRY_HINT = (
    'run the same command again to continue; if a download failed, check the '
    'network and `pip config list`'
)
PACKAGES = ('torch', 'mmengine', 'mmcv', 'mmdet', 'mmcv.ops')
# Program that imports modules, runs mmcv on a GPU if there is one, and prints
# the version of torch and sys.path.
PROBE = """
import importlib, json, sys
for name in sys.argv[1:]: importlib.import_module(name)
import torch
if torch.cuda.is_available():
    from mmcv.ops import nms
    box = torch.tensor([[0., 0., 9., 9.]], device='cuda')
    nms(box, box.new_ones(1), 0.5)
print(json.dumps([torch.__version__, sys.path]))
"""
# uv does not read pip's settings. Pairs: pip's option, uv's environment
# variable.
SETTINGS = """
index-url UV_DEFAULT_INDEX   extra-index-url UV_INDEX   no-index UV_NO_INDEX
find-links UV_FIND_LINKS     constraint UV_CONSTRAINT   cert SSL_CERT_FILE
timeout UV_HTTP_TIMEOUT      default-timeout UV_HTTP_TIMEOUT
trusted-host UV_INSECURE_HOST
""".split()


def say(text: str) -> None:
    """Print a message to stderr."""
    print(f'set-up: {text}', file=sys.stderr, flush=True)


def stop(*reasons: str) -> None:
    """Exit with the problems that the user must fix."""
    sys.exit('\n  - '.join(['set-up stopped:', *reasons]))


def query(*command, text: str = '') -> subprocess.CompletedProcess:
    """Run a short command in `/` (outside the project) and capture its
    output."""
    options = dict(capture_output=True, text=True, cwd='/', input=text)
    return subprocess.run(list(map(str, command)), **options)


def probe(python: str | Path, *modules: str) -> tuple[str, list, str]:
    """Import modules in a Python.

    Returns:
        tuple: Version of torch, ``sys.path``, and the error message, empty if
        all imports work.
    """
    done = query(python, '-c', PROBE, *modules)
    if done.returncode:
        return '', [], (done.stderr.strip() or 'it crashed').splitlines()[-1]
    return *json.loads(done.stdout.splitlines()[-1]), ''


def uv_settings(python: Path) -> dict[str, str]:
    """Return pip's settings as environment variables of uv."""
    listed = query(python, '-m', 'pip', 'config', 'list').stdout
    found = dict(re.findall(r"^(\S+)='(.*)'$", listed, re.MULTILINE))
    settings = {'UV_INDEX_STRATEGY': 'unsafe-best-match'}
    for section in ('global', 'site', 'install', ':env:'):
        for key, name in zip(SETTINGS[::2], SETTINGS[1::2]):
            values = found.get(f'{section}.{key}', '').replace('\\n', ' ')
            separator = ',' if key == 'find-links' else ' '
            if values and name not in os.environ:
                settings[name] = separator.join(values.split())
    return settings


def run(command: list, quiet: bool = False, **env: str) -> None:
    """Run a long command and print its output.

    If quiet, print only the number of compiled files, every fifth one.
    """
    process = subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.PIPE if quiet else sys.stderr,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **env},
        start_new_session=True,  # so that compilers are terminated, too
    )
    lines = []
    try:
        for line in process.stdout or ():
            lines.append(line)
            if count := re.search(r'\[\d*[05]/\d+\]', line):
                say(f'{count[0]} files are compiled')
        process.wait()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
    if process.returncode:
        print(*lines[-30:], sep='', file=sys.stderr)
        stop(f'{" ".join(map(str, command))} failed: {RETRY_HINT}')


def preflight(venv: Path, newest: tuple[int, int]) -> None:
    """Exit if a prerequisite of the set-up is missing."""
    problems, needed_gb = [], 2 if any(venv.glob('lib/*/*/torch')) else 8
    if not (3, 10) <= sys.version_info[:2] <= newest:
        problems.append(
            f'the set-up needs Python 3.10 to 3.{newest[1]}; set the '
            'environment variable PYTHON=/path/to/python'
        )
    compiler = os.environ.get('CXX', 'c++')
    include = sysconfig.get_path('include')
    check = f'{compiler} -std=c++17 -fsyntax-only -xc++ -I{include} -'
    code = '#include <optional>\n#include <Python.h>\n'
    if query('sh', '-c', check, text=code).returncode:
        problems.append(
            "the set-up needs a C++17 compiler and Python's headers; "
            f'{compiler} with headers in {include} does not work. Run sudo '
            'apt install g++ python3-dev (Debian, Ubuntu) or sudo dnf install '
            'gcc-c++ python3-devel (Fedora), or set CXX=/path/to/g++'
        )
    folder = next(x for x in (venv, *venv.parents) if x.exists())
    if shutil.disk_usage(folder).free < needed_gb * 1e9:
        problems.append(
            f'the set-up needs {needed_gb} GB of free disk at {folder}; free '
            'some, or set MMFMKT_VENV to a folder on another disk'
        )
    if problems:
        stop(*problems)


def find_stack(venv: Path) -> tuple[str, str, list] | None:
    """Find a stack that this script did not install: in the environment, else
    in this Python.

    Returns:
        tuple: Python, version of torch and ``sys.path``; None if there is no
        such stack.
    """
    installed = any(venv.glob('lib/*/site-packages/torch'))
    if installed and (venv / MARK).exists():
        return None
    python = f'{venv}/bin/python' if installed else sys.executable
    torch, path, error = probe(python, *PACKAGES)
    if installed and error:
        stop(
            f'the packages in {venv} cannot be imported ({error}): repair '
            'them, or set MMFMKT_VENV to another folder'
        )
    return None if error else (python, torch, path)


def make_venv(venv: Path) -> None:
    """Create the environment, unless it exists and works."""
    if not query('sh', '-c', f'"{venv}/bin/python" -m pip -V').returncode:
        return
    if venv.exists() and any(venv.iterdir()) and not (venv / MARK).exists():
        stop(
            f'{venv} exists and was not made by this script: remove it, or '
            'set MMFMKT_VENV to another folder'
        )
    shutil.rmtree(venv, ignore_errors=True)
    (venv / MARK).mkdir(parents=True)
    run([sys.executable, '-m', 'venv', venv])


def install_mmcv(python: Path, requirements: Path) -> None:
    """Compile mmcv, unless the installed one or a cached wheel works."""
    memory = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    jobs = str(max(1, min(os.cpu_count(), int(memory / 2e9))))
    # Without debug symbols, compilation takes half the time.
    flags = os.environ.get('CFLAGS', '') + ' -g0'
    jobs = os.environ.get('MAX_JOBS', jobs)
    env = dict(MMCV_WITH_OPS='1', MAX_JOBS=jobs, CFLAGS=flags)
    pip = [python, '-m', 'pip', 'install', '-v', '--no-deps', '--no-user']
    source = ['--no-build-isolation', '-r', requirements / 'mmcv.txt']
    # pip's cache may hold a wheel compiled for another torch; then compile
    # again without it.
    for options in ([], ['--no-cache-dir', '--force-reinstall']):
        if probe(python, 'mmcv.ops')[2]:
            say('compiling mmcv (only once), 5 to 15 minutes on 2 cores')
            run([*pip, *options, *source], quiet=True, **env)
    if error := probe(python, 'mmcv.ops')[2]:
        stop(f'mmcv does not work with this torch: {error}')


def requirements_digest() -> str:
    """Return a digest of the files that define what is installed."""
    project = [ROOT / 'setup.py', ROOT / 'pyproject.toml']
    files = [*sorted(ROOT.glob('requirements/**/*.txt')), *project]
    return hashlib.sha256(b''.join(x.read_bytes() for x in files)).hexdigest()


def install(venv: Path, stack: str) -> None:
    """Create or complete the environment."""
    requirements, python = ROOT / STACKS[stack][0], venv / 'bin/python'
    # With the default stack, packages that are already installed are used;
    # `--stack upstream` always installs its packages.
    found = find_stack(venv) if stack == 'onedl' else None
    if not found:
        preflight(venv, STACKS[stack][2])
    make_venv(venv)
    command = [python, '-m', 'pip', 'install', '--no-user']
    run([*command, '-r', requirements / 'build.txt'])
    names, settings = ['all'], {}
    if found:
        found_python, torch, path = found
        say(f'using the stack of {found_python} unchanged, torch {torch}')
        command += [f'torch=={torch}']
        (venv / MARK).mkdir(exist_ok=True)
        if found_python == sys.executable:
            # addsitedir also finds packages of pip install -e.
            link = [f'import site; site.addsitedir({x!r})' for x in path if x]
            site = next(venv.glob('lib/*/site-packages'))
            (site / 'outside.pth').write_text('\n'.join(link))
    else:
        say("downloading torch, mmdet and the tests' packages, over 2 GB")
        names += ['torch', 'openmmlab']
        command = [venv / 'bin/uv', 'pip', 'install', '--python', python]
        settings = uv_settings(python)
        settings['UV_OVERRIDE'] = str(ROOT / 'requirements/overrides.txt')
    run([*command, *(f'-r{requirements}/{x}.txt' for x in names)], **settings)
    if not found:
        install_mmcv(python, requirements)
    command += ['--no-deps', '--no-build-isolation', '-e', ROOT]
    run(command, **settings)
    if error := probe(python, *PACKAGES, 'mmfmkt')[2]:
        stop(f'mmfmkt cannot be imported: {error}')


def main() -> None:
    """Set up the environment and print the path of its Python."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add(
        '--stack',
        choices=STACKS,
        default='onedl',
        help="onedl: maintained continuation of OpenMMLab's packages "
        "(default); upstream: OpenMMLab's last releases",
    )
    add(
        '--check-python',
        action='store_true',
        help='only check the version of Python',
    )
    args = parser.parse_args()
    _, suffix, newest = STACKS[args.stack]
    if args.check_python:
        sys.exit(not (3, 10) <= sys.version_info[:2] <= newest)
    venv = Path(os.environ.get('MMFMKT_VENV') or ROOT / '.venv').expanduser()
    venv = venv.absolute().with_name(venv.name + suffix)
    # SIGTERM is handled like Ctrl-C, so that child processes are terminated.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    done, stamp = venv / MARK / 'done', f'{ROOT} {requirements_digest()}'
    try:
        venv.parent.mkdir(parents=True, exist_ok=True)
        # One set-up at a time; others wait until it is done.
        with open(f'{venv}.lock', 'a') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists() or done.read_text() != stamp:
                install(venv, args.stack)
                done.write_text(stamp)
    except OSError as error:
        stop(f'{error}; set MMFMKT_VENV to use another folder')
    except KeyboardInterrupt:
        say('interrupted; run the same command again to continue')
        sys.exit(130)
    print(venv / 'bin/python')


if __name__ == '__main__':
    main()
