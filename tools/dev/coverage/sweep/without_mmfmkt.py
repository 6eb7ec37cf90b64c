"""Run Python scripts in a process that cannot import mmfmkt.

python without_mmfmkt.py test.py ARGUMENTS -- train.py ARGUMENTS
"""

import runpy
import sys
from typing import Any, List


class Blocker:
    """Finder of modules that blocks the import of mmfmkt."""

    @staticmethod
    def find_spec(name: str, *_: Any) -> None:
        """Raise an error for mmfmkt, so that no other finder is asked."""
        if name.split('.')[0] == 'mmfmkt':
            raise ImportError('mmfmkt is blocked')


def main() -> None:
    commands: List[List[str]] = [[]]
    for word in sys.argv[1:]:
        if word == '--':
            commands.append([])
        else:
            commands[-1].append(word)
    sys.meta_path.insert(0, Blocker())
    for command in commands:
        sys.argv = command
        runpy.run_path(command[0], run_name='__main__')


if __name__ == '__main__':
    main()
