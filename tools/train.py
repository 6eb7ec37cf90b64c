"""Train a config: ``mmfmkt train`` in a clone."""

import sys

from mmfmkt.cli import run

if __name__ == '__main__':
    sys.exit(run('train', prog='python tools/train.py'))
