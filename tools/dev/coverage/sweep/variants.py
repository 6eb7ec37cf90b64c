"""Check of both main variants: training, prediction and export.

A config is distilled by FM-KT^Theta and by FM-KT for one iteration, evaluated
and exported. With the library's tools, the export must predict the same as the
distiller. The export of FM-KT^Theta must also train with these tools, without
mmfmkt.
"""

import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any, Dict, List

import torch
from mmengine.config import Config
from mmengine.evaluator import DumpResults
from torch.testing import assert_close

from mmfmkt.apis.choose_flow import choose_flow
from mmfmkt.apis.choose_taps import preset_of
from mmfmkt.utils import ConfigError

from .equivalence import at_any_tap, distilled, run
from .errors import BASELINE_DONE, CannotRunError, one_line
from .families import package_folder
from .recipes import tiny

VARIANTS = ('theta', 'fmkt')
WITHOUT_MMFMKT = Path(__file__).with_name('without_mmfmkt.py')


def check_variants(cfg: Config, size: int, folder: Path) -> dict:
    """Check both variants of a config.

    Args:
        cfg (Config): Config from MMDetection or MMPretrain.
        size (int): Longest side of the images in pixels.
        folder (Path): Folder for data, logs and checkpoints.

    Returns:
        dict: ``status``, ``reason``, and the status of each variant.

    Raises:
        CannotRunError: If the config does not run without a distiller.
    """
    try:
        cfg = tiny(cfg, size, folder, epochs=1)
        baseline = run(cfg, 'baseline')
        baseline.test()
    except Exception as error:
        raise CannotRunError from error
    print(BASELINE_DONE, flush=True)
    shapes = {x: t.shape for x, t in baseline.model.state_dict().items()}
    del baseline  # frees its memory
    result = dict(status='passed', reason='')
    for variant in VARIANTS:
        try:
            check = partial(
                check_variant, cfg, variant, shapes, folder / variant
            )
            _, note = at_any_tap(cfg, check)
            result[variant] = 'passed'
            result['reason'] = result['reason'] or note
        except ConfigError as error:
            result[variant] = 'refused'
            if result['status'] != 'failed':
                result.update(status='refused', reason=str(error))
        except Exception as error:
            result[variant] = 'failed'
            reason = f'{variant}: {one_line(error)}'
            result.update(status='failed', reason=reason)
    return result


def check_variant(
    cfg: Config,
    variant: str,
    shapes: Dict[str, torch.Size],
    folder: Path,
    tap: str,
) -> None:
    """Train, predict and export; then test and train the export.

    Args:
        cfg (Config): Small config without a distiller.
        variant (str): Variant of the distiller.
        shapes (dict[str, Size]): Shapes of the network's tensors by name.
        folder (Path): Folder for outputs.
        tap (str): Tap, as in `distilled`.

    Raises:
        Exception: If a step fails, or predictions differ.
    """
    library = cfg.default_scope
    distillation = distilled(cfg, variant, tap)
    flow: Dict[str, Any] = {}
    if tap == 'head':
        choose_flow(cfg, preset_of('fmkt', tap), variant, flow)
    flow.update(num_steps=2, inference_steps=2)
    distillation.model.flow.update(flow)
    distillation.work_dir = str(folder)
    runner = run(distillation, f'{variant} at {tap}')
    predictions = [folder / 'distiller.pkl', folder / 'export.pkl']
    runner.test_evaluator.metrics.append(
        dump_metric(library)(out_file_path=str(predictions[0]))
    )
    runner.test()
    config, checkpoint = (
        folder / f'student/student.{x}' for x in ('py', 'pth')
    )
    tools = package_folder(library) / 'tools'
    test = [tools / 'test.py', config, checkpoint, '--out', predictions[1]]
    test += ['--work-dir', folder / 'test']
    if variant == 'theta':
        check_tensors(checkpoint, shapes)
        train = [tools / 'train.py', config, '--work-dir', folder / 'train']
        train += ['--cfg-options', f'load_from={checkpoint}']
        run_script([WITHOUT_MMFMKT, *test, '--', *train])
    else:
        run_script(test)
    expected, exported = (pickle.loads(x.read_bytes()) for x in predictions)
    assert_close(comparable(expected), comparable(exported), equal_nan=True)


def dump_metric(library: str) -> type:
    """Return the metric by which a library's test.py dumps predictions."""
    if library == 'mmpretrain':
        return DumpResults
    from mmdet.evaluation import DumpDetResults

    return DumpDetResults


def check_tensors(checkpoint: Path, shapes: Dict[str, torch.Size]) -> None:
    """Check that an export has exactly the tensors of the network.

    Raises:
        KeyError: If a tensor is missing, unexpected, or of another shape.
    """
    state = torch.load(checkpoint, weights_only=False)['state_dict']
    for name in {**shapes, **state}:
        if name not in state or state[name].shape != shapes.get(name):
            raise KeyError(f'{name} differs between export and network')


def run_script(command: List) -> None:
    """Run a Python script.

    Raises:
        ChildProcessError: If the script fails, with its last line of output.
    """
    completed = subprocess.run(
        [sys.executable, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors='replace',
    )
    if completed.returncode:
        print(completed.stdout)
        last_line = completed.stdout.strip().rpartition('\n')[2]
        raise ChildProcessError(last_line or 'no output')


def comparable(part: object) -> object:
    """Return predictions without other values than tensors and numbers."""
    if isinstance(part, dict):
        return {
            x: comparable(value)
            for x, value in part.items()
            if isinstance(value, (dict, list, tuple, torch.Tensor, float))
        }
    if isinstance(part, (list, tuple)):
        return [comparable(x) for x in part]
    return part
