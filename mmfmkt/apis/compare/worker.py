"""Process of one run: training, then evaluation at each K.

    python -m mmfmkt.apis.compare.worker WORK_DIR K ...

K is a number of sampling steps, or ``-`` without a flow. Finished trainings
and evaluations are not repeated.
"""

import gc
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Dict

from mmfmkt.cli import run, test
from mmfmkt.cli.errors import exit_on_error
from mmfmkt.engine.resume import has_checkpoint
from mmfmkt.evaluation import scalar_metrics

from .plan import CONFIG, read_result, write_result

LOCK = '.lock'

# Modules that Windows does not have.
if sys.platform != 'win32':
    import fcntl
    import resource


def train(work_dir: Path) -> Dict[str, Any]:
    """Train, or resume a training, and return its checkpoint and cost.

    A resumed training has no cost: that of its earlier part is unknown.
    """
    start, resumed = time.monotonic(), has_checkpoint(work_dir)
    config, folder = str(work_dir / CONFIG), str(work_dir)
    run('train', [config, '--work-dir', folder, '--resume'])
    training: Dict[str, Any] = dict(
        checkpoint=(work_dir / 'last_checkpoint').read_text().strip()
    )
    if not resumed:
        training.update(
            seconds=round(time.monotonic() - start, 1),
            threads=int(os.environ['OMP_NUM_THREADS']),
            **peak_memory(),
        )
    return training


def peak_memory() -> Dict[str, float]:
    """Return ``peak_gb``, the peak memory of this process or a child in GB.

    On Windows, where it cannot be read, the dict is empty.
    """
    if sys.platform == 'win32':
        return {}
    # `ru_maxrss` is in KiB on Linux. Data loaders' workers are children.
    peak = max(
        resource.getrusage(x).ru_maxrss
        for x in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return dict(peak_gb=round(peak * 1024 / 1e9, 3))


def evaluate(work_dir: Path, k: str, checkpoint: str) -> Dict[str, float]:
    """Evaluate a checkpoint at K, and return its scalar metrics."""
    folder = str(work_dir / f'test_{k.strip("-")}')
    argv = [str(work_dir / CONFIG), checkpoint, '--work-dir', folder]
    if k != '-':
        argv += ['--cfg-options', f'model.flow.inference_steps={k}']
    with exit_on_error():
        args = test.build_parser('test').parse_args(argv)
        return scalar_metrics(test.evaluate(args))


def stop_with_parent(parent_pid: int) -> None:
    """Send SIGTERM to this process when its parent process has ended.

    A training saves a checkpoint then.
    """
    while os.getppid() == parent_pid:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Train and evaluate a run, as far as it is unfinished."""
    threading.Thread(
        target=stop_with_parent, args=(os.getppid(),), daemon=True
    ).start()
    work_dir = Path(sys.argv[1])
    with open(work_dir / LOCK, 'w') as lock:
        # Wait for the worker of a killed comparison, which may still run.
        if sys.platform != 'win32':
            with suppress(OSError):  # not every file system has locks
                fcntl.flock(lock, fcntl.LOCK_EX)
        result = read_result(work_dir)
        if 'checkpoint' not in result:
            result.update(train(work_dir))
            write_result(work_dir, result)
        for k in sys.argv[2:]:
            gc.collect()  # frees the previous model
            if k not in result['metrics']:
                metrics = evaluate(work_dir, k, result['checkpoint'])
                result['metrics'][k] = metrics
                write_result(work_dir, result)


if __name__ == '__main__':
    main()
