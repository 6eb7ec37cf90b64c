"""Compare methods over seeds: ``mmfmkt compare`` in a clone."""

import sys

from mmfmkt.cli import run

if __name__ == '__main__':
    sys.exit(run('compare', prog='python tools/compare.py'))
