"""Train a config: ``mmfmkt train``, run from a git clone."""

import sys

from mmfmkt.cli import run

if __name__ == '__main__':
    sys.exit(run('train', prog='python tools/train.py'))
