"""Export the student: ``mmfmkt export``, run from a git clone."""

import sys

from mmfmkt.cli import run

if __name__ == '__main__':
    sys.exit(run('export', prog='python tools/export_student.py'))
