"""Runs checks of families in processes of their own, and keeps the results."""

import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

from mmfmkt.utils.files import write_atomically

from .errors import PLAIN_DONE
from .families import Family

# Processes are forked from one in which the libraries are imported.
PROCESSES = multiprocessing.get_context('forkserver')
RESULT, LOG = 'result.json', 'log.txt'
# One thread each, and nobody asks the network.
ENVIRONMENT = dict(
    CUDA_VISIBLE_DEVICES='',
    OMP_NUM_THREADS='1',
    MKL_NUM_THREADS='1',
    HF_HUB_OFFLINE='1',
    NO_ALBUMENTATIONS_UPDATE='1',
    PYTHONWARNINGS='ignore',
)
# For packages that no index has.
STAND_INS = Path(__file__).with_name('stand_ins')
# A family's next config is tried after these.
UNFIT = ('cannot run', 'cannot apply', 'timed out')
CONFIGS = 3


class Results:
    """What was found, by family and check, in a file.

    Args:
        path (Path): A JSON file; what is in it is kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: Dict[str, Dict[str, dict]] = {}
        if path.exists():
            self.found = json.loads(path.read_text())

    def get(self, family: Family, check: str) -> dict:
        """What was found of a check of a family; empty if nothing yet."""
        return self.found.get(family.key, {}).get(check, {})

    def put(self, family: Family, check: str, result: dict) -> None:
        """Keep a result, at once."""
        self.found.setdefault(family.key, {})[check] = result
        write_atomically(self.path, json.dumps(self.found, indent=2))


def check_all(
    todo: List[Tuple[Family, str]], results: Results, jobs: int, timeout: float
) -> Iterator[Tuple[Family, str]]:
    """Check families, keep what is found, and yield what is done.

    Args:
        todo (list[tuple[Family, str]]): Families and checks.
        results (Results): Where results go.
        jobs (int): Processes at the same time.
        timeout (float): Seconds for one of them.
    """
    prepare_processes()
    # What ends the sweep ends its processes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with ThreadPoolExecutor(jobs) as pool:
        tasks = [pool.submit(check_family, *x, results, timeout) for x in todo]
        try:
            for (family, check), task in zip(todo, tasks):
                results.put(family, check, task.result())
                yield family, check
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in PROCESSES.active_children():
                stop(process)


def check_family(
    family: Family, check: str, results: Results, timeout: float
) -> dict:
    """Check the smallest config of a family that this machine can run.

    A check after the first takes the config that the first one ran.
    """
    if family.reason:
        return dict(status='cannot apply', reason=family.reason)
    known = [
        x['config']
        for x in results.found.get(family.key, {}).values()
        if x.get('config') and x['status'] not in UNFIT
    ]
    tried = []
    for config in known[:1] or family.configs[:CONFIGS]:
        tried.append(check_config(family, config, check, timeout))
        if tried[-1]['status'] not in UNFIT:
            return tried[-1]
    return tried[0]


def check_config(
    family: Family, config: str, check: str, timeout: float
) -> dict:
    """Check one config in a process of its own, and in time."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        process = PROCESSES.Process(
            target=work, args=(family.library, config, check, folder)
        )
        process.start()
        process.join(timeout)
        late = process.exitcode is None
        stop(process)
        process.join()
        if late:
            result = dict(
                status='timed out', reason=f'took more than {timeout:g} s'
            )
        else:
            result = outcome(folder, process.exitcode)
    seconds = round(time.perf_counter() - start, 1)
    return dict(result, config=config, seconds=seconds)


def stop(process: BaseProcess) -> None:
    """End a process and what it has started itself."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def work(library: str, config: str, check: str, folder: Path) -> None:
    """What a process does: check a config, and write only to a folder."""
    os.setsid()
    with (folder / LOG).open('w') as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    os.chdir(folder)
    tempfile.tempdir = str(folder)
    # Not above: it needs much more than what counts and reports.
    from .worker import run_one

    run_one(library, config, check, folder / RESULT)


def outcome(folder: Path, code: int) -> dict:
    """What a process has found, or how it came to its end."""
    if (folder / RESULT).exists():
        return json.loads((folder / RESULT).read_text())
    log = (folder / LOG).read_text(errors='replace').strip().splitlines()
    # A crash of plain training is nothing of ours.
    status = 'failed' if PLAIN_DONE in log else 'cannot run'
    last = log[-1][:160] if log else 'nothing'
    return dict(
        status=status, reason=f'ended with {code}; its last words: {last}'
    )


def prepare_processes() -> None:
    """Start what processes are made from, with all that they need."""
    os.environ.update(ENVIRONMENT)
    path = [str(Path(__file__).parents[1])]
    if not all(find_spec(x.name) for x in STAND_INS.iterdir()):
        path.append(str(STAND_INS))
    path.append(os.environ.get('PYTHONPATH', ''))
    os.environ['PYTHONPATH'] = os.pathsep.join(filter(None, path))
    PROCESSES.set_forkserver_preload(
        ['sweep.worker', 'mmdet.apis', 'mmpretrain.apis']
    )
