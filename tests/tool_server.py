"""Runs tools in processes that have the libraries imported already.

A line of JSON, ``command``, ``cwd``, ``env`` and ``out``, is answered by a
line with the exit code. Each tool has a process of its own, forked from this
one, and runs as the main program; of mmfmkt nothing is imported before.
"""

import atexit
import gc
import json
import os
import runpy
import sys
import traceback
from importlib import import_module
from multiprocessing import util

from config_layout import skip_layout

LIBRARIES = (
    'torch',
    'pydantic',
    'rich.progress',
    'sqlite3',
    'mmengine.runner',
    'mmcv.ops',
    'mmdet.apis',
    'mmdet.models',
    'mmdet.datasets',
    'mmdet.evaluation',
    'mmpretrain.models',
    'mmpretrain.datasets',
    'mmpretrain.evaluation',
)


def work(command, cwd, env, out):
    """Be the tool; never returns."""
    file = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(file, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv[:] = command
    sys.path[0] = os.path.dirname(os.path.abspath(command[0]))
    sys.path[1:1] = [x for x in env['PYTHONPATH'].split(os.pathsep) if x]
    code = 0
    try:
        runpy.run_path(command[0], run_name='__main__')
    except SystemExit as error:
        code = error.code or 0
        if not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    # As Python ends: threads and workers, then what was registered.
    util._exit_function()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main():
    # Libraries have things to say as they are imported.
    answers = os.fdopen(os.dup(1), 'w', buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    skip_layout()
    for name in LIBRARIES:
        try:
            import_module(name)
        except ImportError:
            continue
    # What is imported here is no garbage of a tool's.
    gc.freeze()
    for line in sys.stdin:
        child = os.fork()
        if not child:
            work(**json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), file=answers)


if __name__ == '__main__':
    main()
