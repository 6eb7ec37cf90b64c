"""Paths, and functions that run tools as a user does."""

import atexit
import json
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BCCD = ROOT.parent / 'shared' / 'data' / 'bccd'
CPU = dict(
    CUDA_VISIBLE_DEVICES='', OMP_NUM_THREADS='1', PYTHONWARNINGS='ignore'
)


class ToolServer:
    """Server that forks programs, which is started by the first of them."""

    def __init__(self):
        self.process = None

    def executable(self):
        """Return the path to a command that runs programs as Python does."""
        if self.process is None or self.process.poll() is not None:
            self.folder = tempfile.TemporaryDirectory()
            path = Path(self.folder.name, 'socket')
            self.python = Path(self.folder.name, 'python')
            client = [sys.executable, '-SE', HERE / 'forked_python.py', path]
            command = shlex.join(map(str, client))
            self.python.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
            self.python.chmod(0o755)
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(path))
                listener.listen()
                number = listener.fileno()
                self.process = subprocess.Popen(
                    [
                        sys.executable,
                        HERE / 'tool_server.py',
                        str(number),
                        self.python,
                    ],
                    cwd=ROOT,
                    env={**os.environ, **CPU},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[number],
                    # Clients forward Ctrl-C to their programs.
                    start_new_session=True,
                )
            atexit.register(self.process.wait)
            atexit.register(self.process.kill)
        return str(self.python)


TOOL_SERVER = ToolServer()


def run(*command, fails=False, cwd=ROOT, fresh=False, **env):
    """Run a command, and return its output.

    Args:
        command: Parts of the command. A script (``.py``) or ``-m`` and a
            module are run by Python.
        fails (bool): Whether the command must fail.
        cwd (Path): Working directory.
        fresh (bool): Run Python in a new process, which imports the
            libraries itself, instead of in forks of a process that has
            imported them.
        env: Environment variables.
    """
    command = [str(part) for part in command]
    python = sys.executable if fresh else TOOL_SERVER.executable()
    if command[0].endswith('.py') or command[0] == '-m':
        command.insert(0, python)
    # An empty entry would be the working directory.
    path = [str(ROOT), os.environ.get('PYTHONPATH')]
    done = subprocess.run(
        command,
        cwd=cwd,
        env={
            **os.environ,
            **CPU,
            'PYTHON': python,
            'PYTHONPATH': os.pathsep.join(filter(None, path)),
            **{name: str(value) for name, value in env.items()},
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert bool(done.returncode) == fails, done.stdout[-4000:]
    return done.stdout


def wait_until(condition, seconds=300):
    """Wait until a function returns true, but not longer."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def free_port():
    """Return a port that nobody uses at the moment."""
    with socket.socket() as free:
        free.bind(('localhost', 0))
        return free.getsockname()[1]


def run_ranks(function, size=2):
    """Return the results of a function in several processes, by rank.

    The processes are forked, so that they do not import the libraries. The
    function joins the process group.
    """
    context = torch.multiprocessing.get_context('fork')
    results = context.SimpleQueue()
    port = free_port()

    def start(rank):
        os.environ.update(
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE=str(size),
            MASTER_ADDR='localhost',
            MASTER_PORT=str(port),
        )
        torch.set_num_threads(1)
        results.put((rank, function()))

    torch.multiprocessing.start_processes(
        start, nprocs=size, start_method='fork'
    )
    return [x for _, x in sorted(results.get() for _ in range(size))]


def scalars(work_dir):
    """Return the lines of all scalars.json in a work directory as dicts."""
    return [
        json.loads(line)
        for path in sorted(work_dir.glob('*/vis_data/scalars.json'))
        for line in path.read_text().splitlines()
    ]
