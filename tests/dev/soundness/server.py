"""Run commands in forks of a process that has imported the libraries.

Like tests/tool_server.py, but each command has a session of its own and a time
limit, after which its process group is killed.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import List

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tool_server import import_libraries, work  # noqa: E402


def kill(group: int) -> None:
    """Kill a process group, if it still exists."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass


def wait(child: int, limit: float) -> int:
    """Return the exit code of a child; kill it after ``limit`` seconds."""
    end = time.monotonic() + limit
    status = None
    while status is None and time.monotonic() < end:
        done, found = os.waitpid(child, os.WNOHANG)
        if done:
            status = found
        else:
            time.sleep(0.02)
    kill(child)
    if status is None:
        _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def open_streams(out: str) -> List[int]:
    """Return file descriptors of no input, and of a file for the output."""
    output = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    return [os.open(os.devnull, os.O_RDONLY), output, os.dup(output)]


def main() -> None:
    answers = os.fdopen(os.dup(1), 'w', buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    import_libraries()
    for line in sys.stdin:
        asked = json.loads(line)
        limit, out = asked.pop('limit'), asked.pop('out')
        child = os.fork()
        if not child:
            os.setsid()
            work(sys.executable, streams=open_streams(out), **asked)
        print(wait(child, limit), file=answers)


if __name__ == '__main__':
    main()
