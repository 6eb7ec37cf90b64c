"""Evaluate a checkpoint: ``mmfmkt test``, run from a git clone."""

import sys

from mmfmkt.cli import run

if __name__ == '__main__':
    sys.exit(run('test', prog='python tools/test.py'))
