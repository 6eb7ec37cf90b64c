"""Run each check in a process of its own, and store the results."""

import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from importlib.util import find_spec
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

from mmfmkt.utils.files import write_atomically

from .errors import BASELINE_DONE
from .families import Family

# Processes are forked from a server that has imported the libraries.
PROCESSES = multiprocessing.get_context('forkserver')
RESULT, LOG = 'result.json', 'log.txt'
# One thread per process, and no network access.
ENVIRONMENT = dict(
    CUDA_VISIBLE_DEVICES='',
    OMP_NUM_THREADS='1',
    MKL_NUM_THREADS='1',
    HF_HUB_OFFLINE='1',
    NO_ALBUMENTATIONS_UPDATE='1',
    PYTHONWARNINGS='ignore',
)
# Replacements for packages that no package index has.
STAND_INS = Path(__file__).with_name('stand_ins')
# Statuses after which the next config of the family is tried.
NOT_CHECKED = ('cannot run', 'cannot apply', 'timed out')
MAX_CONFIGS = 3
# Limit of one check of one config in seconds.
TIMEOUT = 600


class Results:
    """Results by family and check, stored in a file.

    Args:
        path (Path): JSON file; existing results are kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.by_family: Dict[str, Dict[str, dict]] = {}
        if path.exists():
            self.by_family = json.loads(path.read_text())

    def get(self, family: Family, check: str) -> dict:
        """Return the result of a family's check; empty if there is none."""
        return self.by_family.get(family.key, {}).get(check, {})

    def put(self, family: Family, check: str, result: dict) -> None:
        """Store a result, and write the file."""
        self.by_family.setdefault(family.key, {})[check] = result
        write_atomically(self.path, json.dumps(self.by_family, indent=2))


def check_all(
    todo: List[Tuple[Family, str]], results: Results, jobs: int
) -> Iterator[Tuple[Family, str]]:
    """Run checks, store their results, and yield each completed check.

    Args:
        todo (list[tuple[Family, str]]): Pairs of family and check.
        results (Results): Results to add to.
        jobs (int): Number of parallel processes.
    """
    prepare_processes()
    # SIGTERM runs the `finally` block, which ends the processes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with ThreadPoolExecutor(jobs) as pool:
        tasks = {pool.submit(check_family, *x, results): x for x in todo}
        try:
            for task in as_completed(tasks):
                family, check = tasks[task]
                results.put(family, check, task.result())
                yield family, check
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in PROCESSES.active_children():
                stop(process)


def check_family(family: Family, check: str, results: Results) -> dict:
    """Check the smallest config of a family that this machine can run.

    All checks of a family use the same config.
    """
    if family.reason:
        return dict(status='cannot apply', reason=family.reason)
    checked_configs = [
        x['config']
        for x in results.by_family.get(family.key, {}).values()
        if x.get('config') and x['status'] not in NOT_CHECKED
    ]
    tried = []
    for config in checked_configs[:1] or family.configs[:MAX_CONFIGS]:
        tried.append(check_config(family, config, check))
        if tried[-1]['status'] not in NOT_CHECKED:
            return tried[-1]
    return tried[0]


def check_config(family: Family, config: str, check: str) -> dict:
    """Check one config in a process of its own, with a time limit."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        process = PROCESSES.Process(
            target=check_in_child, args=(family.library, config, check, folder)
        )
        process.start()
        process.join(TIMEOUT)
        timed_out = process.exitcode is None
        stop(process)
        process.join()
        if timed_out:
            reason = f'took more than {TIMEOUT} s'
            result = dict(status='timed out', reason=reason)
        else:
            result = read_result(folder, process.exitcode)
    seconds = round(time.perf_counter() - start, 1)
    return dict(result, config=config, seconds=seconds)


def stop(process: BaseProcess) -> None:
    """Kill a process and all processes that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def check_in_child(
    library: str, config: str, check: str, folder: Path
) -> None:
    """Check a config in a child process, which writes only to a folder."""
    os.setsid()
    with (folder / LOG).open('w') as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    os.chdir(folder)
    tempfile.tempdir = str(folder)
    # Imported here, since only child processes need the libraries.
    from .worker import run_one

    run_one(library, config, check, folder / RESULT)


def read_result(folder: Path, code: int) -> dict:
    """Return the result of a process, or a description of its crash."""
    if (folder / RESULT).exists():
        return json.loads((folder / RESULT).read_text())
    log = (folder / LOG).read_text(errors='replace').strip().splitlines()
    # Before this line of the log, a crash is not due to the distiller.
    status = 'failed' if BASELINE_DONE in log else 'cannot run'
    last = log[-1][:160] if log else '(empty log)'
    reason = f'exit code {code}; last line of the log: {last}'
    return dict(status=status, reason=reason)


def prepare_processes() -> None:
    """Start the server that child processes are forked from."""
    os.environ.update(ENVIRONMENT)
    path = [str(Path(__file__).parents[1])]
    if not all(find_spec(x.name) for x in STAND_INS.iterdir()):
        path.append(str(STAND_INS))
    path.append(os.environ.get('PYTHONPATH', ''))
    os.environ['PYTHONPATH'] = os.pathsep.join(filter(None, path))
    PROCESSES.set_forkserver_preload(
        ['sweep.worker', 'mmdet.apis', 'mmpretrain.apis']
    )
