"""Process of one run: training, then evaluation at each K.

    python -m mmfmkt.apis.compare.worker WORK_DIR TASK

TASK is JSON: ``steps`` (K as strings, ``'-'`` without a flow), ``amp`` and
``weights`` (a checkpoint to evaluate instead of training, or null). A part
that is done is not repeated.
"""

import gc
import json
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path

from mmfmkt.cli import run
from mmfmkt.utils.files import write_atomically

from .plan import CONFIG, TRAINED, evaluation_folder, trained


def train(work_dir: Path, amp: bool) -> None:
    """Train, or resume a training, and write what it took."""
    start = time.monotonic()
    options = ['--resume', *(['--amp'] if amp else [])]
    run(
        'train',
        [str(work_dir / CONFIG), '--work-dir', str(work_dir), *options],
    )
    # Kibibytes on Linux; data loaders' workers are children.
    peak = max(
        resource.getrusage(x).ru_maxrss
        for x in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    took = dict(
        checkpoint=(work_dir / 'last_checkpoint').read_text().strip(),
        seconds=round(time.monotonic() - start, 1),
        peak_gb=round(peak * 1024 / 1e9, 3),
        threads=int(os.environ['OMP_NUM_THREADS']),
    )
    write_atomically(work_dir / TRAINED, json.dumps(took))


def evaluate(work_dir: Path, k: str) -> None:
    """Evaluate the last checkpoint at K."""
    folder = evaluation_folder(work_dir, k)
    if k == '-':
        options = []
    else:
        options = ['--cfg-options', f'model.flow.inference_steps={k}']
    weights = trained(work_dir)['checkpoint']
    arguments = [str(work_dir / CONFIG), weights, '--work-dir', str(folder)]
    run('test', [*arguments, *options])


def end_with(parent: int) -> None:
    """End this process, with a checkpoint, when its parent has been killed."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Do what is left of a run."""
    threading.Thread(
        target=end_with, args=(os.getppid(),), daemon=True
    ).start()
    work_dir, task = Path(sys.argv[1]), json.loads(sys.argv[2])
    if not (work_dir / TRAINED).is_file():
        if task['weights'] is None:
            train(work_dir, task['amp'])
        else:
            took = dict(checkpoint=task['weights'])
            write_atomically(work_dir / TRAINED, json.dumps(took))
    for k in task['steps']:
        gc.collect()
        if not any(evaluation_folder(work_dir, k).glob('*/*.json')):
            evaluate(work_dir, k)


if __name__ == '__main__':
    main()
