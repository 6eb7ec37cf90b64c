"""Prepares the virtual environment of quick_start.sh and run_tests.sh.

Prints the path of its Python. uv installs the packages. This script adds what
uv does not know: mmcv compiled for the installed torch, an existing stack,
missing prerequisites, and pip's settings. A repeated call continues an
interrupted set-up.
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
# Requirement files, suffix of the folder, newest Python that torch is for.
STACKS = {
    'onedl': ('requirements', '', (3, 13)),
    'upstream': ('requirements/upstream', '-upstream', (3, 11)),
}
MARK = '.mmfmkt'  # folder that marks an environment of this script
AGAIN = 'the same command continues (is the network there? pip config list)'
PACKAGES = ('torch', 'mmengine', 'mmcv', 'mmdet', 'mmcv.ops')
# Imports modules, runs mmcv on a GPU, prints version of torch and sys.path.
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
# uv does not read pip's settings: the names of both.
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
    sys.exit('\n  - '.join(['set-up: stopped, please see to', *reasons]))


def query(*command, text: str = '') -> subprocess.CompletedProcess:
    """Run a short command in the root folder, and capture its output."""
    options = dict(capture_output=True, text=True, cwd='/', input=text)
    return subprocess.run(list(map(str, command)), **options)


def probe(python: str | Path, *modules: str) -> tuple[str, list, str]:
    """Return the version of torch, the import path, and an error message."""
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
            between = ',' if key == 'find-links' else ' '
            if values and name not in os.environ:
                settings[name] = between.join(values.split())
    return settings


def run(command: list, quiet: bool = False, **env: str) -> None:
    """Run a long command; print its output, or the files compiled so far."""
    process = subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.PIPE if quiet else sys.stderr,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **env},
        start_new_session=True,  # to be ended as a whole, compilers and all
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
        stop(f'{" ".join(map(str, command))}, which failed: {AGAIN}')


def preflight(venv: Path, newest: tuple[int, int]) -> None:
    """Exit if a prerequisite of the set-up is missing."""
    problems, need = [], 2 if any(venv.glob('lib/*/*/torch')) else 8
    if not (3, 10) <= sys.version_info[:2] <= newest:
        problems.append(f'Python 3.10 to 3.{newest[1]}: PYTHON=/path/to/one')
    compiler = os.environ.get('CXX', 'c++')
    include = sysconfig.get_path('include')
    check = f'{compiler} -std=c++17 -fsyntax-only -xc++ -I{include} -'
    code = '#include <optional>\n#include <Python.h>\n'
    if query('sh', '-c', check, text=code).returncode:
        problems.append(
            f"a C++17 compiler and Python's headers ({compiler}, {include}): "
            'sudo apt install g++ python3-dev (Debian, Ubuntu), sudo dnf '
            'install gcc-c++ python3-devel (Fedora), or CXX=/path/to/g++'
        )
    place = next(x for x in (venv, *venv.parents) if x.exists())
    if shutil.disk_usage(place).free < need * 1e9:
        problems.append(f'{need} GB of free disk at {place}, or MMFMKT_VENV')
    if problems:
        stop(*problems)


def find_stack(venv: Path) -> tuple[str, str, list] | None:
    """Find a working stack in the environment or in this Python."""
    own = any(venv.glob('lib/*/site-packages/torch'))
    if own and (venv / MARK).exists():
        return None
    python = f'{venv}/bin/python' if own else sys.executable
    torch, path, error = probe(python, *PACKAGES)
    if own and error:
        stop(f'{venv}, whose stack fails ({error}), or set MMFMKT_VENV')
    return None if error else (python, torch, path)


def make_venv(venv: Path) -> None:
    """Create the environment, unless it exists and works."""
    if not query('sh', '-c', f'"{venv}/bin/python" -m pip -V').returncode:
        return
    if venv.exists() and any(venv.iterdir()) and not (venv / MARK).exists():
        stop(f'{venv}, which is in the way: remove it, or set MMFMKT_VENV')
    shutil.rmtree(venv, ignore_errors=True)
    (venv / MARK).mkdir(parents=True)
    run([sys.executable, '-m', 'venv', venv])


def install_mmcv(python: Path, pins: Path) -> None:
    """Compile mmcv, unless it or a wheel in pip's cache works."""
    memory = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    jobs = str(max(1, min(os.cpu_count(), int(memory / 2e9))))
    flags = os.environ.get('CFLAGS', '') + ' -g0'  # half the time
    jobs = os.environ.get('MAX_JOBS', jobs)
    env = dict(MMCV_WITH_OPS='1', MAX_JOBS=jobs, CFLAGS=flags)
    pip = [python, '-m', 'pip', 'install', '-v', '--no-deps', '--no-user']
    source = ['--no-build-isolation', '-r', pins / 'mmcv.txt']
    # pip's cache knows versions of mmcv, but not of torch.
    for options in ([], ['--no-cache-dir', '--force-reinstall']):
        if probe(python, 'mmcv.ops')[2]:
            say('mmcv, compiled once: some 5 to 10 minutes on 2 cores')
            run([*pip, *options, *source], quiet=True, **env)
    if error := probe(python, 'mmcv.ops')[2]:
        stop(f'mmcv, which does not work with this torch: {error}')


def needs_digest() -> str:
    """Return a digest of the files that define what is installed."""
    project = [ROOT / 'setup.py', ROOT / 'pyproject.toml']
    needs = [*sorted(ROOT.glob('requirements/**/*.txt')), *project]
    return hashlib.sha256(b''.join(x.read_bytes() for x in needs)).hexdigest()


def install(venv: Path, stack: str) -> None:
    """Create or complete the environment."""
    pins, python = ROOT / STACKS[stack][0], venv / 'bin/python'
    # An existing stack replaces the default one, but not the upstream one.
    found = find_stack(venv) if stack == 'onedl' else None
    if not found:
        preflight(venv, STACKS[stack][2])
    make_venv(venv)
    install = [python, '-m', 'pip', 'install', '--no-user']
    run([*install, '-r', pins / 'build.txt'])
    names, settings = ['all'], {}
    if found:
        where, torch, path = found
        say(f'uses the stack of {where} as it is, torch {torch}')
        install += [f'torch=={torch}']
        (venv / MARK).mkdir(exist_ok=True)
        if where == sys.executable:
            # addsitedir also finds packages of pip install -e.
            link = [f'import site; site.addsitedir({x!r})' for x in path if x]
            site = next(venv.glob('lib/*/site-packages'))
            (site / 'outside.pth').write_text('\n'.join(link))
    else:
        say('torch, mmdet and what the tests need: over 2 GB')
        names += ['torch', 'openmmlab']
        install = [venv / 'bin/uv', 'pip', 'install', '--python', python]
        settings = uv_settings(python)
        settings['UV_OVERRIDE'] = str(ROOT / 'requirements/overrides.txt')
    run([*install, *(f'-r{pins}/{x}.txt' for x in names)], **settings)
    if not found:
        install_mmcv(python, pins)
    install += ['--no-deps', '--no-build-isolation', '-e', ROOT]
    run(install, **settings)
    if error := probe(python, *PACKAGES, 'mmfmkt')[2]:
        stop(f'mmfmkt, which cannot be imported: {error}')


def main() -> None:
    """Set the environment up and print the path of its Python."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('--stack', choices=STACKS, default='onedl', help='what to install')
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
    # As Ctrl-C, so that child processes are ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    done, wanted = venv / MARK / 'done', f'{ROOT} {needs_digest()}'
    try:
        venv.parent.mkdir(parents=True, exist_ok=True)
        # One set-up at a time; others wait until it is done.
        with open(f'{venv}.lock', 'a') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists() or done.read_text() != wanted:
                install(venv, args.stack)
                done.write_text(wanted)
    except OSError as error:
        stop(f'{error}; MMFMKT_VENV may name a folder elsewhere')
    except KeyboardInterrupt:
        say('interrupted; the same command continues where it stopped')
        sys.exit(130)
    print(venv / 'bin/python')


if __name__ == '__main__':
    main()
