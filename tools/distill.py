"""Distill a teacher into a student: ``mmfmkt distill``, run from a git
clone."""

import sys

from mmfmkt.cli import run

if __name__ == '__main__':
    sys.exit(run('distill', prog='python tools/distill.py'))
