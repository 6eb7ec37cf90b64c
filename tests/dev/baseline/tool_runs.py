"""Tools of the code under test, run in forks of this process."""

import os
import pickle
import runpy
import sys
import traceback
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import adapter
from digests import to_hex


def in_child(function: Callable[[], Any], log: Optional[Path] = None) -> Any:
    """Run a function in a copy of this process.

    Args:
        function (Callable): The function.
        log (Path, optional): File for its output.

    Returns:
        The result of the function, or the exit code of the process.

    Raises:
        RuntimeError: If the function raises an error.
    """
    reader, writer = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        os.close(reader)
        if log is not None:
            file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, 1)
            os.dup2(file, 2)
        code = 0
        try:
            answer = dict(value=function())
        except SystemExit as error:
            number = error.code if isinstance(error.code, int) else 1
            answer = dict(value=number if error.code else 0)
        except BaseException:
            answer = dict(error=traceback.format_exc())
            code = 1
        with os.fdopen(writer, 'wb') as file:
            pickle.dump(answer, file)
        sys.stdout.flush()
        os._exit(code)
    os.close(writer)
    with os.fdopen(reader, 'rb') as file:
        sent = file.read()
    os.waitpid(pid, 0)
    answer = pickle.loads(sent) if sent else dict(error='killed')
    if 'error' in answer:
        text = log.read_text(errors='replace') if log else ''
        raise RuntimeError(f'{text[-3000:]}\n{answer["error"]}')
    return answer['value']


class Code:
    """Code under test, whose tools write and read files.

    Args:
        root (Path): Root of the code.
        home (Path): Folder for the files that the tools write.
    """

    def __init__(self, root: Path, home: Path) -> None:
        self.root, self.home = root, home

    def tool(self, tool: str, *args: Any, expected: int = 0) -> None:
        """Run a tool as a user would.

        Args:
            tool (str): Its path.
                args: Its arguments.
            expected (int): Its expected exit code.

        Raises:
            RuntimeError: If the exit code differs.
        """
        path = self.root / tool
        argv = [str(path), *map(str, args)]

        def run() -> None:
            os.chdir(self.home)
            sys.argv, sys.path[0] = argv, str(path.parent)
            runpy.run_path(str(path), run_name='__main__')

        log = self.home / 'tool.log'
        code = in_child(run, log) or 0
        if code != expected:
            raise RuntimeError(
                f'{" ".join(argv)}\nended with {code}, not {expected}:\n'
                f'{log.read_text(errors="replace")[-3000:]}'
            )

    def train(self, config: Path, work_dir: Path, *more: Any, expected=0):
        """Train, and return the folder."""
        args = (config, '--work-dir', work_dir, *more)
        self.tool(adapter.names().train, *args, expected=expected)
        return work_dir

    def predictions(self, config: Path, checkpoint: Path) -> Dict[str, Any]:
        """Test a checkpoint of a distillation; return its predictions."""
        out = self.home / 'predictions.pkl'
        work_dir = ('--work-dir', self.home / 'test')
        args = (config, checkpoint, '--out', out, *work_dir)
        self.tool(adapter.names().test, *args)
        return in_child(lambda: readable(pickle.loads(out.read_bytes())))

    def export(self, config: Path, checkpoint: Path, out: Path) -> None:
        """Export the student of a checkpoint."""
        self.tool(adapter.names().export, config, checkpoint, '--out', out)


def readable(samples: list) -> List[Dict[str, Any]]:
    """Return the dumped predictions of each image, numbers as hex."""
    found = []
    for sample in samples:
        part = sample.get('pred_instances', sample)
        keys = ('bboxes', 'scores', 'labels', 'pred_score')
        found.append(
            {
                key: [to_hex(x) for x in part[key].flatten().tolist()]
                for key in keys
                if key in part
            }
        )
    return found
