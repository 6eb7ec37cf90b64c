"""Programs that the tool server forks end as under Python."""

import signal
import subprocess

import psutil
import pytest
from helpers import CPU, ROOT, TOOL_SERVER, wait_until

WAIT = """
import os, time
print(os.getpid(), flush=True)
time.sleep(60)
"""


def start(tmp_path, text):
    """Start a script by the tool server's client."""
    script = tmp_path / 'script.py'
    script.write_text(text)
    return subprocess.Popen(
        [TOOL_SERVER.executable(), '-u', script],
        cwd=ROOT,
        env=CPU,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    'text, code, errors',
    [
        ('pass', 0, ''),
        ('import sys; sys.exit(True)', 1, ''),
        ('import sys; sys.exit(-1)', 255, ''),
        ('import sys; sys.exit("")', 1, '\n'),
        ('import sys; sys.exit("wrong")', 1, 'wrong\n'),
        ('1 / 0', 1, 'ZeroDivisionError: division by zero\n'),
        ('raise KeyboardInterrupt', -signal.SIGINT, 'KeyboardInterrupt\n'),
        ('import os; os.kill(os.getpid(), 9)', -signal.SIGKILL, ''),
        ('import os; os.abort()', -signal.SIGABRT, ''),
    ],
)
def test_exit_codes_are_those_of_python(text, code, errors, tmp_path):
    process = start(tmp_path, text)
    assert process.communicate()[1].endswith(errors)
    assert process.returncode == code


def test_threads_end_before_exit_handlers_run(tmp_path):
    text = """
import atexit, threading, time
atexit.register(print, 'handler')
threading.Thread(target=lambda: (time.sleep(0.1), print('thread'))).start()
"""
    assert start(tmp_path, text).communicate() == ('thread\nhandler\n', '')


def test_programs_draw_different_random_numbers(tmp_path):
    text = 'import numpy; print(numpy.random.randint(2**31))'
    one, other = (start(tmp_path, text).communicate()[0] for _ in range(2))
    assert int(one) != int(other)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_signals_are_forwarded_to_the_program(number, tmp_path):
    process = start(tmp_path, WAIT)
    process.stdout.readline()
    process.send_signal(number)
    process.communicate()
    assert process.returncode == -number


def test_a_program_whose_client_is_killed_is_killed(tmp_path):
    process = start(tmp_path, WAIT)
    program = int(process.stdout.readline())
    process.kill()
    process.communicate()
    wait_until(lambda: not psutil.pid_exists(program), 5)
