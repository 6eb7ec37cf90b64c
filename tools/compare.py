"""Compare methods over seeds: ``mmfmkt compare``, run from a git clone."""

import sys

from mmfmkt.cli import run

if __name__ == '__main__':
    sys.exit(run('compare', prog='python tools/compare.py'))
