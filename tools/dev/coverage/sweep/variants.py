"""Whether a student trains under a flow, predicts, and comes home.

As FM-KT^Theta and as FM-KT a config is trained for an iteration, evaluated
and exported, and the export must predict under the library's own tools what
it did under the distiller. Theta's must also be trained on where mmfmkt
cannot be imported.
"""

import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Dict, List

import torch
from mmengine.config import Config
from mmengine.evaluator import DumpResults
from torch.testing import assert_close

from mmfmkt.utils import ConfigError

from .equivalence import at_any_tap, distilled, run
from .errors import PLAIN_DONE, CannotRunError, one_line
from .families import home_of
from .recipes import tiny

VARIANTS = ('theta', 'fmkt')
BLOCKED = Path(__file__).with_name('without_mmfmkt.py')


def check_variants(cfg: Config, size: int, folder: Path) -> dict:
    """Take a config through both variants.

    Args:
        cfg (Config): A library's config.
        size (int): Longest side of the pictures in pixels.
        folder (Path): Folder for data, logs and checkpoints.

    Returns:
        dict: ``status``, ``reason``, and the status of each variant.

    Raises:
        CannotRunError: If the config does not train and test by itself.
    """
    try:
        cfg = tiny(cfg, size, folder, epochs=1)
        plain = run(cfg, 'plain')
        plain.test()
    except Exception as error:
        raise CannotRunError from error
    print(PLAIN_DONE, flush=True)
    shapes = {x: t.shape for x, t in plain.model.state_dict().items()}
    # What a plain run has saved is in the way of those that follow.
    del plain
    found = dict(status='passed', reason='')
    for variant in VARIANTS:
        try:
            _, note = at_any_tap(
                cfg,
                partial(check_variant, cfg, variant, shapes, folder / variant),
            )
            found[variant] = 'passed'
            found['reason'] = found['reason'] or note
        except ConfigError as error:
            found[variant] = 'refused'
            found.update(status='refused', reason=str(error))
        except Exception as error:
            found[variant] = 'failed'
            found.update(
                status='failed', reason=f'{variant}: {one_line(error)}'
            )
    return found


def check_variant(
    cfg: Config,
    variant: str,
    shapes: Dict[str, torch.Size],
    folder: Path,
    tap: str,
) -> None:
    """Train, predict, export, and do both with the export.

    Args:
        cfg (Config): The small config of plain training.
        variant (str): The distiller's variant.
        shapes (dict[str, Size]): Of all tensors that plain training has.
        folder (Path): Folder for what is written.
        tap (str): A classifier's tap.

    Raises:
        Exception: Whatever goes wrong.
    """
    library = cfg.default_scope
    wrapped = distilled(cfg, variant, tap)
    wrapped.model.flow.update(num_steps=2, inference_steps=2)
    wrapped.work_dir = str(folder)
    runner = run(wrapped, f'{variant} at {tap}')
    predictions = [folder / 'ours.pkl', folder / 'theirs.pkl']
    runner.test_evaluator.metrics.append(
        metric_that_dumps(library)(out_file_path=str(predictions[0]))
    )
    runner.test()
    config, checkpoint = (
        folder / f'student/student.{x}' for x in ('py', 'pth')
    )
    tools = home_of(library) / 'tools'
    test = [
        tools / 'test.py',
        config,
        checkpoint,
        '--out',
        predictions[1],
        '--work-dir',
        folder / 'test',
    ]
    if variant == 'theta':
        check_names(checkpoint, shapes)
        train = [
            tools / 'train.py',
            config,
            '--work-dir',
            folder / 'train',
            '--cfg-options',
            f'load_from={checkpoint}',
        ]
        run_script([BLOCKED, *test, '--', *train])
    else:
        run_script(test)
    ours, theirs = (pickle.loads(x.read_bytes()) for x in predictions)
    assert_close(comparable(ours), comparable(theirs), equal_nan=True)


def metric_that_dumps(library: str) -> type:
    """The metric that a library's own test.py writes predictions with."""
    if library == 'mmpretrain':
        return DumpResults
    from mmdet.evaluation import DumpDetResults

    return DumpDetResults


def check_names(checkpoint: Path, shapes: Dict[str, torch.Size]) -> None:
    """Insist on an export that has what plain training has, and no more.

    Raises:
        KeyError: If a tensor is missing, of another shape, or too many.
    """
    state = torch.load(checkpoint, weights_only=False)['state_dict']
    for name in {**shapes, **state}:
        if name not in state or state[name].shape != shapes.get(name):
            raise KeyError(
                f'{name} is not in the export as it is in plain training'
            )


def run_script(command: List) -> None:
    """Run a Python script.

    Raises:
        ChildProcessError: If it fails; with the last line that it wrote.
    """
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors='replace',
    )
    if done.returncode:
        print(done.stdout)
        raise ChildProcessError(
            (done.stdout.strip().splitlines() or ['ended'])[-1]
        )


def comparable(part: object) -> object:
    """Predictions without what cannot be compared, such as strings."""
    if isinstance(part, dict):
        return {
            x: comparable(value)
            for x, value in part.items()
            if isinstance(value, (dict, list, tuple, torch.Tensor, float))
        }
    if isinstance(part, (list, tuple)):
        return [comparable(x) for x in part]
    return part
