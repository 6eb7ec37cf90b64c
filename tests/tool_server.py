"""Server that runs tools in processes with the libraries already imported.

A request is a line of JSON with ``command``, ``cwd``, ``env`` and ``out``; the
answer is a line with the exit code. Each tool is the main program of a process
of its own, forked from this one, which has imported nothing of mmfmkt.
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

from fast_configs import cache_metafiles, skip_yapf

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
    """Run a tool in this process, and end it.

    Args:
        command (list[str]): Script and arguments, or ``-m``, module and
            arguments.
        cwd (str): Working directory.
        env (dict[str, str]): Environment variables.
        out (str): File of its output.
    """
    file = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    module = command[0] == '-m'
    sys.argv[:] = command[module:]
    folder = os.path.dirname(os.path.abspath(command[0]))
    sys.path[0] = cwd if module else folder
    sys.path[1:1] = [x for x in env['PYTHONPATH'].split(os.pathsep) if x]
    code = 0
    try:
        if module:
            runpy.run_module(command[1], run_name='__main__', alter_sys=True)
        else:
            runpy.run_path(command[0], run_name='__main__')
    except SystemExit as error:
        code = error.code or 0
        if not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    # End threads and workers, then run exit handlers, as Python does.
    util._exit_function()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main():
    # Libraries print while they are imported.
    answers = os.fdopen(os.dup(1), 'w', buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    skip_yapf()
    for name in LIBRARIES:
        try:
            import_module(name)
        except ImportError:
            continue
    names = ('mmdet', 'mmpretrain')
    cache_metafiles(*(sys.modules[x] for x in names if x in sys.modules))
    # Tools collect no garbage among these libraries.
    gc.freeze()
    for line in sys.stdin:
        child = os.fork()
        if not child:
            work(**json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), file=answers)


if __name__ == '__main__':
    main()
