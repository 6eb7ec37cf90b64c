"""Gives bad input to every tool and writes down how they answer.

    python tools/analysis/bad_inputs.py [--out FILE.md] [--only WORD]
    python tools/analysis/bad_inputs.py --mutations 200 --seed 0

Every case runs a tool as a user would, on a small data set that is drawn for
it, with one thing wrong. A good answer is one sentence, an exit code other
than 0, within 30 seconds, and nothing trained. With ``--mutations`` one value
of a shipped config, of any key, is another at random instead: it trains, or
gets a good answer.
"""

import argparse
import io
import json
import os
import pickle
import random
import re
import runpy
import signal
import sys
import textwrap
import time
import traceback
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Tuple

import cv2
import numpy as np
import torch
from mmengine.config import Config
from rich.progress import track

from mmfmkt.apis.command_line import add_debug, parser_of, plain_errors
from mmfmkt.datasets import make_shapes
from mmfmkt.utils.files import write_whole

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 30
NAN = float('nan')


class Case(NamedTuple):
    """One bad input.

    Attributes:
        group (str): What kind of input it is.
        what (str): What is wrong.
        command (list[str]): The tool, and what it is given; ``{base}`` is
            the good config, ``{config}`` the case's own, ``{folder}`` its
            folder and ``{good}`` a good checkpoint.
        lines (str): What the case's config adds to the good one.
        prepare (Callable, optional): Puts files into the folder.
    """

    group: str
    what: str
    command: List[str]
    lines: str = ''
    prepare: Any = None


TRAIN = ['train.py', '{config}']


def settings() -> Iterator[Case]:
    """Values of a config."""
    flow = {
        'loss_weight': [NAN, float('inf'), -1, '10', None, [1, 2], [], {}],
        'direct_weight': [-2, NAN, 'much', None],
        'ensemble_weight': [-1, NAN, '1', None, 0.5],
        'num_steps': [0, -1, 2.5, '4', None, [], [1, 0], {}],
        'inference_steps': [0, -3, 1.5, '4', None, [4]],
        'dirac_ratio': [-0.1, 1.1, NAN, 'half', None],
        'compare': ['target', 3, None],
        'prediction': ['speed', 1, None],
        'encoder': [
            'ConvEncoder',
            None,
            3,
            [],
            {},
            dict(type='ConvEncodr'),
            dict(type='ConvEncoder', channels=7),
            dict(type='ConvEncoder', width=3),
            dict(type='BottleneckEncoder', width=0),
            dict(type='BottleneckEncoder', width='2'),
            dict(type='BottleneckEncoder', kernel_size=2),
            dict(type='TransformerEncoder', num_heads=0),
            dict(type='MLPEncoder', num_blocks=-1),
        ],
        'schedule': [
            'RectifiedFlow',
            None,
            dict(type='Straight'),
            dict(type='VPODE', a=-1),
            dict(type='VPODE', a='x'),
            dict(type='VEODE', sigma_min=2.0, sigma_max=1.0),
        ],
        'metric': [
            'PKDLoss',
            None,
            dict(type='PKD'),
            dict(type='CWDLoss', temperature=0),
            dict(type='CWDLoss', temperature=-1),
            dict(type='CWDLoss', temperature=NAN),
            dict(type='CWDLoss', temperatur=1),
            dict(type='KDLoss'),
            dict(type='PKDLoss', eps=None),
            dict(type='CrossKDLoss', score_weight=-1),
            dict(type='CrossKDLoss', features='PKDLoss'),
            dict(type='CrossKDLoss', features=dict(type='KDLoss')),
        ],
        'with_cp': ['yes', 1, None],
        'share_encoder': ['no', None],
        'compile': [3, 'fast'],
        'stepps': [3],
    }
    model = {
        'variant': ['fmk', None, 3, 'Theta'],
        'tap': ['nek', None, 3, '', 'neck.fpn_convs[9]'],
        'levels': [[9], [-1], [], 'all', [0, 0], 3, [0.5]],
        'taps': [[], 'neck', [dict(levels=[0])], [dict(tap='nek')], [3]],
        'student': [None, 3, 'no/such.py', 'mmdet::no/such.py', {}, []],
        'teacher': [3, 'teacher.py', {}, dict(config=None), None],
        'flow': [3, 'fast', [1]],
        'colour': ['red'],
        'type': ['DetectionDistiler', None, 3],
    }
    teacher = {
        'config': ['no.py', 3, None, {}],
        'checkpoint': [3, 'no.pth', 'http://localhost:9/no.pth', '{folder}'],
        'cfg_options': [3, {'backbone.depth': 19}, {'no.such': 1}],
        'inherit': ['bbox_head', ['bbox_hed'], 3],
        'dtype': ['float64', 'half', 3],
        'tap': ['nek', 3],
        'weights': ['x.pth'],
    }
    student = {
        'backbone.depth': [19, None, '18', -1],
        'backbone.type': ['ResNett', None],
        'backbone.norm_cfg': [dict(type='BNN'), 'BN'],
        'backbone.out_indices': [[7]],
        'neck.in_channels': [[1, 2, 3, 4], 16, None, [16, 32]],
        'neck.out_channels': [7, 0, None],
        'neck.num_outs': [1, 0, None],
        'bbox_head.num_classes': [2, 0, -1, None, 'six'],
        'bbox_head.in_channels': [7, None],
        'bbox_head.anchor_generator': [None, dict(type='AnchorGen')],
        'bbox_head.loss_cls': [None, dict(type='FocalLos')],
        'bbox_head.type': ['RetinaHed'],
        'type': ['RetinaNett', None],
        'test_cfg.nms': [dict(type='nmss')],
        'data_preprocessor.mean': [[1, 2], 'grey'],
        'data_preprocessor.type': ['DetDataPreproc'],
        'colour': ['red'],
    }
    run = {
        'train_dataloader.batch_size': [0, -1, None, '2', 1.5],
        'train_dataloader.num_workers': [-1, '2', None],
        'train_dataloader.batch_siz': [2],
        'train_dataloader.sampler': [dict(type='DefaultSamplr'), None],
        'train_dataloader.batch_sampler': [dict(type='Aspect')],
        'train_dataloader.dataset.type': ['CocoDatast', None],
        'train_dataloader.dataset.pipeline': [
            [],
            [dict(type='LoadImage')],
            [dict(type='LoadImageFromFile'), dict(type='Resize')],
        ],
        'train_dataloader.dataset.filter_cfg': [dict(min_size=10**6)],
        'train_dataloader.dataset.indices': [0],
        'val_dataloader.dataset.pipeline': [[dict(type='LoadImag')]],
        'val_evaluator': [dict(type='CocoMetri'), None, 3],
        'val_evaluator.metric': ['boxes', 3],
        'val_evaluator.ann_file': ['no.json'],
        'optim_wrapper.optimizer': [
            None,
            dict(type='AdamV', lr=1e-3),
            dict(type='AdamW', lr='fast'),
            dict(type='AdamW', lr=-1),
            dict(type='AdamW', lr=None),
            dict(type='AdamW', lr=1e-3, betas=3),
            dict(type='AdamW', lr=1e-3, betas=[2, 3]),
            dict(type='AdamW', lr=1e-3, weight=1),
        ],
        'optim_wrapper.clip_grad': [3, dict(max_nrm=1), dict(max_norm='a')],
        'optim_wrapper.type': ['OptimWrap'],
        'optim_wrapper.paramwise_cfg': [3, dict(custom_keys=3)],
        'optim_wrapper.accumulative_counts': [0, 'two'],
        'param_scheduler': [
            3,
            dict(type='Cosine'),
            dict(type='MultiStepLR'),
            dict(type='LinearLR', start_factor=-1),
        ],
        'train_cfg': [
            dict(type='EpochLoop'),
            dict(by_epoch=True),
            dict(by_epoch=True, max_epochs='two'),
            dict(by_epoch=True, max_epochs=1.5),
            dict(by_epoch=True, max_epochs=2, val_interval=0),
        ],
        'default_hooks.checkpoint': [
            dict(type='CheckpointHok'),
            dict(type='CheckpointHook', interval='one'),
            dict(type='CheckpointHook', save_best=3),
            dict(type='CheckpointHook', keep=1),
        ],
        'custom_hooks': [
            3,
            [dict(type='EMAHok')],
            [dict(type='EMAHook', momentum=2)],
            [dict(type='mmfmkt.TransferWeightHook', begin=-1)],
            [dict(type='mmfmkt.TransferWeightHook', end='late')],
            [dict(type='mmfmkt.StepCountWarmupHook', warmup=0)],
            [dict(type='mmfmkt.StepCountWarmupHook', warmup='x')],
            [dict(type='mmfmkt.FlowEMAHook', momentum=-1)],
        ],
        'custom_imports': [dict(imports=['no_such_module'])],
        'randomness': [dict(seed='x'), 3],
        'env_cfg': [3],
        'default_scope': ['mmdett', 3],
        'visualizer': [dict(type='Visual')],
    }
    for front, values in (
        ('model.flow.', flow),
        ('model.', model),
        ('model.teacher.', teacher),
        ('model.student.', student),
        ('', run),
    ):
        for key, wrong in values.items():
            for value in wrong:
                yield Case(
                    'setting',
                    f'{front}{key} = {value!r}',
                    TRAIN,
                    f'change({front + key!r}, {value!r})\n',
                )


def configs() -> Iterator[Case]:
    """Config files."""
    for what, text in {
        'empty': '',
        'without a model': 'train_cfg = dict(by_epoch=True, max_epochs=1)',
        'with a model that is a string': "model = 'mmdet::retinanet'",
        'with a mistake in its syntax': 'model = dict(',
        'that divides by zero': 'x = 1 / 0',
        'that names what is not defined': 'model = undefined',
        'with a base that is not there': "_base_ = './no.py'",
        'with a base of a package that is not there': "_base_ = 'no::x/y.py'",
        'that is binary': '\0\1\2',
        'that is JSON of a list': '[1, 2]',
    }.items():

        def prepare(folder: Path, text: str = text) -> None:
            (folder / 'own.py').write_text(text)

        for tool in ('train.py', 'test.py', 'export_student.py'):
            more = [] if tool == 'train.py' else ['{good}']
            yield Case(
                'config',
                f'{tool}: a config {what}',
                [tool, '{folder}/own.py', *more],
                prepare=prepare,
            )
    for tool in ('train.py', 'test.py', 'export_student.py'):
        more = [] if tool == 'train.py' else ['{good}']
        for what, path in {
            'that is not there': '{folder}/no.py',
            'that is a folder': '{folder}',
            'that is a checkpoint': '{good}',
        }.items():
            yield Case(
                'config', f'{tool}: a config {what}', [tool, path, *more]
            )


def checkpoints() -> Iterator[Case]:
    """Checkpoint files, at every door."""

    def saved(content: Any) -> Callable[[Path], None]:
        return lambda folder: torch.save(content, folder / 'own.pth')

    def written(data: bytes) -> Callable[[Path], None]:
        return lambda folder: (folder / 'own.pth').write_bytes(data)

    buffer = io.BytesIO()
    torch.save(dict(meta={}, state_dict=dict(x=torch.zeros(99))), buffer)
    whole = buffer.getvalue()
    kinds = {
        'empty': written(b''),
        'of text': written(b'no checkpoint'),
        'cut in half': written(whole[: len(whole) // 2]),
        'of a list': saved([1, 2]),
        'of a number': saved(3),
        'of an empty dict': saved({}),
        'without tensors': saved(dict(meta={}, state_dict={})),
        'whose state_dict is a list': saved(dict(meta={}, state_dict=[1])),
        'of another network': saved(
            dict(meta={}, state_dict={'layer.weight': torch.zeros(2, 2)})
        ),
        'that runs code': written(pickle.dumps(Evil())),
        'that is not there': None,
    }
    doors = {
        'teacher': (TRAIN, 'change("model.teacher.checkpoint", {own})'),
        'load_from': (TRAIN, 'load_from = {own}'),
        '--resume': ([*TRAIN, '--resume', '{folder}/own.pth'], ''),
        'test.py': (['test.py', '{base}', '{folder}/own.pth'], ''),
        'export_student.py': (
            ['export_student.py', '{base}', '{folder}/own.pth'],
            '',
        ),
        'convert_checkpoint.py': (
            [
                'convert_checkpoint.py',
                '{folder}/own.pth',
                '{folder}/new.pth',
                '--model',
                'resnet20',
            ],
            '',
        ),
        'distill.py --dry-run': (
            [
                'distill.py',
                'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py',
                '--teacher',
                'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
                '--teacher-checkpoint',
                '{folder}/own.pth',
                '--dry-run',
                '--work-dir',
                '{folder}/run',
            ],
            '',
        ),
    }
    for door, (command, lines) in doors.items():
        for kind, prepare in kinds.items():
            yield Case(
                'checkpoint',
                f'{door}: a checkpoint {kind}',
                command,
                lines.format(own="'{folder}/own.pth'") if lines else '',
                prepare,
            )


class Evil:
    """What a checkpoint must not do."""

    def __reduce__(self) -> Tuple:
        return os.system, ('touch executed',)


def data_sets() -> Iterator[Case]:
    """Annotation files and pictures."""
    ann = 'annotations/instances_{}.json'

    def changed(split: str, change: Callable) -> Callable[[Path], None]:
        def prepare(folder: Path) -> None:
            copy_data(folder)
            path = folder / 'data' / ann.format(split)
            content = change(json.loads(path.read_text()))
            text = content if isinstance(content, str) else json.dumps(content)
            path.write_text(text)

        return prepare

    def boxes(value: Any) -> Callable[[dict], dict]:
        return lambda x: dict(
            x, annotations=[dict(a, bbox=value) for a in x['annotations']]
        )

    changes = {
        'that is empty': lambda x: '',
        'that is half': lambda x: json.dumps(x)[:500],
        'that is a list': lambda x: [],
        'without images': lambda x: dict(x, images=[]),
        'without a key images': lambda x: {
            k: v for k, v in x.items() if k != 'images'
        },
        'without annotations': lambda x: dict(x, annotations=[]),
        'without categories': lambda x: dict(x, categories=[]),
        'with other categories': lambda x: dict(
            x, categories=[dict(id=1, name='horse')]
        ),
        'whose boxes are NaN': boxes([NAN] * 4),
        'whose boxes are outside': boxes([10**4, 10**4, 5, 5]),
        'whose boxes have no area': boxes([1, 1, 0, 0]),
        'whose boxes are strings': boxes('1 1 2 2'),
        'whose boxes have three numbers': boxes([1, 1, 2]),
        'whose images have no size': lambda x: dict(
            x,
            images=[
                {k: v for k, v in i.items() if k != 'width'}
                for i in x['images']
            ],
        ),
        'whose images are not there': lambda x: dict(
            x, images=[dict(i, file_name='no.png') for i in x['images']]
        ),
        'whose boxes are of no image': lambda x: dict(
            x, annotations=[dict(a, image_id=-1) for a in x['annotations']]
        ),
    }
    lines = 'use_data("{folder}/data")\n'
    for split in ('train', 'val'):
        for what, change in changes.items():
            yield Case(
                'data',
                f'{split} annotations {what}',
                TRAIN,
                lines,
                changed(split, change),
            )

    def picture(data: bytes) -> Callable[[Path], None]:
        def prepare(folder: Path) -> None:
            copy_data(folder)
            path = sorted((folder / 'data' / 'train').iterdir())[5]
            path.unlink()
            if data:
                path.write_bytes(data)

        return prepare

    for what, data in {
        'missing': b'',
        'that is text': b'no picture',
        'that is half': cv2.imencode('.png', np.zeros((64, 64, 3)))[1][
            :40
        ].tobytes(),
    }.items():
        yield Case('data', f'a picture {what}', TRAIN, lines, picture(data))
    for key in ('data_root', 'ann_file'):
        yield Case(
            'data',
            f'{key} that is not there',
            TRAIN,
            f'change("train_dataloader.dataset.{key}", "no/such")\n',
        )
    yield Case(
        'data',
        'an image folder that is not there',
        TRAIN,
        'change("train_dataloader.dataset.data_prefix", dict(img="no/"))\n',
    )


def command_lines() -> Iterator[Case]:
    """Options of all tools."""
    r18 = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'
    r50 = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
    distill = ['distill.py', r18, '--work-dir', '{folder}/run', '--dry-run']
    for command in (
        ['train.py'],
        ['train.py', '{base}', '--no-such-option'],
        ['train.py', '{base}', '--launcher', 'cloud'],
        ['train.py', '{base}', '--auto-scale-lr'],
        ['train.py', '{base}', '--cfg-options', 'model'],
        ['train.py', '{base}', '--cfg-options', 'model.flow.num_steps=abc'],
        ['train.py', '{base}', '--cfg-options', 'model.tap.x.y=1'],
        ['train.py', '{base}', '--work-dir', '{good}'],
        ['train.py', '{base}', '--launcher', 'slurm'],
        ['test.py', '{base}'],
        ['test.py', '{base}', '{good}', '--out', 'predictions.txt'],
        ['test.py', '{base}', '{good}', '--wait-time', 'long'],
        ['test.py', '{base}', '{folder}'],
        ['test.py', '{base}', '{good}', '--cfg-options', K_ZERO],
        ['export_student.py', '{base}'],
        ['export_student.py', '{base}', '{good}', '--out', '{good}'],
        ['export_student.py', PLAIN, '{good}'],
        ['convert_checkpoint.py', '{good}'],
        ['convert_checkpoint.py', '{good}', '{folder}/x.pth', *MODEL, 'net'],
        ['distill.py'],
        distill,
        [*distill, '--teacher', 'no.py'],
        [*distill, '--teacher', r50, '--variant', 'fast'],
        [*distill, '--teacher', r50, '--data-root', 'no/such'],
        [*distill, '--teacher', r50, '--data-root', '{folder}'],
        [*distill, '--teacher', r50, '--teacher-checkpoint', 'no.pth'],
        [*distill, '--teacher', r50, '--cfg-options', 'model.flow.x=1'],
        [
            *distill,
            '--teacher',
            'mmpretrain::resnet/resnet18_8xb16_cifar10.py',
        ],
        [*distill, '--variant', 'online', '--class-maps'],
        ['distill.py', 'no.py', '--teacher', r50, '--dry-run'],
        ['make_shapes.py'],
        ['make_shapes.py', '{folder}/s', '--train', '-1'],
        ['make_shapes.py', '{folder}/s', '--size', '3', '3'],
        ['make_shapes.py', '{folder}/s', '--object-size', '2', '1'],
        ['make_shapes.py', '{good}'],
        ['quick_start.py', '--no-such-option'],
        ['quick_start.py', '--work-dir', '{good}'],
        ['analysis/likelihood.py', '{base}', 'no.pth'],
        ['analysis/schedules.py', 'NoSuchSchedule'],
        ['analysis/schedules.py', 'MySchedule', '--import', 'no_such'],
        ['analysis/kill_and_resume.py', 'no.py'],
        ['benchmark/run.py', 'speed'],
        ['benchmark/run.py', 'training', '--repeats', '0'],
        ['benchmark/run.py', 'training', '--device', 'tpu'],
        ['benchmark/run.py', 'training', '--compare', 'no.json'],
    ):
        yield Case('command line', ' '.join(command), command)


def mutations(count: int, seed: int) -> Iterator[Case]:
    """Shipped configs, on the small data set, with one value changed."""
    draws = random.Random(seed)
    leaves = list(leaves_of(Config.fromfile(SHIPPED)._cfg_dict.to_dict()))
    for _ in range(count):
        key, old = draws.choice(leaves)
        if isinstance(old, (int, float)) and draws.random() < 0.3:
            value = draws.choice([-old, 2 * old, old / 2, old + 1, str(old)])
        else:
            value = draws.choice([*VALUES, draws.choice(leaves)[1]])
        yield Case(
            'mutation',
            f'{key} = {value!r} instead of {old!r}',
            TRAIN,
            f'change({key!r}, {value!r})\n',
        )


def leaves_of(part: Any, front: str = '') -> Iterator[Tuple[str, Any]]:
    """All values of a config that are no sections, by dotted key."""
    rows = part.items() if isinstance(part, dict) else enumerate(part)
    for key, value in rows:
        path = f'{front}.{key}' if front else str(key)
        if isinstance(value, (dict, list, tuple)) and value:
            yield from leaves_of(value, path)
        elif key not in UNTOUCHED:
            yield path, value


SHIPPED = ROOT / 'configs/quick_start/fmkt_retinanet_r18_shapes.py'
VALUES = [None, -1, 0, 1, 2.5, 97, NAN, 'x', '', [], {}, [0], True, False]
# Where the test itself has its data, and what is as long as it says.
UNTOUCHED = ('data_root', 'max_epochs', 'max_keep_ckpts', 'num_workers')
K_ZERO = 'model.flow.inference_steps=0'
PLAIN = str(ROOT / 'configs/quick_start/retinanet_r18_shapes.py')
MODEL = ['--model']
HELPERS = """
def change(key, value):
    *front, last = key.split('.')
    part = globals()
    for name in front:
        part = part[int(name)] if isinstance(part, list) else part[name]
    if isinstance(part, tuple):
        raise SystemExit('error: a tuple cannot be changed')
    part[int(last) if isinstance(part, list) else last] = value


def use_data(folder):
    for split in ('train', 'val'):
        loader = globals()[split + '_dataloader']
        loader['dataset']['data_root'] = folder
    val_evaluator['ann_file'] = folder + '/annotations/instances_val.json'


nan, inf = float('nan'), float('inf')
"""


def copy_data(folder: Path) -> None:
    """The data set that all cases share, for one of them to spoil."""
    import shutil

    shutil.copytree(folder.parent / 'shapes', folder / 'data')


def write_base(folder: Path) -> None:
    """Draw the data set and write the config that nothing is wrong with."""
    data = make_shapes(
        folder / 'shapes', num_train=8, num_val=4, image_size=(64, 64), seed=0
    )
    cfg = Config.fromfile(
        ROOT / 'configs/quick_start/fmkt_retinanet_r18_shapes.py'
    )
    student = Config.fromfile(PLAIN).model
    student.backbone.update(base_channels=8, stem_channels=8, init_cfg=None)
    student.neck.update(in_channels=[8, 16, 32, 64], out_channels=16)
    student.bbox_head.update(in_channels=16, feat_channels=16, stacked_convs=1)
    student.bbox_head.pop('norm_cfg', None)
    cfg.model.student = student
    cfg.model.teacher = dict(config=student.to_dict(), checkpoint=None)
    cfg.train_cfg.update(max_epochs=1, val_interval=1)
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        loader.update(batch_size=4, num_workers=0, persistent_workers=False)
        loader.dataset.data_root = str(data)
        if split != 'train':
            cfg[f'{split}_evaluator'].ann_file = str(
                data / 'annotations/instances_val.json'
            )
    cfg.work_dir = str(folder / 'run')
    cfg.dump(folder / 'base.py')


def run(command: List[str], log: Path, cwd: Path) -> Tuple[int, float]:
    """Run a tool in a copy of this process, which has the libraries read.

    Args:
        command (list[str]): A file in ``tools`` and what it is given.
        log (Path): Where its words go.
        cwd (Path): Where it runs.

    Returns:
        tuple: Its exit code, -9 where it took too long, and seconds.
    """
    began = time.monotonic()
    pid = os.fork()
    if not pid:
        os.setsid()
        os.chdir(cwd)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for number in (1, 2):
            os.dup2(file, number)
        code = 0
        sys.stdout = os.fdopen(1, 'w', closefd=False)
        sys.stderr = os.fdopen(2, 'w', closefd=False)
        sys.argv = [str(ROOT / 'tools' / command[0]), *command[1:]]
        sys.path[0] = str(Path(sys.argv[0]).parent)
        try:
            runpy.run_path(sys.argv[0], run_name='__main__')
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
            if isinstance(error.code, str):
                print(error.code, file=sys.stderr)
            code = code or 0
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    while time.monotonic() - began < 2 * LIMIT:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        time.sleep(0.02)
    else:
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return -9, time.monotonic() - began
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    return os.waitstatus_to_exitcode(status), time.monotonic() - began


def judge(
    code: int, seconds: float, text: str, folder: Path, may_train: bool
) -> str:
    """What is wrong with an answer, or nothing."""
    if (folder / 'executed').exists():
        return 'ran code'
    if 'Traceback (most recent call last)' in text:
        return 'traceback'
    if code == 0:
        trained = re.search(r'(Epoch|Iter)\(train\)', text)
        return '' if may_train and trained else 'exit code 0'
    if seconds > LIMIT:
        return f'{seconds:.0f} seconds'
    if re.search(r'(Epoch|Iter)\(train\)', text):
        return 'trained'
    return '' if answer_of(text) else 'no sentence'


def answer_of(text: str) -> str:
    """The sentence of an answer."""
    lines = [x for x in text.splitlines() if re.search(r'(^|: )error: ', x)]
    return lines[-1].split('error: ', 1)[1] if len(lines) == 1 else ''


def try_case(case: Case, index: int, home: Path) -> Dict[str, Any]:
    """Run a case and judge the answer."""
    folder = home / f'case_{index}'
    folder.mkdir()
    if case.prepare is not None:
        case.prepare(folder)
    places = dict(
        base=home / 'base.py',
        config=folder / 'config.py',
        folder=folder,
        good=home / 'good.pth',
    )

    def filled(text: str) -> str:
        for name, path in places.items():
            text = text.replace('{' + name + '}', str(path))
        return text

    base = places['base'].read_text()
    places['config'].write_text(f'{base}\n{HELPERS}\n{filled(case.lines)}')
    command = [filled(x) for x in case.command]
    if command[0] == 'train.py' and '--work-dir' not in command:
        command += ['--work-dir', str(folder / 'run')]
    log = home / f'case_{index}.log'
    code, seconds = run(command, log, folder)
    text = log.read_text(errors='replace')
    answer = answer_of(text).replace(str(folder), '.').replace(str(home), '..')
    return dict(
        group=case.group,
        what=case.what.replace('{folder}/', '')
        .replace('{folder}', '.')
        .replace(f'{ROOT}/', ''),
        code=code,
        seconds=round(seconds, 1),
        answer=answer.replace(str(ROOT), ''),
        fault=judge(code, seconds, text, folder, case.group == 'mutation'),
        log=text[-3000:],
    )


def table(rows: List[Dict[str, Any]]) -> str:
    """The answers as Markdown."""
    lines = [
        '# Bad inputs and their answers',
        '',
        f'{len(rows)} bad inputs, each given to a tool as a user would; '
        f'{sum(bool(x["fault"]) for x in rows)} were answered otherwise than '
        'by one sentence, with an exit code other than 0, within '
        f'{LIMIT} seconds and before training began. Written by '
        '`python tools/analysis/bad_inputs.py --out docs/bad_inputs.md`.',
    ]
    for group in dict.fromkeys(x['group'] for x in rows):
        lines += ['', f'## {group}', '', '| input | answer |', '|---|---|']
        for row in rows:
            if row['group'] == group:
                answer = textwrap.shorten(row['answer'], 240)
                cells = row['what'], row['fault'] or answer
                lines.append(
                    '| '
                    + ' | '.join(x.replace('|', '\\|') for x in cells)
                    + ' |'
                )
    return '\n'.join(lines) + '\n'


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument('--out', help='Markdown file for the answers')
    parser.add_argument(
        '--mutations', type=int, metavar='N', help='try N of these instead'
    )
    parser.add_argument('--seed', type=int, default=0, help='of the mutations')
    parser.add_argument(
        '--only', default='', help='cases whose group or name has this in it'
    )
    add_debug(parser)
    return parser.parse_args()


def main() -> None:
    import mmdet.apis  # noqa: F401 (read once for all cases)
    import mmpretrain.models  # noqa: F401

    args = parse_args()
    cases = [
        case
        for part in (settings, configs, checkpoints, data_sets, command_lines)
        for case in part()
        if args.only in f'{case.group}: {case.what}'
    ]
    if args.mutations:
        cases = list(mutations(args.mutations, args.seed))
    torch.set_num_threads(1)
    with TemporaryDirectory() as name:
        home = Path(name)
        os.environ['XDG_CACHE_HOME'] = name
        write_base(home)
        good = ['train.py', str(home / 'base.py')]
        code, _ = run(good, home / 'good.log', home)
        if code:
            print((home / 'good.log').read_text()[-3000:])
            raise SystemExit('The config that nothing is wrong with fails.')
        (home / 'run' / 'epoch_1.pth').rename(home / 'good.pth')
        rows = [
            try_case(case, index, home)
            for index, case in enumerate(track(cases, 'Bad inputs'))
        ]
    for row in rows:
        if row['fault']:
            print(f'{row["group"]}: {row["what"]}: {row["fault"]}')
            if args.debug:
                print(row['log'])
    bad = sum(bool(x['fault']) for x in rows)
    trained = sum(not x['code'] for x in rows)
    print(
        f'{len(rows)} inputs: {trained} trained, {bad} answered badly, the '
        'others refused in a sentence'
    )
    if args.out:
        write_whole(args.out, table(rows))
    sys.exit(bool(bad))


if __name__ == '__main__':
    with plain_errors():
        main()
