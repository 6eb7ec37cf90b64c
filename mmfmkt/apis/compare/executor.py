"""Training and evaluation of runs, each in a separate process."""

import json
import os
import platform
import signal
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict, Optional, Sequence

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
    read_result,
    run_config,
    write_result,
)
from .results import load_results, metric_of

LOG = 'log.txt'
# Interval at which the processes of the runs are checked.
POLL_SECONDS = 0.2


class Executor:
    """Executor of the runs of a comparison that have no result yet.

    Each run has a work directory with config, log and ``result.json``. An
    interrupted training resumes from its latest checkpoint. Finished trainings
    and evaluations are not repeated.

    Args:
        comparison (Comparison): The comparison.
        folder (Path): Folder of the work directories.
        jobs (int): Number of parallel runs.
        retry (bool): Whether to execute failed runs again.

    Attributes:
        teacher (dict): Keys of ``model.teacher``, such as ``checkpoint``, that
            are set in the configs of all runs with a teacher.
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
        self.teacher: Dict[str, Any] = {}

    def result(self, run: Run) -> Dict[str, Any]:
        """Return the state of a run, as `read_result`."""
        return read_result(self.folder / run.folder)

    def is_pending(self, run: Run) -> bool:
        """Return whether a run lacks the metrics of one of its K.

        A failed run is pending if ``retry`` is set.

        Raises:
            ConfigError: If the run has been executed with other options.
        """
        result = self.result(run)
        options = run.method.options
        if result.get('options', options) != options:
            raise ConfigError(
                f'{run} was executed with other options: delete '
                f'{str(self.folder / run.folder)!r} to repeat it.'
            )
        if 'error' in result:
            return self.retry
        if 'ended' not in result:
            return True
        return not all(k in result['metrics'] for k in run.method.steps)

    def state(self, run: Run) -> str:
        """Return 'done', 'to be run', or the error of a failed run."""
        result = self.result(run)
        if 'error' in result:
            return f'failed: {result["error"]}'
        return 'to be run' if self.is_pending(run) else 'done'

    def execute(self, runs: Sequence[Run]) -> None:
        """Execute runs.

        Args:
            runs (Sequence[Run]): Runs of the comparison; runs with a result
                are skipped.

        Raises:
            ConfigError: If an evaluation lacks metrics.
        """
        pending = [x for x in runs if self.is_pending(x)]
        running: Dict[subprocess.Popen, Run] = {}
        progress_columns = (
            *Progress.get_default_columns(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        console = Console(stderr=True)
        with Progress(*progress_columns, console=console) as progress:
            done = len(runs) - len(pending)
            task = progress.add_task('runs', total=len(runs), completed=done)
            try:
                while pending or running:
                    while pending and len(running) < self.jobs:
                        run = pending.pop(0)
                        running[self._start(run)] = run
                    names = '; '.join(map(str, running.values()))
                    progress.update(task, description=names)
                    time.sleep(POLL_SECONDS)
                    ended = [x for x in running if x.poll() is not None]
                    for process in ended:
                        run = running.pop(process)
                        outcome = self._record(run, process.returncode)
                        console.print(
                            f'{run}: {outcome}', markup=False, soft_wrap=True
                        )
                        progress.advance(task)
                        self.collect()
            except BaseException:
                # Trainings save a checkpoint when they receive SIGTERM.
                for process in running:
                    process.terminate()
                console.print('Waiting for trainings to save checkpoints.')
                raise
            finally:
                for process in running:
                    process.wait()

    def _start(self, run: Run) -> subprocess.Popen:
        """Start the process that trains and evaluates a run."""
        work_dir = self.folder / run.folder
        work_dir.mkdir(parents=True, exist_ok=True)
        method = run.method
        amp = self.comparison.amp
        cfg = run_config(method, run.seed, self.teacher, amp)
        cfg.dump(work_dir / CONFIG)
        write_result(work_dir, self._state_at_start(run))
        threads = max((os.cpu_count() or 1) // self.jobs, 1)
        worker = [sys.executable, '-m', 'mmfmkt.apis.compare.worker']
        with open(work_dir / LOG, 'ab') as log:
            return subprocess.Popen(
                [*worker, str(work_dir), *method.steps],
                env={'OMP_NUM_THREADS': str(threads), **os.environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # The child does not receive Ctrl-C; this process sends it
                # SIGTERM.
                start_new_session=True,
            )

    def _state_at_start(self, run: Run) -> Dict[str, Any]:
        """Return the state of a run to be continued."""
        method = run.method
        state: Dict[str, Any] = dict(
            method=method.name,
            seed=run.seed,
            options=method.options,
            metrics={},
        )
        state.update(self.result(run))
        for key in ('error', 'on', 'ended'):
            state.pop(key, None)
        if method.checkpoint not in (None, state.get('checkpoint')):
            state.update(checkpoint=method.checkpoint, metrics={})
        return state

    def _record(self, run: Run, exit_code: int) -> str:
        """Write the result of a run whose process has ended.

        Args:
            run (Run): The run.
            exit_code (int): Exit code of the process.

        Returns:
            str: Metric at each K, or an error.
        """
        work_dir = self.folder / run.folder
        result = self.result(run)
        if exit_code:
            result['error'] = last_error(work_dir / LOG, exit_code)
        result['on'] = environment()
        now = datetime.now(timezone.utc)
        result['ended'] = now.isoformat(timespec='seconds')
        write_result(work_dir, result)
        try:
            return result.get('error') or ', '.join(
                f'{metric_of(x, self.comparison.metric)[1]:.4f}'
                + (f' at K = {k}' if k != '-' else '')
                for k, x in result['metrics'].items()
            )
        except ConfigError as error:
            # A wrong name of the metric does not stop the other runs.
            return str(error)

    def collect(self, cost: Optional[dict] = None) -> dict:
        """Write the results of all runs into one file, and return them.

        The file keeps results of runs whose work directories no longer exist,
        unless it is in the folder of the work directories.

        Args:
            cost (dict, optional): Measured cost by method, such as the
                latency; by default the cost in the file.
        """
        comparison = self.comparison
        saved = load_results(comparison)
        runs, costs = saved['runs'], saved['cost']
        paths = sorted(self.folder.glob(f'*/*/{RESULT}'))
        states = [read_result(path.parent) for path in paths]
        states = [x for x in states if 'ended' in x]
        if comparison.results.parent == self.folder:
            names = {x['method'] for x in states}
            # The settings of deleted runs may differ.
            runs, costs = [], {k: x for k, x in costs.items() if k in names}
        else:
            names = {x.name for x in comparison.all_methods}
        latest_runs = {(x['method'], x['seed']): x for x in runs}
        for x in states:
            omitted = {'checkpoint', 'options'}
            if 'error' in x:
                omitted.add('metrics')  # may lack some K
            if x['method'] in names:
                latest_runs[x['method'], x['seed']] = {
                    key: value
                    for key, value in x.items()
                    if key not in omitted
                }
        results = dict(
            title=comparison.title,
            metric=comparison.metric,
            configs={
                x.name: dict(config=x.config, options=x.options)
                for x in comparison.all_methods
            },
            runs=list(latest_runs.values()),
            cost=cost or costs,
        )
        write_atomically(
            comparison.results, json.dumps(results, indent=1) + '\n'
        )
        return results


def last_error(log: Path, exit_code: int) -> str:
    """Return the last error in a log, or the signal that ended the process.

    Args:
        log (Path): File with the output of the process.
        exit_code (int): Exit code; negative if a signal ended the process.
    """
    if exit_code < 0:
        return f'ended by {signal.Signals(-exit_code).name}'
    lines = log.read_text(encoding='utf-8', errors='replace').split('\n')
    # Both 'error: ...' and 'ValueError: ...'.
    error_lines = [x.strip() for x in lines if 'rror' in x]
    return error_lines[-1] if error_lines else f'exit code {exit_code}'


def environment() -> Dict[str, str]:
    """Return the name of the device, and versions of torch and mmengine."""
    device = platform.processor() or platform.machine()
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    return dict(
        device=device, torch=torch.__version__, mmengine=mmengine.__version__
    )
