"""Which detectors of the installed MMDetection can be students.

One small config of each family in its model index is wrapped, trained for a
step, asked for a prediction, exported and asked again.
"""

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Set, Tuple
from urllib.parse import unquote

import torch
from mmengine.config import Config
from mmengine.fileio import load
from mmengine.logging import MessageHub
from mmengine.model import revert_sync_batchnorm
from mmengine.structures import InstanceData
from mmengine.utils import get_installed_path
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmfmkt.models.distillers.networks import (
    build_network,
    draw_weights,
    without_weights,
)
from mmfmkt.registry import MODELS

from .distill import decide_taps
from .export import export_student

VARIANTS = ('theta', 'fmkt')
# What these tasks train on are not images with boxes.
OTHER_TASKS = {
    'Multiple Object Tracking': 'tracks objects in videos',
    'Multi-object Tracking': 'tracks objects in videos',
    'Video Instance Segmentation': 'segments videos',
    'Semi-Supervised Object Detection': 'is a way of training of its own',
}
# The smallest first; what has none of these comes last.
SIZES = ('tiny', 'nano', 'r18', 'mobilenet', r'\bt[-_]', 'swin-t', 'r50',
         r's[-_]')


class NotAStudentError(ValueError):
    """Says why a detector cannot be a student."""


class Family(NamedTuple):
    """A family of models.

    Attributes:
        name (str): Its folder.
        configs (list[str]): Its configs, below MMDetection's, the smallest
            first.
        reason (str): Why it cannot be a student; empty if it may.
    """
    name: str
    configs: List[str]
    reason: str


def mmdet_home() -> Path:
    """Where the installed MMDetection keeps its configs and their index."""
    return Path(get_installed_path('mmdet')) / '.mim'


def families() -> List[Family]:
    """Read the families of the installed MMDetection's model index."""
    home = mmdet_home()
    found = []
    for metafile in load(home / 'model-index.yml')['Import']:
        path = home / metafile
        content = load(path)
        models = content['Models'] if isinstance(content, dict) else content
        tasks = {
            result.get('Task')
            for model in models for result in model.get('Results') or []
        }
        configs = sorted(
            {
                unquote(model['Config']).split('/')[-1]
                for model in models
            },
            key=size_of)
        there = [x for x in configs if (path.parent / x).is_file()]
        found.append(
            Family(path.parent.name,
                   [f'{path.parent.name}/{x}' for x in there],
                   why_not(tasks, there)))
    return found


def why_not(tasks: Set[str], configs: List[str]) -> str:
    """Return why a family of such tasks cannot be a student, if so."""
    if tasks and tasks <= set(OTHER_TASKS):
        return OTHER_TASKS[sorted(tasks)[0]]
    return '' if configs else 'its configs are not installed'


def size_of(config: str) -> tuple:
    """A key that sorts small models to the front."""
    for rank, pattern in enumerate(SIZES):
        if re.search(pattern, config):
            return rank, len(config), config
    return len(SIZES), len(config), config


def check_student(config: str, variant: str, size: int = 128) -> None:
    """Wrap a detector, train a step, predict, export, and predict again.

    Args:
        config (str): Its config, below MMDetection's configs.
        variant (str): ``'theta'`` or ``'fmkt'``.
        size (int): Side of the images in pixels.

    Raises:
        NotAStudentError: If the detector is a distillation itself.
        Exception: Whatever goes wrong.
    """
    cfg, size = prepare(config, size)
    if any(key.startswith('teacher') for key in cfg.model):
        raise NotAStudentError('has a teacher of its own')
    settings: Dict[str, Any] = dict(
        type='mmfmkt.DetectionDistiller',
        variant=variant,
        student=cfg.model,
        teacher=dict(config=cfg.model.to_dict(), checkpoint=None),
        flow=dict(num_steps=2, inference_steps=2, loss_weight=1.))
    taps: Dict[str, Any] = dict(teacher={})
    decide_taps(cfg, taps, cfg.filename, {})
    taps.pop('teacher')
    settings.update(taps)
    model = revert_sync_batchnorm(MODELS.build(settings))
    draw_weights(model)
    for network in (model.student, model.teacher):
        settle(network, size)
    train_step(model, inputs_for(cfg, size))
    if any(p.grad is None for p in model.flows.parameters()):
        raise ArithmeticError('a parameter of the flow got no gradient')
    for parameter in model.flows.parameters():
        nn.init.normal_(parameter, std=0.05)
    images = inputs_for(cfg, size)
    found = predict(model, images)
    again = predict(exported(cfg, settings, model, variant), images)
    torch.testing.assert_close(found, again, rtol=1e-4, atol=1e-3)


def check_alone(config: str, size: int = 128) -> None:
    """Train a step of a detector by itself, and predict.

    Where that goes wrong as well, it is not for want of mmfmkt.

    Args:
        config (str): Its config, below MMDetection's configs.
        size (int): Side of the images in pixels.

    Raises:
        Exception: Whatever goes wrong.
    """
    cfg, size = prepare(config, size)
    model = revert_sync_batchnorm(build_network(cfg.model, 'mmdet'))
    draw_weights(model)
    settle(model, size)
    train_step(model, inputs_for(cfg, size))
    predict(model, inputs_for(cfg, size))


def prepare(config: str, size: int) -> Tuple[Config, int]:
    """Read a config for a check, and return the size it needs at least."""
    torch.manual_seed(0)
    cfg = Config.fromfile(mmdet_home() / 'configs' / config)
    without_weights(cfg.model)
    # What a Runner keeps up to date and some detectors read.
    hub = MessageHub.get_current_instance()
    for name, value in (('iter', 0), ('epoch', 0), ('max_epochs', 1),
                        ('max_iters', 1)):
        hub.update_info(name, value)
    if 'num_queries' in str(cfg.model):
        # There must be as many places as queries.
        size = max(size, 256)
    return cfg, size


def inputs_for(cfg: Config, size: int) -> dict:
    """Two random images with what the config's own data would have."""
    from mmdet.testing import demo_mm_inputs
    pipeline = str(cfg.get('train_dataloader'))
    semantic = bool(re.search(r"'with_seg': True|LoadPanoptic", pipeline))
    masks = semantic or "'with_mask': True" in pipeline
    data = demo_mm_inputs(
        2, [(3, size, size)] * 2,
        num_items=[2, 3],
        num_classes=min([*classes_in(cfg.model), 80]),
        with_mask=masks,
        with_semantic=semantic)
    if 'LoadProposals' in pipeline:
        for sample in data['data_samples']:
            corners = torch.rand(50, 2, 2).sort(dim=1).values * size
            sample.proposals = InstanceData(bboxes=corners.flatten(1))
    return data


def classes_in(part: Any) -> Iterator[int]:
    """All numbers of classes in a config that are worth the name."""
    parts = part.items() if isinstance(part, dict) else enumerate(part)
    for key, value in parts:
        if key == 'num_classes' and isinstance(value, int) and value > 1:
            yield value
        elif isinstance(value, (dict, list, tuple)):
            yield from classes_in(value)


@torch.no_grad()
def settle(network: nn.Module, size: int) -> None:
    """Give batch norms the statistics that untrained weights lead to.

    Deep networks of random weights may overflow without.

    Args:
        network (nn.Module): The detector.
        size (int): Side of the images in pixels.
    """
    modes = {module: module.training for module in network.modules()}
    norms = [x for x in modes if isinstance(x, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train().reset_running_stats()
        norm.momentum = None  # the mean of all that is seen
    network.extract_feat(torch.randn(2, 3, size, size))
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
    for module, training in modes.items():
        module.training = training


def train_step(model: nn.Module, data: dict) -> None:
    """Forward and backward, with a finite loss."""
    model.train()
    data = model.data_preprocessor(data, True)
    total, log = model.parse_losses(model(**data, mode='loss'))
    total.backward()
    if not total.isfinite():
        raise ArithmeticError(f'the loss is {total.item()}: {log}')


@torch.no_grad()
def predict(model: nn.Module, data: dict) -> torch.Tensor:
    """Return the scores, or the panoptic map, of the first image.

    Some detectors predict one image at a time alone.
    """
    model.eval()
    sample, = model.test_step({key: x[:1] for key, x in data.items()})
    if 'pred_instances' in sample:
        return sample.pred_instances.scores
    return sample.pred_panoptic_seg.sem_seg.float()


def exported(cfg: Config, settings: dict, model: nn.Module,
             variant: str) -> nn.Module:
    """Take the student through a checkpoint and an export."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / 'epoch_1.pth'
        torch.save(dict(state_dict=model.state_dict()), checkpoint)
        whole = Config(
            dict(model=settings, default_scope=cfg.default_scope))
        student = export_student(whole, str(checkpoint), folder)
        section = Config.fromfile(student.config).model
        without_weights(section)
        if variant == 'theta':
            section['_scope_'] = 'mmdet'
        loaded = revert_sync_batchnorm(MODELS.build(section))
        state = torch.load(student.checkpoint, weights_only=False)
        # Some detectors grow parts when they are initialised; what counts is
        # that nothing is missing.
        missing = loaded.load_state_dict(
            state['state_dict'], strict=False).missing_keys
        if missing:
            raise KeyError(f'the export lacks {missing[0]}')
    return loaded
