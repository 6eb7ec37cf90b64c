"""Training of a config by MMEngine's runners and hooks."""

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, HOOKS
from tiny import classification, image_batch, resnet
from torch.utils.data import Dataset

pytest.importorskip('mmpretrain')

from mmfmkt.apis.train import train  # noqa: E402

STUDENT = ('bus', 'person', 'car')
FLEXIBLE = dict(
    runner_type='FlexibleRunner',
    strategy=dict(type='SingleDeviceStrategy'),
    env_cfg=dict(),
)
models = []


@DATASETS.register_module()
class RandomImages(Dataset):
    """Eight random images of the classes ``metainfo['classes']``."""

    def __init__(self, metainfo):
        self.metainfo = metainfo
        self.images = image_batch(8, len(metainfo['classes']))

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return {key: values[index] for key, values in self.images.items()}


@HOOKS.register_module()
class KeepModel(Hook):
    """Appends the trained model to ``models``."""

    def after_train(self, runner):
        models.append(runner.model)


def config(work_dir, teacher, *hooks, **kwargs):
    """Return the config of one epoch with two batches."""
    model = classification(
        'fmkt', resnet(4, len(STUDENT)), resnet(8, len(teacher))
    )
    model['teacher']['classes'] = list(teacher)
    loader = dict(
        batch_size=4,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(type='RandomImages', metainfo=dict(classes=STUDENT)),
    )
    return Config(
        dict(
            default_scope='mmpretrain',
            model=model,
            train_dataloader=loader,
            train_cfg=dict(by_epoch=True, max_epochs=1),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
            custom_hooks=[*hooks, dict(type='KeepModel')],
            default_hooks=dict(export_student=None),
            work_dir=str(work_dir),
            launcher='none',
            experiment_name=str(work_dir),
            **kwargs,
        )
    )


@pytest.mark.parametrize('hook', ['EMAHook', 'mmfmkt.FlowEMAHook'])
def test_models_with_a_teacher_of_other_classes_can_be_averaged(
    hook, tmp_path
):
    teacher = ('car', 'bicycle', 'bus', 'plane')
    train(config(tmp_path, teacher, dict(type=hook)))
    summary = 'head: 2 of 3 classes are taught: bus, car'
    assert models[-1].class_summary == [summary]


def test_a_flexible_runner_matches_classes_and_loads_a_checkpoint(tmp_path):
    train(config(tmp_path / 'runner', ('car', 'bus', 'person')))
    train(
        config(
            tmp_path / 'flexible',
            ('car', 'bus', 'person'),
            load_from=str(tmp_path / 'runner' / 'epoch_1.pth'),
            **FLEXIBLE,
        )
    )
    for model in models[-2:]:
        indices = model.flows['head'].teacher_classes
        assert torch.equal(indices.cpu(), torch.tensor([1, 2, 0]))
