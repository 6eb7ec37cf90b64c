"""Write an HTML report: ``mmfmkt report``, run from a git clone."""

import sys

from mmfmkt.cli import run

if __name__ == '__main__':
    sys.exit(run('report', prog='python tools/report.py'))
