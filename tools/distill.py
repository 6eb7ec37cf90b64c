"""Distill a teacher into a student: ``mmfmkt distill`` in a clone."""

import sys

from mmfmkt.cli import run

if __name__ == '__main__':
    sys.exit(run('distill', prog='python tools/distill.py'))
