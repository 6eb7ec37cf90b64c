"""Export a student as ONNX: ``mmfmkt onnx``, run from a git clone."""

import sys

from mmfmkt.cli import run

if __name__ == '__main__':
    sys.exit(run('onnx', prog='python tools/export_onnx.py'))
