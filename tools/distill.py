"""Distills a model into another: the command ``mmfmkt distill`` in a clone."""

import sys

from mmfmkt.cli import run

if __name__ == '__main__':
    sys.exit(run('distill', prog='python tools/distill.py'))
