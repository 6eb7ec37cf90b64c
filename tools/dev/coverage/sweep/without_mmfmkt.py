"""Run two Python scripts in a process that cannot import mmfmkt.

python without_mmfmkt.py test.py ARGUMENTS -- train.py ARGUMENTS
"""

import runpy
import sys


def main() -> None:
    # Importing a module whose entry is None raises an ImportError.
    sys.modules['mmfmkt'] = None
    words = sys.argv[1:]
    separator = words.index('--')
    for command in (words[:separator], words[separator + 1 :]):
        sys.argv = command
        runpy.run_path(command[0], run_name='__main__')


if __name__ == '__main__':
    main()
