"""The code is as `ruff format` leaves it, and `ruff check` finds nothing."""

import sys

import pytest
from conftest import ROOT, run


@pytest.mark.parametrize('command', (('format', '--check'), ('check',)))
def test_ruff_has_nothing_to_say(command):
    pytest.importorskip('ruff')
    run(sys.executable, '-m', 'ruff', *command, '--no-cache', ROOT)
