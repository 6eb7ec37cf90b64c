"""Training and evaluation of runs, each in a separate process."""

import fcntl
import json
import os
import platform
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any, Dict, List, Optional, Sequence

import mmengine
import torch
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from mmfmkt.utils import ConfigError
from mmfmkt.utils.files import write_atomically

from .plan import (
    CONFIG,
    RESULT,
    Comparison,
    Run,
    evaluation_folder,
    run_config,
    trained,
)
from .results import load_results, metric_of

LOG = 'log.txt'
LOCK = '.lock'


class RunFailed(Exception):
    """Error of the process of a run; the message has the process's error."""


class Executor:
    """Executes the runs of a comparison that have no result yet.

    Each run has a work directory with config, log and ``result.json``. An
    interrupted training resumes from its latest checkpoint. Finished trainings
    and evaluations are not repeated.

    Args:
        comparison (Comparison): The comparison.
        folder (Path): Folder of the work directories.
        jobs (int): Number of parallel runs.
        retry (bool): Whether to execute failed runs again.
    """

    def __init__(
        self,
        comparison: Comparison,
        folder: Path,
        jobs: int = 1,
        retry: bool = False,
    ) -> None:
        self.comparison, self.folder = comparison, folder
        self.jobs, self.retry = jobs, retry
        self._lock: Optional[IO] = None
        self._processes: List[subprocess.Popen] = []
        self._interrupted = threading.Event()

    def result(self, run: Run) -> Optional[dict]:
        """Return the saved result of a run, or None."""
        path = self.folder / run.folder / RESULT
        return json.loads(path.read_text()) if path.is_file() else None

    def is_pending(self, run: Run) -> bool:
        """Return whether a run, or an evaluation of it, is to be executed."""
        result = self.result(run)
        if result is None or 'error' in result:
            return result is None or self.retry
        steps = run.method.steps
        return not all(k in result['metrics'] for k in steps)

    def state(self, run: Run) -> str:
        """Return 'done', 'to be run', or the error of a failed run."""
        result = self.result(run) or {}
        if 'error' in result:
            return f'failed: {result["error"]}'
        return 'to be run' if self.is_pending(run) else 'done'

    def execute(self, runs: Sequence[Run]) -> None:
        """Execute runs, after the comparison's teacher if there is one.

        Args:
            runs (Sequence[Run]): Runs of the comparison; runs with a result
                are skipped.

        Raises:
            ConfigError: If the teacher failed or the metric does not exist.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        # Child processes inherit the lock. If this process is killed, a new
        # comparison waits until the trainings have saved their checkpoints.
        with open(self.folder / LOCK, 'w') as self._lock:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f'Waiting for another comparison in {self.folder}.')
                fcntl.flock(self._lock, fcntl.LOCK_EX)
            self._execute(runs, self._teacher_checkpoint())

    def _teacher_checkpoint(self) -> Optional[str]:
        """Train or evaluate the teacher and return its checkpoint."""
        teacher = self.comparison.teacher
        if teacher is None:
            return None
        run = Run(teacher, teacher.seeds[0])
        result = self._settle(run, None)
        if 'error' in result:
            raise ConfigError(
                f'The training of the teacher failed ({result["error"]}): see '
                f'{self.folder / run.folder / LOG}; --retry repeats it.'
            )
        return result['checkpoint']

    def _execute(self, runs: Sequence[Run], checkpoint: Optional[str]) -> None:
        pending = [x for x in runs if self.is_pending(x)]
        columns = (
            *Progress.get_default_columns(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        console = Console(stderr=True)
        with Progress(*columns, console=console) as progress:
            done = len(runs) - len(pending)
            task = progress.add_task('runs', total=len(runs), completed=done)
            running: Dict[str, None] = {}

            def show() -> None:
                names = '; '.join(list(running)) or 'runs'
                progress.update(task, description=names)

            def settle(run: Run) -> dict:
                running[str(run)] = None
                show()
                try:
                    return self._settle(run, checkpoint)
                finally:
                    del running[str(run)]
                    show()

            pool = ThreadPoolExecutor(self.jobs)
            futures = {pool.submit(settle, run): run for run in pending}
            try:
                for future in as_completed(futures):
                    text = self._summary(future.result())
                    console.print(
                        f'{futures[future]}: {text}',
                        markup=False,
                        soft_wrap=True,
                    )
                    progress.advance(task)
                    self.collect()
            except BaseException:
                self._interrupted.set()
                for future in futures:
                    future.cancel()
                # Trainings save a checkpoint on SIGTERM.
                for process in list(self._processes):
                    process.terminate()
                console.print('Waiting for trainings to save checkpoints.')
                raise
            finally:
                pool.shutdown()

    def _summary(self, result: dict) -> str:
        """Return the metric of a run, or its error."""
        return result.get('error') or ', '.join(
            f'{metric_of(metrics, self.comparison.metric)[1]:.4f}'
            + (f' at K = {k}' if k != '-' else '')
            for k, metrics in result['metrics'].items()
        )

    def _settle(self, run: Run, checkpoint: Optional[str]) -> dict:
        """Execute a run, unless it has a result, and write its result."""
        if not self.is_pending(run):
            return self.result(run) or {}
        work_dir = self.folder / run.folder
        result: Dict[str, Any] = dict(method=run.method.name, seed=run.seed)
        try:
            result.update(self._attempt(run, work_dir, checkpoint))
        except RunFailed as error:
            if self._interrupted.is_set():
                # An interrupted run has not failed: the next call resumes it.
                raise
            result['error'] = str(error)
        result['on'] = environment()
        now = datetime.now(timezone.utc)
        result['ended'] = now.isoformat(timespec='seconds')
        write_atomically(work_dir / RESULT, json.dumps(result, indent=1))
        return result

    def _attempt(
        self, run: Run, work_dir: Path, checkpoint: Optional[str]
    ) -> dict:
        """Train and evaluate a run in a separate process."""
        work_dir.mkdir(parents=True, exist_ok=True)
        cache = self.folder / 'teacher_cache.sqlite'
        run_config(
            run.method,
            run.seed,
            checkpoint,
            cache if self.comparison.cache else None,
        ).dump(work_dir / CONFIG)
        task = dict(
            steps=run.method.steps,
            amp=self.comparison.amp,
            weights=run.method.checkpoint,
        )
        threads = max((os.cpu_count() or 1) // self.jobs, 1)
        with open(work_dir / LOG, 'ab') as log:
            process = subprocess.Popen(
                [
                    sys.executable,
                    *('-m', 'mmfmkt.apis.compare.worker'),
                    *(str(work_dir), json.dumps(task)),
                ],
                env={'OMP_NUM_THREADS': str(threads), **os.environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # The child does not receive Ctrl-C; this process sends it
                # SIGTERM.
                start_new_session=True,
                pass_fds=(self._lock.fileno(),) if self._lock else (),
            )
        self._processes.append(process)
        try:
            if self._interrupted.is_set():
                process.terminate()
            process.wait()
        except KeyboardInterrupt:
            self._interrupted.set()
            process.terminate()
            process.wait()
            raise
        finally:
            self._processes.remove(process)
        if process.returncode:
            raise RunFailed(last_error(work_dir / LOG, process.returncode))
        metrics = {
            k: read_metrics(evaluation_folder(work_dir, k))
            for k in task['steps']
        }
        return dict(metrics=metrics, **trained(work_dir))

    def collect(self, cost: Optional[dict] = None) -> dict:
        """Write the results of all runs into one file, and return them.

        Runs in the file whose work directories no longer exist stay in it.

        Args:
            cost (dict, optional): Cost by method; by default that of the
                file.
        """
        comparison = self.comparison
        known = load_results(comparison)
        all_runs = {(x['method'], x['seed']): x for x in known['runs']}
        for method in comparison.all_methods:
            for seed in method.seeds:
                result = self.result(Run(method, seed))
                if result is not None:
                    result.pop('checkpoint', None)
                    all_runs[method.name, seed] = result
        names = [x.name for x in comparison.all_methods]
        # Runs in the order of the methods, then runs of removed methods.
        order = sorted(
            all_runs,
            key=lambda x: (
                names.index(x[0]) if x[0] in names else 99,
                *x,
            ),
        )
        results = dict(
            title=comparison.title,
            metric=comparison.metric,
            configs={
                x.name: dict(config=x.config, options=x.options)
                for x in comparison.all_methods
            },
            runs=[all_runs[key] for key in order],
            cost=cost or known['cost'],
        )
        write_atomically(
            comparison.results, json.dumps(results, indent=1) + '\n'
        )
        return results


def last_error(log: Path, code: int) -> str:
    """Return the error that ended a process: a signal, or the last line of
    the log with an error."""
    if code < 0:
        return f'ended by {signal.Signals(-code).name}'
    lines = log.read_text(encoding='utf-8', errors='replace').split('\n')
    lines = [x.strip() for x in lines if x.strip()]
    return next((x for x in lines[::-1] if 'rror' in x), f'exit code {code}')


def read_metrics(work_dir: Path) -> Dict[str, float]:
    """Return the metrics of the latest evaluation in a work directory."""
    found = sorted(work_dir.glob('*/*.json'))
    if not found:
        raise RunFailed(f'no metrics in {work_dir}')
    metrics = json.loads(found[-1].read_text().strip().split('\n')[-1])
    return {
        key: value
        for key, value in metrics.items()
        if isinstance(value, (int, float)) and 'time' not in key
    }


def environment() -> Dict[str, str]:
    """Return the device and versions of torch and mmengine."""
    device = platform.processor() or platform.machine()
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    return dict(
        device=device, torch=torch.__version__, mmengine=mmengine.__version__
    )
