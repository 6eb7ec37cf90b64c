"""A classifier by tools/train.py: killed and resumed, DDP, FSDP."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import List, Sequence

import torch
from report import Part, Report

ROOT = Path(__file__).resolve().parents[4]
CONFIG = 'configs/mmpretrain/cifar10_folder/fmkt_resnet20_resnet8.py'
CLASSES, EPOCHS = 10, 10
FSDP = [
    'runner_type=FlexibleRunner',
    'strategy.type=FSDPStrategy',
    'strategy.state_dict_cfg=full',
]


def draw_images(folder: Path, number: int) -> None:
    """Draw images of noise around a color of each class."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for split in ('train', 'test'):
        for label in range(CLASSES):
            place = folder / split / f'class{label}'
            place.mkdir(parents=True)
            color = rng.integers(64, 192, 3)
            for i in range(number):
                noise = rng.normal(color, 32, (32, 32, 3)).clip(0, 255)
                Image.fromarray(noise.astype('uint8')).save(place / f'{i}.png')


class Training:
    """A run of tools/train.py in a process of its own."""

    def __init__(
        self,
        folder: Path,
        name: str,
        options: Sequence[str] = (),
        settings: Sequence[str] = (),
        launch: bool = False,
    ) -> None:
        self.work_dir, self.log = folder / name, folder / f'{name}.log'
        launcher = ['-m', 'torch.distributed.run', '--standalone']
        data = [
            f'{split}_dataloader.dataset.data_root={folder}/data'
            for split in ('train', 'val', 'test')
        ]
        command = [
            *(sys.executable, *(launcher if launch else [])),
            *(str(ROOT / 'tools/train.py'), str(ROOT / CONFIG)),
            *('--work-dir', str(self.work_dir), *options),
            *(['--launcher', 'pytorch'] if launch else []),
            *('--cfg-options', *data),
            'model.teacher.checkpoint=None',
            'train_dataloader.batch_size=32',
            f'train_cfg.max_epochs={EPOCHS}',
            f'train_cfg.val_interval={EPOCHS}',
            f'param_scheduler.total_steps={EPOCHS}',
            f'default_hooks.checkpoint.max_keep_ckpts={EPOCHS}',
            'randomness.seed=0',
            'randomness.deterministic=True',
            *settings,
        ]
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

    def succeeds(self, until: float) -> bool:
        """Wait, and return whether it has trained to its end."""
        try:
            code = self.process.wait(max(until - time.time(), 1))
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        return not code and self.checkpoint().is_file()

    def kill(self) -> None:
        """Kill all of its processes by SIGKILL."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def kill_after(self, epoch: int, until: float) -> bool:
        """Kill it after an epoch; return whether it was still running."""
        while time.time() < until and self.process.poll() is None:
            if self.checkpoint(epoch).is_file():
                self.kill()
            time.sleep(0.01)
        return self.process.returncode == -signal.SIGKILL

    def error(self) -> str:
        """Return the line of its log that names the error."""
        lines = self.log.read_text(errors='replace').splitlines()
        # torchrun writes its own lines after the tool's.
        errors = [x for x in lines if x.lower().startswith('error')]
        errors += [x for x in lines if 'Error' in x]
        return [*errors, *lines[-1:], 'no output'][0][:300]


def difference(one: Path, other: Path) -> str:
    """Describe the difference between the weights of two checkpoints."""
    a, b = (
        torch.load(x, 'cpu', weights_only=False)['state_dict']
        for x in (one, other)
    )
    if a.keys() != b.keys():
        return f'of other names: {sorted(a.keys() ^ b.keys())[:4]}'
    if all(torch.equal(a[k], b[k]) for k in a):
        return 'equal in every bit'
    return f'{max((a[k] - b[k]).abs().max().item() for k in a):.1e} apart'


def train_classifier(
    report: Report, device: torch.device, until: float
) -> None:
    """Train undisturbed, killed and resumed, under DDP and under FSDP."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw_images(folder / 'data', 64 if device.type == 'cuda' else 16)
        # The rest is left for the comparisons.
        until -= 5
        run, amp = partial(Training, folder), ['--amp']
        whole, killed = run('whole', amp), run('killed', amp)
        others = {
            'DDP, torchrun': run('ddp', amp, launch=True),
            'FSDP': run('fsdp', settings=FSDP, launch=True),
        }
        started: List[Training] = [whole, killed, *others.values()]
        try:
            hit = killed.kill_after(EPOCHS // 2, until)
            resumed = run('killed', [*amp, '--resume'])
            started.append(resumed)
            title = 'classifier, tools/train.py --amp, SIGKILL and --resume'
            if whole.succeeds(until):
                others = {title: resumed, **others}
            else:
                others = {title: whole}
            for title, training in others.items():
                if not training.succeeds(until):
                    text = f'NOT trained: {training.error()}'
                    report.add(title, text, status='failed')
                    report.log(title, training.log.read_text()[-20000:])
                    continue
                text = f'trained {EPOCHS} epochs'
                if training is resumed:
                    when = 'killed' if hit else 'NOT killed: it had ended'
                    text += f', {when} after epoch {EPOCHS // 2}'
                apart = difference(whole.checkpoint(), training.checkpoint())
                text += f'; weights against a plain run: {apart}'
                report.add(title, text, status='ok')
        finally:
            for training in started:
                training.kill()


def parts(report: Report, device: torch.device, until: float) -> List[Part]:
    part = partial(train_classifier, report, device, until)
    return [('runs', until, part)]
