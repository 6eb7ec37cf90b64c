"""Client of the tool server: runs a program as ``python`` does.

Its first argument is the path to the server's socket. Of Python's options, it
accepts ``-m``, and ``-u``, which it ignores.
"""

import json
import os
import signal
import socket
import sys
from contextlib import suppress


def main():
    path, *command = sys.argv[1:]
    while command[0] == '-u':
        del command[0]
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(path)
        request = dict(command=command, cwd=os.getcwd(), env=dict(os.environ))
        message = f'{json.dumps(request)}\n'.encode()
        server.sendall(
            message[socket.send_fds(server, [message], [0, 1, 2]) :]
        )

        def forward(number, frame):
            with suppress(OSError):  # the program has ended
                server.send(bytes([number]))

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, forward)
        with server.makefile() as answers:
            code = int(answers.readline())
    if code < 0:
        if code != -signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == '__main__':
    main()
