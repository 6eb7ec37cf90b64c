"""Six short trainings by ``tools/train.py``, and the files that they write.

A training logs twenty iterations; its checkpoint is tested and exported. Two
of the six are also interrupted by SIGTERM and resumed. Each tool runs in a
fork of a process that has imported the libraries, but not mmfmkt.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import adapter
import mmdet.apis  # noqa: F401 (loaded once for all tools)
import mmdet.utils
import mmpretrain.apis  # noqa: F401
import mmpretrain.utils
import numpy as np
import torch
import torch._dynamo  # noqa: F401
from digests import checkpoint_hashes, to_hex
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, MODELS, init_default_scope
from run_configs import (
    ITERATIONS,
    classification_data,
    classifier,
    detection_data,
    detector,
    draw_data,
    hooks_of,
    model_of,
    optimization,
)
from tool_runs import Code, in_child

mmdet.utils.register_all_modules(init_default_scope=False)
mmpretrain.utils.register_all_modules(init_default_scope=False)

INTERRUPTED_AT = 7
RUNS = (
    'detection_fmkt',
    'detection_theta',
    'detection_direct',
    'classification_fmkt',
    'classification_theta',
    'classification_online',
)
# Results of the version that wrote the files, in the same folder.
RESULTS_FILE = 'made.json'
INTERRUPTED = ('detection_fmkt', 'classification_fmkt')


@HOOKS.register_module()
class BaselineInterruptHook(Hook):
    """Hook that sends SIGTERM to its process during the training."""

    def before_train_iter(self, runner: Any, *args: Any, **kwargs) -> None:
        if runner.iter == INTERRUPTED_AT:
            os.kill(os.getpid(), signal.SIGTERM)


def write_networks(folder: Path) -> None:
    """Write configs of all networks, and the weights of the teachers."""
    for kind, scope, make, sizes in (
        ('detection', 'mmdet', detector, (8, 12)),
        ('classification', 'mmpretrain', classifier, (4, 8)),
    ):
        init_default_scope(scope)
        for role, size in zip(('student', 'teacher'), sizes):
            model = make(size)
            config = Config(dict(default_scope=scope, model=model))
            config.dump(folder / f'{kind}_{role}.py')
            if role == 'teacher':
                torch.manual_seed(7)
                network = MODELS.build(model)
                network.init_weights()
                torch.save(
                    dict(meta={}, state_dict=network.state_dict()),
                    folder / f'{kind}_{role}.pth',
                )


def write_configs(folder: Path) -> None:
    """Write data, networks and the configs of all runs."""
    data = folder / 'data'
    draw_data(data)
    in_child(lambda: write_networks(folder))
    for name in RUNS:
        (folder / name).mkdir()
        sections = (
            detection_data(data)
            if name.startswith('detection')
            else classification_data(data)
        )
        config = dict(
            **sections,
            **optimization(),
            model=adapter.translate(model_of(name, folder)),
            custom_hooks=adapter.translate(hooks_of(name)),
        )
        Config(config).dump(folder / name / 'config.py')
        if name in INTERRUPTED:
            hook = dict(type='BaselineInterruptHook')
            config['custom_hooks'] = [*config['custom_hooks'], hook]
            Config(config).dump(folder / name / 'interrupted_config.py')


def exported_predictions(name: str, student: Path) -> Dict[str, Any]:
    """Predict on a fixed image with an export and the library's own API."""
    config, checkpoint = map(student.with_suffix, ('.py', '.pth'))
    size = (64, 96, 3) if name.startswith('detection') else (32, 32, 3)
    image = np.random.RandomState(1).randint(0, 256, size, dtype=np.uint8)

    def predict() -> Dict[str, Any]:
        if name.startswith('detection'):
            from mmdet.apis import inference_detector, init_detector

            model = init_detector(str(config), str(checkpoint), device='cpu')
            found = inference_detector(model, image).pred_instances
            values = {
                key: found[key].flatten().tolist()
                for key in ('bboxes', 'scores', 'labels')
            }
        else:
            from mmpretrain.apis import ImageClassificationInferencer

            infer = ImageClassificationInferencer(
                str(config), pretrained=str(checkpoint), device='cpu'
            )
            (found,) = infer(image)
            values = dict(pred_scores=found['pred_scores'].tolist())
        return dict(
            needs_mmfmkt='mmfmkt' in sys.modules,
            values={k: [to_hex(x) for x in v] for k, v in values.items()},
        )

    return in_child(predict)


def logged(work_dir: Path) -> List[Dict[str, str]]:
    """Return all logged values of a run except times, as hex."""
    (path,) = work_dir.glob('*/vis_data/scalars.json')
    rows = []
    for line in path.read_text().splitlines():
        rows.append(
            {
                adapter.recorded_name(key): to_hex(value)
                for key, value in sorted(json.loads(line).items())
                if 'time' not in key and key != 'memory'
            }
        )
    return rows


def last_checkpoint(work_dir: Path) -> Path:
    """Return the last checkpoint of a run."""
    names = f'iter_{ITERATIONS}.pth', f'epoch_{ITERATIONS // 5}.pth'
    (path,) = [work_dir / x for x in names if (work_dir / x).exists()]
    return path


def selected_runs(word: str) -> Iterator[str]:
    """Yield the runs with a word in their names."""
    return (name for name in RUNS if word in name)


def make(root: Path, folder: Path, word: str) -> Dict[str, Any]:
    """Run all trainings, and keep the files.

    Args:
        root (Path): The code under test.
        folder (Path): Folder for the files, which is created.
        word (str): Word in the names of the runs.

    Returns:
        dict: Logs, hashes of tensors and predictions, by run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_configs(folder)
    code = Code(root, folder)
    found = {
        name: or_error(make_run, code, name) for name in selected_runs(word)
    }
    (folder / RESULTS_FILE).write_text(json.dumps(found))
    return found


def make_run(code: Code, name: str) -> Dict[str, Any]:
    """Train, test and export; interrupt and resume runs of ``INTERRUPTED``."""
    here = code.home / name
    config, exported = here / 'config.py', here / 'export'
    work_dir = code.train(config, here / 'run')
    checkpoint = last_checkpoint(work_dir)
    code.export(config, checkpoint, exported)
    student = exported / adapter.names().exported
    found = dict(
        logged=logged(work_dir),
        checkpoint=hashes(checkpoint),
        predictions=code.predictions(config, checkpoint),
        export=hashes(student.with_suffix('.pth')),
        exported_predictions=exported_predictions(name, student),
    )
    if name in INTERRUPTED:
        stopped = code.train(
            here / 'interrupted_config.py',
            here / 'interrupted',
            expected=128 + signal.SIGTERM,
        )
        path = stopped / adapter.names().interrupted
        found['interrupted'] = hashes(path)
        found.update(resumed(code, config, path, here / 'resumed'))
    return found


def resumed(
    code: Code, config: Path, interrupted: Path, work_dir: Path
) -> Dict[str, Any]:
    """Resume a run; return its logged values and last checkpoint."""
    code.train(config, work_dir, '--resume', interrupted)
    return dict(
        resumed_logged=logged(work_dir),
        resumed=hashes(last_checkpoint(work_dir)),
    )


def hashes(checkpoint: Path) -> Dict[str, str]:
    """Return the hashes of a checkpoint's tensors."""
    return in_child(lambda: checkpoint_hashes(checkpoint))


def read(root: Path, files: Path, home: Path, word: str) -> Dict[str, Any]:
    """Load files of commit 6e8e919, and resume from them.

    Configs of trainings are read in the names of the code under test, those
    of exports as they are.

    Args:
        root (Path): The code under test.
        files (Path): Folder that ``make`` has written.
        home (Path): Folder for new files, which is created.
        word (str): Word in the names of the runs.

    Returns:
        dict: A part of the entries that ``make`` returns.
    """
    home.mkdir(parents=True, exist_ok=True)
    code = Code(root, home)
    return {
        name: or_error(read_run, code, files / name, name)
        for name in selected_runs(word)
    }


def read_run(code: Code, files: Path, name: str) -> Dict[str, Any]:
    """Test a checkpoint and an export, and resume an interrupted run."""
    config = code.home / f'{name}.py'
    written = Config.fromfile(files / 'config.py').to_dict()
    Config(adapter.translate(written)).dump(config)
    found = dict(
        predictions=code.predictions(config, last_checkpoint(files / 'run')),
        exported_predictions=exported_predictions(
            name, files / 'export' / adapter.RECORDED.exported
        ),
    )
    if name in INTERRUPTED:
        path = files / 'interrupted' / adapter.RECORDED.interrupted
        found.update(resumed(code, config, path, code.home / name))
    return found


def or_error(function: Callable[..., dict], *args: Any) -> Dict[str, Any]:
    """Return the result of a function, or its error."""
    try:
        return function(*args)
    except RuntimeError as error:
        return dict(error=str(error))
