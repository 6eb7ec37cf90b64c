"""Conversion of published CIFAR checkpoints for MMPretrain.

RepDistiller and mdistiller publish the state dicts of their networks. They
are converted to checkpoints of MMPretrain's ImageClassifier with the same
network, whose backbone is in ``mmfmkt.models.backbones``.
"""

from pathlib import Path
from typing import Any, Dict, Mapping, Union

import torch
from mmengine.config import Config
from torch import Tensor, nn

from mmfmkt.registry import MODELS
from mmfmkt.utils import ConfigError
from mmfmkt.utils.checkpoints import load_checkpoint, state_dict_of
from mmfmkt.utils.configs import add_mmfmkt_import
from mmfmkt.utils.files import save_atomically


def shuffle_v2_units() -> Dict[str, str]:
    """Return the prefixes of ShuffleNetV2's units by published prefix."""
    # Convolutions of the first unit of a stage (stride 2), and of the others.
    strided_unit = ('left.0', 'left.2', 'right.0', 'right.3', 'right.5')
    unit = ('right.0', 'right.3', 'right.5')
    prefixes = {}
    for stage, num_blocks in enumerate((4, 8, 4)):
        for block in range(num_blocks):
            published = f'layer{stage + 1}.{block}'
            prefix = f'backbone.stages.{stage}.{block}'
            for index, conv in enumerate(unit if block else strided_unit, 1):
                branch, position = conv.split('.')
                norm = f'{branch}.{int(position) + 1}'
                prefixes[f'{published}.conv{index}'] = f'{prefix}.{conv}'
                prefixes[f'{published}.bn{index}'] = f'{prefix}.{norm}'
    return prefixes


STEM = {'conv1': 'backbone.stem.0', 'bn1': 'backbone.stem.1'}
LAYERS = {f'layer{i + 1}': f'backbone.stages.{i}' for i in range(3)}
WRN_STAGES = (
    'backbone.stages.0',
    'backbone.stages.1',
    'backbone.stages.2.blocks',
)
# Prefixes of tensor names in ImageClassifier by published prefix, for each
# backbone. The first published prefix that matches is used.
PREFIXES: Dict[str, Dict[str, str]] = {
    'mmfmkt.CIFARResNet': {**STEM, **LAYERS, 'fc': 'head.fc'},
    'mmfmkt.WideResNet': {
        'conv1': 'backbone.stem',
        # Listed before the blocks, whose published prefix also matches.
        **{
            f'block{i}.layer.0.convShortcut': f'{stage}.0.shortcut'
            for i, stage in enumerate(WRN_STAGES, 1)
        },
        **{f'block{i}.layer': stage for i, stage in enumerate(WRN_STAGES, 1)},
        'bn1': 'backbone.stages.2.norm',
        'fc': 'head.fc',
    },
    'mmfmkt.CIFARVGG': {
        **{f'block{i}': f'backbone.stages.{i}' for i in range(5)},
        'classifier': 'head.fc',
    },
    'mmfmkt.CIFARMobileNetV2': {
        'conv1': 'backbone.stem',
        'conv2': 'backbone.stages.7',
        'blocks': 'backbone.stages',
        'classifier.0': 'head.fc',
    },
    'mmfmkt.CIFARShuffleNetV1': {**STEM, **LAYERS, 'linear': 'head.fc'},
    'mmfmkt.CIFARShuffleNetV2': {
        **STEM,
        **shuffle_v2_units(),
        'conv2': 'backbone.stages.3.0',
        'bn2': 'backbone.stages.3.1',
        'linear': 'head.fc',
    },
}

# Backbones by the names of their networks in RepDistiller and mdistiller.
NETWORKS: Dict[str, Dict[str, Any]] = {
    **{
        f'resnet{depth}': dict(type='mmfmkt.CIFARResNet', depth=depth)
        for depth in (8, 14, 20, 32, 44, 56, 110)
    },
    **{
        f'resnet{depth}x4': dict(
            type='mmfmkt.CIFARResNet', depth=depth, widths=(32, 64, 128, 256)
        )
        for depth in (8, 32)
    },
    **{
        f'wrn_{depth}_{factor}': dict(
            type='mmfmkt.WideResNet', depth=depth, widen_factor=factor
        )
        for depth in (16, 40)
        for factor in (1, 2)
    },
    **{
        f'vgg{depth}': dict(type='mmfmkt.CIFARVGG', depth=depth)
        for depth in (8, 11, 13, 16, 19)
    },
    'MobileNetV2': dict(type='mmfmkt.CIFARMobileNetV2', width_mult=0.5),
    'ShuffleV1': dict(type='mmfmkt.CIFARShuffleNetV1', groups=3),
    'ShuffleV2': dict(type='mmfmkt.CIFARShuffleNetV2', net_size=1),
}


def convert_checkpoint(
    src: Union[str, Path], dst: Union[str, Path], model: str
) -> Path:
    """Convert a published checkpoint to one of MMPretrain's ImageClassifier.

    The config is stored in ``meta['cfg']``, without ``data_preprocessor``,
    since the normalization of the images is not known from the checkpoint.

    Args:
        src (str | Path): Path or URL of the checkpoint.
        dst (str | Path): Output file; its folder is created.
        model (str): Name of the network in RepDistiller and mdistiller, a
            key of ``NETWORKS``.

    Returns:
        Path: ``dst``.

    Raises:
        ConfigError: If the checkpoint cannot be read or belongs to another
            network.
    """
    find_backbone(model)
    state = convert_state(state_dict_of(load_checkpoint(str(src))), model)
    num_classes = len(state['head.fc.bias'])
    cfg = Config(dict(default_scope='mmpretrain'))
    add_mmfmkt_import(cfg)
    cfg.model = classifier_config(model, num_classes)
    dst = Path(dst)
    save_atomically(
        dst, dict(meta=dict(cfg=cfg.pretty_text), state_dict=state)
    )
    return dst


def classifier_config(model: str, num_classes: int) -> Dict[str, Any]:
    """Return the ``model`` section of a converted checkpoint.

    Args:
        model (str): A key of ``NETWORKS``.
        num_classes (int): Number of classes.

    Returns:
        dict: Config of an ImageClassifier in MMPretrain's scope.

    Raises:
        ConfigError: If the network is unknown.
    """
    backbone = find_backbone(model)
    with torch.device('meta'):
        channels = MODELS.build(backbone).stage_channels[-1]
    return dict(
        type='ImageClassifier',
        backbone=dict(backbone),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(
            type='LinearClsHead', num_classes=num_classes, in_channels=channels
        ),
    )


def convert_state(
    state: Mapping[str, Tensor], model: str
) -> Dict[str, Tensor]:
    """Rename the tensors of a published state dict.

    The mapping is strict, except for ``num_batches_tracked`` of norms, which
    PyTorch before 0.4.1 did not save.

    Args:
        state (Mapping[str, Tensor]): A state dict. The prefix ``module.`` is
            removed.
        model (str): A key of ``NETWORKS``.

    Returns:
        dict[str, Tensor]: State dict of an ImageClassifier.

    Raises:
        ConfigError: If a tensor is missing, unexpected or has another shape.
    """
    backbone_cfg = find_backbone(model)
    backbone = MODELS.build(backbone_cfg)
    prefixes = PREFIXES[backbone_cfg['type']]
    state = {
        rename_tensor(name.removeprefix('module.'), prefixes): x
        for name, x in state.items()
    }
    num_classes = state.get('head.fc.bias', torch.zeros(1)).numel()
    linear = nn.Linear(backbone.stage_channels[-1], num_classes)
    classifier = nn.ModuleDict(
        dict(backbone=backbone, head=nn.ModuleDict(dict(fc=linear)))
    )
    try:
        classifier.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise ConfigError(
            f'--model: the checkpoint does not fit {model!r}: '
            f'{" ".join(str(error).split())}'
        ) from error
    return dict(classifier.state_dict())


def find_backbone(model: str) -> Dict[str, Any]:
    """Return the backbone of a network by its published name.

    Raises:
        ConfigError: If the name is unknown.
    """
    if model not in NETWORKS:
        raise ConfigError(
            f'--model must be one of {", ".join(NETWORKS)}, got {model!r}.'
        )
    return NETWORKS[model]


def rename_tensor(name: str, prefixes: Mapping[str, str]) -> str:
    """Return the name that a published tensor has in an ImageClassifier."""
    for published, prefix in prefixes.items():
        if name.startswith(f'{published}.'):
            return prefix + name.removeprefix(published)
    return name
