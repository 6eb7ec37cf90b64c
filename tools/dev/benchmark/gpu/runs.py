"""Trainings of a classifier: killed and resumed, by DDP, by FSDP."""

import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

import numpy as np
import torch
from PIL import Image
from report import Part, Report

ROOT = Path(__file__).resolve().parents[4]
CONFIG = 'configs/mmpretrain/cifar10_folder/fmkt_resnet20_resnet8.py'
CLASSES, EPOCHS, KILL_EPOCH = 10, 10, 5
SETTINGS = (
    'model.teacher.checkpoint=None',
    'train_dataloader.batch_size=32',
    f'train_cfg.max_epochs={EPOCHS}',
    f'train_cfg.val_interval={EPOCHS}',
    f'param_scheduler.total_steps={EPOCHS}',
    f'default_hooks.checkpoint.max_keep_ckpts={EPOCHS}',
    'randomness.seed=0',
    'randomness.deterministic=True',
)
FSDP = (
    'runner_type=FlexibleRunner',
    'strategy.type=FSDPStrategy',
    'strategy.state_dict_cfg=full',
)


def draw_images(folder: Path, images_per_class: int) -> None:
    """Write training and test images: noise around a color of the class."""
    rng = np.random.default_rng(0)
    for split in ('train', 'test'):
        for label in range(CLASSES):
            class_folder = folder / split / f'class{label}'
            class_folder.mkdir(parents=True)
            color = rng.integers(64, 192, 3)
            for i in range(images_per_class):
                noise = rng.normal(color, 32, (32, 32, 3)).clip(0, 255)
                image = Image.fromarray(noise.astype('uint8'))
                image.save(class_folder / f'{i}.png')


class Training:
    """Run of tools/train.py in a process of its own.

    Args:
        folder (Path): Folder with ``data``, for work directory and log.
        name (str): Name of work directory and log.
        options (Sequence[str]): Options of tools/train.py.
        settings (Sequence[str]): Further overrides of the config.
        use_torchrun (bool): Whether to start it by torchrun, one process.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        options: Sequence[str] = (),
        settings: Sequence[str] = (),
        use_torchrun: bool = False,
    ) -> None:
        self.work_dir, self.log = folder / name, folder / f'{name}.log'
        self.use_torchrun = use_torchrun
        command = [sys.executable]
        if use_torchrun:
            command += ['-m', 'torch.distributed.run', '--standalone']
            options = [*options, '--launcher', 'pytorch']
        command += [str(ROOT / 'tools/train.py'), str(ROOT / CONFIG)]
        command += ['--work-dir', str(self.work_dir), *options]
        data = [
            f'{split}_dataloader.dataset.data_root={folder}/data'
            for split in ('train', 'val', 'test')
        ]
        command += ['--cfg-options', *data, *SETTINGS, *settings]
        with open(self.log, 'ab') as log:
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                cwd=folder,
                start_new_session=True,
                env=dict(os.environ, CUBLAS_WORKSPACE_CONFIG=':4096:8'),
            )

    def checkpoint(self, epoch: int = EPOCHS) -> Path:
        return self.work_dir / f'epoch_{epoch}.pth'

    def succeeds(self, deadline: float) -> bool:
        """Wait for the end; return whether the last checkpoint exists."""
        try:
            code = self.process.wait(max(deadline - time.time(), 1))
        except subprocess.TimeoutExpired:
            return False
        return not code and self.checkpoint().is_file()

    def kill(self) -> None:
        """Kill all processes of the run."""
        if self.process.poll() is None and self.use_torchrun:
            # torchrun ends its workers, which have sessions of their own.
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def kill_after(self, epoch: int, deadline: float) -> bool:
        """Kill the run after an epoch; return whether this ended it."""
        while time.time() < deadline and self.process.poll() is None:
            if self.checkpoint(epoch).is_file():
                self.kill()
            time.sleep(0.01)
        return self.process.returncode == -signal.SIGKILL


def compare(checkpoint: Path, expected: Path, equal: bool) -> Tuple[str, bool]:
    """Compare the weights of two checkpoints.

    Args:
        checkpoint (Path): A checkpoint.
        expected (Path): Checkpoint of the uninterrupted run.
        equal (bool): Whether the values must be equal, not only the names
            and shapes.

    Returns:
        tuple: A description, and whether the weights are as expected.
    """
    if not expected.is_file():
        return 'not compared: the uninterrupted run has no checkpoint', False
    a, b = (
        torch.load(x, 'cpu', weights_only=False)['state_dict']
        for x in (checkpoint, expected)
    )
    if {k: x.shape for k, x in a.items()} != {
        k: x.shape for k, x in b.items()
    }:
        return f'different names: {sorted(a.keys() ^ b.keys())[:4]}', False
    if not equal:
        is_finite = all(x.isfinite().all().item() for x in a.values())
        return 'same names and shapes, finite weights', is_finite
    if all(torch.equal(a[k], b[k]) for k in a):
        return 'weights equal in every bit', True
    largest = max((a[k] - b[k]).abs().max().item() for k in a)
    return f'largest difference {largest:.1e}', False


def train_classifier(
    report: Report, device: torch.device, deadline: float
) -> None:
    """Train uninterrupted, killed and resumed, by DDP and by FSDP."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw_images(folder / 'data', 64 if device.type == 'cuda' else 16)
        deadline -= 5  # reserved for the comparisons
        start, amp = partial(Training, folder), ['--amp']
        uninterrupted = start('uninterrupted', amp)
        killed = start('killed', amp)
        trainings: Dict[str, Training] = {
            'uninterrupted, tools/train.py --amp': uninterrupted,
            'DDP, torchrun': start('ddp', amp, use_torchrun=True),
        }
        if device.type == 'cuda':
            trainings['FSDP'] = start('fsdp', settings=FSDP, use_torchrun=True)
        started = [killed, *trainings.values()]
        try:
            was_killed = killed.kill_after(KILL_EPOCH, deadline)
            killed.kill()  # it may still run at the deadline
            resumed = start('killed', [*amp, '--resume'])
            started.append(resumed)
            trainings[f'SIGKILL after epoch {KILL_EPOCH}, --resume'] = resumed
            for title, training in trainings.items():
                if not training.succeeds(deadline):
                    log = training.log.read_text(errors='replace')
                    report.add(title, 'see errors.log', status='failed')
                    report.log(title, log[-20000:])
                    continue
                text, passed = f'trained {EPOCHS} epochs', True
                if training is resumed and not was_killed:
                    text, passed = 'the run was not killed', False
                elif training is not uninterrupted:
                    text, passed = compare(
                        training.checkpoint(),
                        uninterrupted.checkpoint(),
                        # FSDP trains in float32, the others with AMP.
                        equal=title != 'FSDP',
                    )
                status = 'ok' if passed else 'failed'
                report.add(title, text, status=status)
        finally:
            for training in started:
                training.kill()


def parts(report: Report, device: torch.device, deadline: float) -> List[Part]:
    """Return the only part of this group."""
    part = partial(train_classifier, report, device, deadline)
    # The part has no limit but the deadline.
    return [('runs', math.inf, part)]
