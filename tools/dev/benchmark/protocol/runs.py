"""Training and evaluating, in processes of their own, and what came out."""

import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import mmengine
import torch
from mmengine.config import Config
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from mmfmkt.utils import ConfigError
from mmfmkt.utils.files import write_atomically

from .plan import ROOT, Run, Table

RESULT = 'result.json'
LOG = 'log.txt'
RUNNING: List[subprocess.Popen] = []
INTERRUPTED = threading.Event()


class Failed(Exception):
    """A tool ended with an error, which this says."""


def state_of(run: Run, folder: Path) -> str:
    """Whether a run is done, has failed or is to be run."""
    result = result_of(run, folder)
    if result is None:
        return 'to be run'
    return f'failed: {result["error"]}' if 'error' in result else 'done'


def result_of(run: Run, folder: Path) -> Optional[dict]:
    """What a run gave, None where it has not ended."""
    path = folder / run.folder / RESULT
    return json.loads(path.read_text()) if path.is_file() else None


def run_all(
    table: Table, todo: Sequence[Run], folder: Path, jobs: int, retry: bool
) -> None:
    """Run what is not done, some side by side.

    Args:
        table (Table): The table.
        todo (Sequence[Run]): Its runs, or some of them.
        folder (Path): Where work folders are.
        jobs (int): How many run at once.
        retry (bool): Whether to run again what failed.

    Raises:
        ConfigError: If the teacher could not be trained.
    """
    console = Console(stderr=True)
    teacher = Run(table.teacher, table.teacher.seeds[0])
    first = settle(teacher, table, folder, None, 1, retry)
    if 'error' in first:
        raise ConfigError(
            f'The teacher failed ({first["error"]}): see '
            f'{folder / teacher.folder / LOG}; --retry runs it again.'
        )
    left = [
        run
        for run in todo
        if (result := result_of(run, folder)) is None
        or (retry and 'error' in result)
    ]
    columns = (
        *Progress.get_default_columns(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(
            table.name, total=len(todo), completed=len(todo) - len(left)
        )
        pool = ThreadPoolExecutor(jobs)
        try:
            waiting = {
                pool.submit(
                    settle,
                    run,
                    table,
                    folder,
                    first['checkpoint'],
                    jobs,
                    retry,
                ): run
                for run in left
            }
            for future in as_completed(waiting):
                result = future.result()
                said = result.get('error') or summary(result, table)
                console.print(f'{waiting[future]}: {said}')
                progress.advance(task)
                gather(table, folder)
        except BaseException:
            # A training that is told to end leaves a checkpoint.
            INTERRUPTED.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(RUNNING):
                process.send_signal(signal.SIGTERM)
            raise
        pool.shutdown()


def summary(result: dict, table: Table) -> str:
    """A run's metric, in words."""
    return ', '.join(
        f'{metrics[table.metric]:.4f}' + (f' at K = {k}' if k != '-' else '')
        for k, metrics in result['metrics'].items()
    )


def settle(
    run: Run,
    table: Table,
    folder: Path,
    checkpoint: Optional[str],
    jobs: int,
    retry: bool,
) -> dict:
    """Run it, unless it is done, and write down what it gave."""
    there = result_of(run, folder)
    if there is not None and not (retry and 'error' in there):
        return there
    place = folder / run.folder
    result: Dict[str, Any] = dict(method=run.method.name, seed=run.seed)
    try:
        result.update(attempt(run, table, place, checkpoint, jobs))
    except Failed as error:
        if INTERRUPTED.is_set():
            # It has not failed, and goes on another time.
            raise
        result['error'] = str(error)
    result['on'] = machine()
    result['ended'] = datetime.now(timezone.utc).isoformat(timespec='seconds')
    write_atomically(place / RESULT, json.dumps(result, indent=1))
    return result


def attempt(
    run: Run, table: Table, place: Path, checkpoint: Optional[str], jobs: int
) -> dict:
    """Train, evaluate, and say what it took."""
    place.mkdir(parents=True, exist_ok=True)
    config = place / 'config.py'
    write_config(run, place, checkpoint, table.cache).dump(config)
    took: Dict[str, Any] = {}
    weights = run.method.checkpoint
    if weights is None:
        took = call(
            [
                'tools/train.py',
                config,
                '--work-dir',
                place,
                '--resume',
                *(['--amp'] if table.amp else []),
            ],
            place,
            jobs,
        )
        weights = (place / 'last_checkpoint').read_text().strip()
    metrics = {}
    for k in run.method.inference_steps or [None]:
        options = [] if k is None else [f'model.flow.inference_steps={k}']
        tested = place / f'test_{"" if k is None else k}'
        call(
            [
                'tools/test.py',
                config,
                weights,
                '--work-dir',
                tested,
                *(['--cfg-options', *options] if options else []),
            ],
            place,
            jobs,
        )
        found = read_metrics(tested)
        if table.metric not in found:
            raise Failed(
                f'the evaluator gives {", ".join(found)}, and no '
                f'{table.metric}'
            )
        metrics['-' if k is None else str(k)] = found
    return dict(metrics=metrics, checkpoint=weights, **took)


def write_config(
    run: Run, place: Path, checkpoint: Optional[str], cached: bool
) -> Config:
    """The config that a run trains by; its last epoch is what counts."""
    cfg = Config.fromfile(ROOT / run.method.config)
    distils = 'student' in cfg.model
    options = run.method.applied(distils)
    if distils and cfg.model.get('teacher') is not None:
        options['model.teacher.checkpoint'] = checkpoint
        if cached:
            cache = place.parents[1] / 'teacher_cache.sqlite'
            options.setdefault('model.teacher.cache', str(cache))
    cfg.merge_from_dict({**options, 'randomness.seed': run.seed})
    for key in ('val_cfg', 'val_dataloader', 'val_evaluator'):
        cfg[key] = None
    cfg.default_hooks.checkpoint.pop('save_best', None)
    return cfg


def call(command: List[Any], place: Path, jobs: int) -> dict:
    """Run a tool; its output is added to the run's log.

    Returns:
        dict: Seconds that it took, and the most memory that it had.

    Raises:
        Failed: If it ends with an error.
    """
    threads = max((os.cpu_count() or 1) // jobs, 1)
    env = {'OMP_NUM_THREADS': str(threads), **os.environ}
    start = time.monotonic()
    with open(place / LOG, 'ab') as log:
        process = subprocess.Popen(
            [sys.executable, *map(str, command)],
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        RUNNING.append(process)
        try:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        except KeyboardInterrupt:
            INTERRUPTED.set()
            process.terminate()
            raise
        finally:
            RUNNING.remove(process)
    if process.returncode:
        raise Failed(last_words(place / LOG, process.returncode))
    return dict(
        seconds=round(time.monotonic() - start, 1),
        peak_gb=round(usage.ru_maxrss * 1024 / 1e9, 3),
        threads=threads,
    )


def last_words(log: Path, code: int) -> str:
    """Why a tool ended, from its log."""
    if code < 0:
        return f'ended by {signal.Signals(-code).name}'
    lines = log.read_text(encoding='utf-8', errors='replace').split('\n')
    lines = [x.strip() for x in lines if x.strip()]
    return next((x for x in lines[::-1] if 'rror' in x), f'exit code {code}')


def read_metrics(work_dir: Path) -> Dict[str, float]:
    """What an evaluation wrote into its work folder, the latest."""
    found = sorted(work_dir.glob('*/*.json'))
    if not found:
        raise Failed(f'no metrics in {work_dir}')
    metrics = json.loads(found[-1].read_text().strip().split('\n')[-1])
    return {
        key: value
        for key, value in metrics.items()
        if isinstance(value, (int, float)) and 'time' not in key
    }


def gather(table: Table, folder: Path, cost: Optional[dict] = None) -> None:
    """Write what all runs gave into the table's one file.

    Runs whose folders are elsewhere by now stay in it.

    Args:
        table (Table): The table.
        folder (Path): Where work folders are.
        cost (dict, optional): By method, what it costs.
    """
    path = table.results
    known = json.loads(path.read_text()) if path.is_file() else {}
    kept = {(x['method'], x['seed']): x for x in known.get('runs', ())}
    for method in (table.teacher, *table.methods):
        for seed in method.seeds:
            result = result_of(Run(method, seed), folder)
            if result is not None:
                result.pop('checkpoint', None)
                kept[method.name, seed] = result
    report = dict(
        title=table.title,
        metric=table.metric,
        configs={
            x.name: dict(config=x.config, options=x.options)
            for x in (table.teacher, *table.methods)
        },
        runs=[kept[key] for key in ordered(kept, table)],
        cost=cost or known.get('cost', {}),
    )
    write_atomically(path, json.dumps(report, indent=1) + '\n')


def ordered(kept: Dict[tuple, dict], table: Table) -> List[tuple]:
    """Runs in the order of the table's lines, then those it has no more."""
    names = [x.name for x in (table.teacher, *table.methods)]
    return sorted(
        kept,
        key=lambda x: (names.index(x[0]) if x[0] in names else 99, x[0], x[1]),
    )


def machine() -> Dict[str, str]:
    """On what, and by which versions."""
    device = platform.processor() or platform.machine()
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    return dict(
        device=device, torch=torch.__version__, mmengine=mmengine.__version__
    )
