"""Server that runs Python programs with the libraries already imported.

Each program is the main program of a process of its own, forked from this one,
which has imported nothing of mmfmkt. ``forked_python.py`` is its client: the
path to it in a program's ``sys.executable`` lets the processes that it starts
be forked too. A program has the hash seed and the settings that the libraries
read while they are imported (such as OMP_NUM_THREADS) of the server.
"""

import atexit
import gc
import json
import os
import runpy
import select
import signal
import socket
import sys
import threading
from importlib import import_module

import numpy
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


def import_libraries():
    """Import the installed ones of the libraries."""
    for name in LIBRARIES:
        try:
            import_module(name)
        except ImportError:
            continue
    # Otherwise each program would write what they have printed.
    sys.stdout.flush()


def work(executable, command, cwd, env, streams):
    """Run a program in this process, and end it.

    Args:
        executable (str): Command that starts further programs.
        command (list[str]): Script and arguments, or ``-m``, module and
            arguments.
        cwd (str): Working directory.
        env (dict[str, str]): Environment variables.
        streams (list[int]): File descriptors of input, output and errors.
    """
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.executable = executable
    module = command[0] == '-m'
    sys.argv[:] = command[module:]
    folder = os.path.dirname(os.path.abspath(command[0]))
    path = env.get('PYTHONPATH', '').split(os.pathsep)
    sys.path[0] = cwd if module else folder
    sys.path[1:1] = [x for x in path if x]
    numpy.random.seed()
    code, interrupted = 0, False
    try:
        if module:
            runpy.run_module(command[1], run_name='__main__', alter_sys=True)
        else:
            runpy.run_path(command[0], run_name='__main__')
    except SystemExit as error:
        code = 0 if error.code is None else error.code
        if not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        code, interrupted = 1, isinstance(error, KeyboardInterrupt)
    # Wait for threads, then run exit handlers, as Python does.
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    if interrupted:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code & 0xFF)


def serve(client, executable):
    """Run the program of a client, and answer with its exit code.

    The client sends numbers of signals for the program. The program is killed
    if the client ends first.
    """
    message, streams, *_ = socket.recv_fds(client, 1 << 20, 3)
    while not message.endswith(b'\n'):
        part = client.recv(1 << 20)
        if not part:
            return
        message += part
    program = os.fork()
    if not program:
        client.close()
        work(executable, **json.loads(message), streams=streams)
    ended = os.pidfd_open(program)
    while ended not in select.select([ended, client], [], [])[0]:
        for number in client.recv(1 << 20) or [signal.SIGKILL]:
            os.kill(program, number)
    _, status = os.waitpid(program, 0)
    client.sendall(f'{os.waitstatus_to_exitcode(status)}\n'.encode())


def main():
    listener, executable = socket.socket(fileno=int(sys.argv[1])), sys.argv[2]
    skip_yapf()
    import_libraries()
    names = ('mmdet', 'mmpretrain')
    cache_metafiles(*(sys.modules[x] for x in names if x in sys.modules))
    # Programs collect no garbage among these libraries.
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # The end of the input is the end of the tests.
    while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
        client, _ = listener.accept()
        if not os.fork():
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            try:
                serve(client, executable)
            finally:
                os._exit(0)
        client.close()


if __name__ == '__main__':
    main()
