"""Six short trainings by ``tools/train.py``, and the files that they leave.

Networks are tiny and data are drawn here. A training logs twenty iterations;
from its checkpoint come a test and an export, and two of the six are also
interrupted by SIGTERM and resumed. Every tool runs in a fork of a process
that has the libraries loaded, but not mmfmkt.
"""

import json
import os
import pickle
import runpy
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

import adapter
import cv2
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

mmdet.utils.register_all_modules(init_default_scope=False)
mmpretrain.utils.register_all_modules(init_default_scope=False)

ITERATIONS, INTERRUPTED_AT = 20, 7
DETECTION, CLASSIFICATION = ('circle', 'square'), 'abcde'
RUNS = (
    'detection_fmkt',
    'detection_theta',
    'detection_direct',
    'classification_fmkt',
    'classification_theta',
    'classification_online',
)
# What commit 6e8e919 found, beside the files.
MADE = 'made.json'
INTERRUPTED = ('detection_fmkt', 'classification_fmkt')


@HOOKS.register_module()
class BaselineInterruptHook(Hook):
    """Sends SIGTERM to its own process in the middle of the training."""

    def before_train_iter(self, runner: Any, *args: Any, **kwargs) -> None:
        if runner.iter == INTERRUPTED_AT:
            os.kill(os.getpid(), signal.SIGTERM)


def draw_data(folder: Path) -> None:
    """Write a COCO data set of shapes and a folder of classes."""
    draws = np.random.RandomState(0)
    for split, count in dict(train=16, val=4).items():
        images, annotations = [], []
        (folder / split).mkdir(parents=True)
        for index in range(count):
            image = draws.randint(0, 256, (64, 96, 3), dtype=np.uint8) // 4
            name = f'{index}.png'
            for _ in range(2):
                kind = int(draws.randint(2))
                x, y = int(draws.randint(20, 76)), int(draws.randint(20, 44))
                color = [int(v) for v in draws.randint(100, 256, 3)]
                if kind:
                    cv2.rectangle(
                        image, (x - 12, y - 12), (x + 12, y + 12), color, -1
                    )
                else:
                    cv2.circle(image, (x, y), 12, color, -1)
                annotations.append(
                    dict(
                        id=len(annotations) + 1,
                        image_id=index,
                        category_id=kind,
                        bbox=[x - 12, y - 12, 25, 25],
                        area=625,
                        iscrowd=0,
                    )
                )
            cv2.imwrite(str(folder / split / name), image)
            images.append(dict(id=index, file_name=name, width=96, height=64))
        categories = [dict(id=i, name=x) for i, x in enumerate(DETECTION)]
        (folder / f'{split}.json').write_text(
            json.dumps(
                dict(
                    images=images,
                    annotations=annotations,
                    categories=categories,
                )
            )
        )
    for split, count in dict(train=4, val=2).items():
        for number, label in enumerate(CLASSIFICATION):
            (folder / 'classes' / split / label).mkdir(parents=True)
            for index in range(count):
                image = draws.randint(0, 128, (32, 32, 3), dtype=np.uint8)
                image[..., number % 3] += np.uint8(16 * number)
                path = folder / 'classes' / split / label / f'{index}.png'
                cv2.imwrite(str(path), image)


def detector(base_channels: int) -> dict:
    """Return the config of a RetinaNet of ResNet-18."""
    path = Config._get_cfg_path(
        'mmdet::_base_/models/retinanet_r50_fpn.py', ''
    )[0]
    config = Config.fromfile(path)
    config.merge_from_dict(
        {
            'model.backbone': dict(
                depth=18,
                base_channels=base_channels,
                stem_channels=base_channels,
                frozen_stages=-1,
                norm_eval=False,
                init_cfg=None,
            ),
            'model.neck': dict(
                in_channels=[base_channels * 2**i for i in range(4)],
                out_channels=16,
            ),
            'model.bbox_head': dict(
                num_classes=len(DETECTION),
                in_channels=16,
                feat_channels=16,
                stacked_convs=1,
            ),
            'model.test_cfg.score_thr': 0.0,
            'model.test_cfg.max_per_img': 5,
        }
    )
    return config.model.to_dict()


def classifier(width: int) -> dict:
    """Return the config of a ResNet-18 for images of 32x32 pixels."""
    return dict(
        type='ImageClassifier',
        backbone=dict(
            type='ResNet_CIFAR',
            depth=18,
            base_channels=width,
            stem_channels=width,
        ),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(
            type='LinearClsHead',
            num_classes=len(CLASSIFICATION),
            in_channels=8 * width,
            loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1),
        ),
        data_preprocessor=dict(
            type='ClsDataPreprocessor',
            mean=[125.0, 123.0, 114.0],
            std=[60.0] * 3,
            num_classes=len(CLASSIFICATION),
        ),
    )


def detection_data(data: Path) -> dict:
    """Return the data sections of a detection, by iterations."""
    head = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True),
    ]

    def loader(split: str, *transforms: dict, **kwargs: Any) -> dict:
        return dict(
            batch_size=2,
            dataset=dict(
                type='CocoDataset',
                data_root=f'{data}/',
                ann_file=f'{split}.json',
                data_prefix=dict(img=f'{split}/'),
                metainfo=dict(classes=DETECTION),
                pipeline=[*head, *transforms, dict(type='PackDetInputs')],
                test_mode=split == 'val',
            ),
            **kwargs,
        )

    resize = dict(type='Resize', scale=(96, 64), keep_ratio=True)
    val = loader(
        'val',
        resize,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
    )
    evaluator = dict(
        type='CocoMetric', ann_file=f'{data}/val.json', metric='bbox'
    )
    return dict(
        default_scope='mmdet',
        train_dataloader=loader(
            'train',
            dict(type='RandomResize', scale=(96, 64), ratio_range=(0.8, 1.2)),
            dict(type='RandomFlip', prob=0.5),
            num_workers=2,
            persistent_workers=True,
            sampler=dict(type='InfiniteSampler', shuffle=True),
            batch_sampler=None,
        ),
        val_dataloader=val,
        test_dataloader=val,
        val_evaluator=evaluator,
        test_evaluator=evaluator,
        train_cfg=dict(
            type='IterBasedTrainLoop', max_iters=ITERATIONS, val_interval=10
        ),
        val_cfg=dict(type='ValLoop'),
        test_cfg=dict(type='TestLoop'),
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1),
            checkpoint=dict(
                type='CheckpointHook', by_epoch=False, interval=10
            ),
        ),
        log_processor=dict(type='LogProcessor', by_epoch=False, window_size=1),
    )


def classification_data(data: Path) -> dict:
    """Return the data sections of a classification, by epochs."""

    def loader(split: str, *transforms: dict, **kwargs: Any) -> dict:
        return dict(
            batch_size=4,
            num_workers=0,
            dataset=dict(
                type='CustomDataset',
                data_root=f'{data}/classes',
                data_prefix=split,
                pipeline=[
                    dict(type='LoadImageFromFile'),
                    *transforms,
                    dict(type='PackInputs'),
                ],
            ),
            sampler=dict(type='DefaultSampler', shuffle=split == 'train'),
            **kwargs,
        )

    val, evaluator = loader('val'), dict(type='Accuracy', topk=(1,))
    return dict(
        default_scope='mmpretrain',
        train_dataloader=loader(
            'train',
            dict(type='RandomCrop', crop_size=32, padding=4),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
        ),
        val_dataloader=val,
        test_dataloader=val,
        val_evaluator=evaluator,
        test_evaluator=evaluator,
        # Five batches an epoch.
        train_cfg=dict(
            by_epoch=True, max_epochs=ITERATIONS // 5, val_interval=2
        ),
        val_cfg=dict(),
        test_cfg=dict(),
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1),
            checkpoint=dict(type='CheckpointHook', interval=2),
        ),
        log_processor=dict(type='LogProcessor', window_size=1),
    )


def optimization(**kwargs: Any) -> dict:
    """Return the sections of the optimizer and its schedule."""
    return dict(
        optim_wrapper=dict(
            type='OptimWrapper',
            optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05),
            clip_grad=dict(max_norm=10.0),
            paramwise_cfg=dict(custom_keys=dict(flows=dict(lr_mult=2.0))),
        ),
        param_scheduler=[
            dict(
                type='LinearLR',
                start_factor=0.1,
                by_epoch=False,
                begin=0,
                end=5,
            ),
            dict(
                type='CosineAnnealingLR',
                by_epoch=False,
                begin=5,
                end=ITERATIONS,
                T_max=ITERATIONS - 5,
            ),
        ],
        randomness=dict(seed=0, deterministic=True),
        **kwargs,
    )


def model_of(name: str, folder: Path) -> dict:
    """Return the ``model`` section of a run.

    Args:
        name (str): One of ``RUNS``.
        folder (Path): Where configs and weights of the networks are.
    """
    kind, variant = name.split('_')
    teacher = dict(
        config=str(folder / f'{kind}_teacher.py'),
        checkpoint=str(folder / f'{kind}_teacher.pth'),
    )
    flows = dict(
        detection_fmkt=dict(
            encoder=dict(type='BottleneckEncoder', width=8),
            metric=dict(type='PKDLoss'),
            num_steps=(1, 2, 4),
            inference_steps=2,
            dirac_ratio=0.5,
            direct_weight=0.5,
        ),
        detection_theta=dict(
            encoder=dict(type='ConvEncoder'),
            metric=dict(type='MSELoss'),
            num_steps=3,
        ),
        detection_direct=dict(metric=dict(type='CrossKDLoss')),
        classification_fmkt=dict(encoder=dict(type='MLPEncoder')),
        classification_theta=dict(metric=dict(type='DISTLoss')),
        classification_online=dict(num_steps=(2, 4)),
    )
    model = dict(
        type=f'mmfmkt.{kind.capitalize()}Distiller',
        student=str(folder / f'{kind}_student.py'),
        variant=variant,
        flow=dict(loss_weight=2.0, **flows[name]),
    )
    if variant != 'online':
        model['teacher'] = teacher
    if kind == 'detection':
        model.update(tap='neck', levels=(0, 1, 2))
        if variant == 'theta':
            teacher['inherit'] = ['bbox_head']
    return model


def hooks_of(name: str) -> List[dict]:
    """Return the hooks that a user has added to a run."""
    return dict(
        detection_theta=[
            dict(
                type='mmfmkt.TransferWeightHook',
                begin=3,
                warmup=4,
                by_epoch=False,
            )
        ],
        classification_fmkt=[
            dict(type='mmfmkt.StepCountWarmupHook', warmup=2),
            dict(type='mmfmkt.FlowEMAHook', momentum=0.1),
        ],
        classification_theta=[dict(type='EMAHook', momentum=0.1)],
    ).get(name, [])


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


def in_child(function: Callable[[], Any], log: Optional[Path] = None) -> Any:
    """Run a function in a copy of this process.

    Args:
        function (Callable): What to run.
        log (Path, optional): File for what it prints.

    Returns:
        What the function returns, or the exit code that it ends with.

    Raises:
        RuntimeError: If it raises.
    """
    reader, writer = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        os.close(reader)
        if log is not None:
            file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, 1)
            os.dup2(file, 2)
        code = 0
        try:
            answer = dict(value=function())
        except SystemExit as error:
            number = error.code if isinstance(error.code, int) else 1
            answer = dict(value=number if error.code else 0)
        except BaseException:
            answer = dict(error=traceback.format_exc())
            code = 1
        with os.fdopen(writer, 'wb') as file:
            pickle.dump(answer, file)
        sys.stdout.flush()
        os._exit(code)
    os.close(writer)
    with os.fdopen(reader, 'rb') as file:
        sent = file.read()
    os.waitpid(pid, 0)
    answer = pickle.loads(sent) if sent else dict(error='killed')
    if 'error' in answer:
        text = log.read_text(errors='replace') if log else ''
        raise RuntimeError(f'{text[-3000:]}\n{answer["error"]}')
    return answer['value']


class Code:
    """The code under test, whose tools make and read files.

    Args:
        root (Path): Its folder, which is first on the path of Python.
        home (Path): Folder for what the tools write.
    """

    def __init__(self, root: Path, home: Path) -> None:
        self.root, self.home = root, home

    def tool(self, tool: str, *args: Any, expected: int = 0) -> None:
        """Run a tool as a user would.

        Args:
            tool (str): Its path.
            args: What it is given.
            expected (int): Its exit code.

        Raises:
            RuntimeError: If it ends with another one.
        """
        path = self.root / tool
        argv = [str(path), *map(str, args)]

        def run() -> None:
            os.chdir(self.home)
            sys.argv, sys.path[0] = argv, str(path.parent)
            runpy.run_path(str(path), run_name='__main__')

        log = self.home / 'tool.log'
        code = in_child(run, log) or 0
        if code != expected:
            raise RuntimeError(
                f'{" ".join(argv)}\nended with {code}, not {expected}:\n'
                f'{log.read_text(errors="replace")[-3000:]}'
            )

    def train(self, config: Path, work_dir: Path, *more: Any, expected=0):
        """Train, and return the folder."""
        args = (config, '--work-dir', work_dir, *more)
        self.tool(adapter.names().train, *args, expected=expected)
        return work_dir

    def predictions(self, config: Path, checkpoint: Path) -> Dict[str, Any]:
        """Test a checkpoint of a distillation; return its predictions."""
        out = self.home / 'predictions.pkl'
        work_dir = ('--work-dir', self.home / 'test')
        args = (config, checkpoint, '--out', out, *work_dir)
        self.tool(adapter.names().test, *args)
        return in_child(lambda: readable(pickle.loads(out.read_bytes())))

    def export(self, config: Path, checkpoint: Path, out: Path) -> None:
        """Export the student of a checkpoint."""
        self.tool(adapter.names().export, config, checkpoint, '--out', out)


def readable(samples: list) -> List[Dict[str, Any]]:
    """Return what a test has dumped of each image, numbers as hex."""
    found = []
    for sample in samples:
        part = sample.get('pred_instances', sample)
        keys = ('bboxes', 'scores', 'labels', 'pred_score')
        found.append(
            {
                key: [to_hex(x) for x in part[key].flatten().tolist()]
                for key in keys
                if key in part
            }
        )
    return found


def exported_predictions(name: str, student: Path) -> Dict[str, Any]:
    """Predict by an export on a fixed image, by the library's own API."""
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
    """Return all that a run has logged, but for times, as hex."""
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
    """Return the checkpoint of the end of a run."""
    names = f'iter_{ITERATIONS}.pth', f'epoch_{ITERATIONS // 5}.pth'
    (path,) = [work_dir / x for x in names if (work_dir / x).exists()]
    return path


def chosen(word: str) -> Iterator[str]:
    return (name for name in RUNS if word in name)


def make(root: Path, folder: Path, word: str) -> Dict[str, Any]:
    """Run everything and leave the files.

    Args:
        root (Path): The code under test.
        folder (Path): Where the files go; it is made.
        word (str): What the names of the runs contain.

    Returns:
        dict: Logs, hashes of tensors and predictions, by run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_configs(folder)
    code = Code(root, folder)
    found = {name: or_error(make_run, code, name) for name in chosen(word)}
    (folder / MADE).write_text(json.dumps(found))
    return found


def make_run(code: Code, name: str) -> Dict[str, Any]:
    """Train, test and export; interrupt and resume where the run is one."""
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
    """Resume a run; return what it logs and how it ends."""
    code.train(config, work_dir, '--resume', interrupted)
    return dict(
        resumed_logged=logged(work_dir),
        resumed=hashes(last_checkpoint(work_dir)),
    )


def hashes(checkpoint: Path) -> Dict[str, str]:
    """Return the hashes of a checkpoint's tensors."""
    return in_child(lambda: checkpoint_hashes(checkpoint))


def read(root: Path, files: Path, home: Path, word: str) -> Dict[str, Any]:
    """Load files that commit 6e8e919 has made, and resume from them.

    Configs of trainings are read in the names of the code under test, those
    of exports as they are.

    Args:
        root (Path): The code under test.
        files (Path): What ``make`` has left.
        home (Path): Folder for what is written; it is made.
        word (str): What the names of the runs contain.

    Returns:
        dict: Those entries that ``make`` returns, too.
    """
    home.mkdir(parents=True, exist_ok=True)
    code = Code(root, home)
    return {
        name: or_error(read_run, code, files / name, name)
        for name in chosen(word)
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
    """Call a function; return its error in the place of what it returns."""
    try:
        return function(*args)
    except RuntimeError as error:
        return dict(error=str(error))
