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


def train(place: Path, amp: bool) -> None:
    """Train, or resume a training, and write what it took."""
    start = time.monotonic()
    options = ['--resume', *(['--amp'] if amp else [])]
    run('train', [str(place / CONFIG), '--work-dir', str(place), *options])
    # Kibibytes on Linux; data loaders' workers are children.
    peak = max(
        resource.getrusage(x).ru_maxrss
        for x in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    took = dict(
        checkpoint=(place / 'last_checkpoint').read_text().strip(),
        seconds=round(time.monotonic() - start, 1),
        peak_gb=round(peak * 1024 / 1e9, 3),
        threads=int(os.environ['OMP_NUM_THREADS']),
    )
    write_atomically(place / TRAINED, json.dumps(took))


def evaluate(place: Path, k: str) -> None:
    """Evaluate the last checkpoint at K."""
    folder = evaluation_folder(place, k)
    if k == '-':
        options = []
    else:
        options = ['--cfg-options', f'model.flow.inference_steps={k}']
    weights = trained(place)['checkpoint']
    arguments = [str(place / CONFIG), weights, '--work-dir', str(folder)]
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
    place, task = Path(sys.argv[1]), json.loads(sys.argv[2])
    if not (place / TRAINED).is_file():
        if task['weights'] is None:
            train(place, task['amp'])
        else:
            took = dict(checkpoint=task['weights'])
            write_atomically(place / TRAINED, json.dumps(took))
    for k in task['steps']:
        gc.collect()
        if not any(evaluation_folder(place, k).glob('*/*.json')):
            evaluate(place, k)


if __name__ == '__main__':
    main()
