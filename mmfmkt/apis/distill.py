"""Composing a distillation from a student's and a teacher's config."""

import json
import os.path as osp
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import DefaultScope
from torch import nn

from mmfmkt.datasets.coco_folder import CocoFolder, find_coco_folder
from mmfmkt.models.distillers.classification import probe_classifier
from mmfmkt.models.distillers.networks import (
    build_network,
    load_model_config,
    without_weights,
)
from mmfmkt.models.distillers.tap_flow import TapFlow
from mmfmkt.models.distillers.taps import (
    LevelSpec,
    find_module,
    listening,
    pair_levels,
    probe,
)
from mmfmkt.models.flows import VARIANTS, Transfer
from mmfmkt.registry import MODELS
from mmfmkt.utils import ConfigError
from mmfmkt.utils.complexity import size_and_flops
from mmfmkt.utils.configs import leaf_datasets
from mmfmkt.utils.files import write_whole

PRESETS = dict(mmdet='fmkt_fpn', mmpretrain='fmkt_logits')
THETA_PRESETS = dict(PRESETS, mmdet='theta_fpn')


class Composed(NamedTuple):
    """A distillation that was composed.

    Attributes:
        config (Path): The config, which can be inherited and edited.
        decisions (list[str]): What was decided, a line each.
    """

    config: Path
    decisions: List[str]


def compose_distillation(
    student: str,
    teacher: Optional[str],
    path: Path,
    teacher_checkpoint: Optional[str] = None,
    variant: str = 'fmkt',
    data_root: Optional[str] = None,
    class_maps: bool = False,
) -> Composed:
    """Compose a config from two, write it and say what it does.

    Args:
        student (str): The student's config: a file, or a packaged one
            (``'mmdet::...'``, ``'mmpretrain::...'``).
        teacher (str, optional): The teacher's; None for ``'online'``.
        path (Path): File to write.
        teacher_checkpoint (str, optional): Path or URL; None leaves the
            teacher's weights random.
        variant (str): A key of ``VARIANTS``.
        data_root (str, optional): Folder in COCO format that takes the place
            of the student's data set; detectors only. A teacher without a
            checkpoint gets its number of classes too.
        class_maps (bool): Whether the class maps of both detectors' dense
            heads flow too, beside the pyramid.

    Raises:
        ConfigError: If the two do not go together; the message names what to
            change.
    """
    config = read_student(student)
    library = config.get('default_scope', 'mmdet')
    if library not in PRESETS:
        raise ConfigError(
            f'{student!r} is a config of {library}; mmfmkt '
            f'distils those of {" and ".join(PRESETS)}.'
        )
    if variant not in VARIANTS:
        raise ConfigError(
            f'--variant must be one of {", ".join(VARIANTS)}, '
            f'but is {variant!r}.'
        )
    if (teacher is None) == VARIANTS[variant].needs_teacher:
        need = 'needs a' if teacher is None else 'learns without a'
        raise ConfigError(f'The variant {variant!r} {need} teacher.')
    model: Dict[str, Any] = dict(variant=variant)
    options: Dict[str, Any] = {}
    lines = [f'student   {student} ({network_name(config.model)})']
    data = find_coco_folder(data_root) if data_root else None
    if data is not None and library != 'mmdet':
        raise ConfigError(
            '--data-root is for detectors; set data_root in a '
            "classifier's config."
        )
    classes = {}
    if data is not None:
        classes = classes_of(config.model, len(data.classes))
        config.merge_from_dict({f'model.{k}': v for k, v in classes.items()})
    if teacher is not None:
        theirs = load_model_config(teacher, '--teacher')
        lines.append(
            f'teacher   {teacher} ({network_name(theirs)}), weights '
            f'{teacher_checkpoint or "random"}'
        )
        if data is not None and teacher_checkpoint is None:
            options = classes_of(theirs, len(data.classes))
        model['teacher'] = dict(
            config=absolute(teacher),
            checkpoint=teacher_checkpoint and absolute(teacher_checkpoint),
            **(dict(cfg_options=options) if options else {}),
        )
    if class_maps and (library != 'mmdet' or teacher is None):
        raise ConfigError('--class-maps is for detectors with a teacher.')
    if library == 'mmdet':
        lines += decide_taps(config, model, teacher, options, class_maps)
    encoder = None
    if library == 'mmpretrain' and feature_is_vector(config):
        encoder = 'MLPEncoder'
        lines.append('encoder   MLPEncoder: the last feature is a vector')
    overrides = data_overrides(config, data) if data is not None else {}
    write(path, render(student, library, model, overrides, classes, encoder))
    return Composed(path, lines + describe(path))


def write(path: Path, text: str) -> None:
    """Write a config, and never over one that somebody has edited.

    Raises:
        ConfigError: If another text stands there.
    """
    if path.exists() and path.read_text(encoding='utf-8') != text:
        raise ConfigError(
            f'{str(path)!r} is there and differs from what would be composed: '
            'train it with tools/train.py, delete it, or name another '
            '--work-dir.'
        )
    # Half a config would look like an edited one.
    write_whole(path, text)


def read_student(student: str) -> Config:
    """Read the student's whole config.

    Raises:
        ConfigError: If there is none.
    """
    load_model_config(student, 'the student')
    return get_config(student) if '::' in student else Config.fromfile(student)


def absolute(source: str) -> str:
    """Return a packaged name or a URL as it is, and a path in full."""
    if '::' in source or '://' in source:
        return source
    # A link stays one: MMEngine looks for bases beside it, too.
    return osp.abspath(osp.expanduser(source))


def network_name(model: dict) -> str:
    """Return the name of a network and of its backbone."""
    backbone = model.get('backbone', {})
    depth = backbone.get('depth', '')
    return f'{model["type"]}, {backbone.get("type", "no backbone")}' + (
        f'-{depth}' if depth else ''
    )


def classes_of(model: dict, num_classes: int, front: str = '') -> dict:
    """Return dotted overrides that give a network a number of classes.

    Args:
        model (dict): Its config.
        num_classes (int): The number of classes.
        front (str): What keys begin with.
    """
    found = {}
    parts = model.items() if isinstance(model, dict) else enumerate(model)
    for key, value in parts:
        name = f'{front}{key}'
        if key == 'num_classes' and 'rpn' not in front:
            found[name] = num_classes
        elif isinstance(value, (dict, list, tuple)):
            found.update(classes_of(value, num_classes, f'{name}.'))
    return found


def feature_is_vector(config: Config) -> bool:
    """Whether the last feature of a classifier is a token and not a map."""
    network = build_network(
        without_weights(load_model_config(config, 'the student')), 'mmpretrain'
    )
    return probe_classifier(network, 'student')[0].dim() == 2


def decide_taps(
    config: Config,
    model: dict,
    teacher: Optional[str],
    options: dict,
    class_maps: bool = False,
) -> List[str]:
    """Choose the taps and the levels of a detector; say so in lines."""
    student = build_network(
        without_weights(load_model_config(config, 'the student')), 'mmdet'
    )
    tap = 'neck' if getattr(student, 'neck', None) is not None else 'backbone'
    ours = probe(student, tap, 'student')
    model['tap'], model['levels'] = tap, tuple(range(len(ours)))
    if teacher is None:
        return [f'tap       {tap}, {len(ours)} levels']
    theirs_cfg = Config(dict(model=load_model_config(teacher, '--teacher')))
    theirs_cfg.merge_from_dict({f'model.{k}': v for k, v in options.items()})
    network = build_network(without_weights(theirs_cfg.model), 'mmdet')
    their_tap = (
        tap
        if tap == 'backbone' or getattr(network, 'neck', None) is not None
        else 'backbone'
    )
    theirs = probe(network, their_tap, 'teacher')
    if their_tap != tap:
        model['teacher']['tap'] = their_tap
    levels = shared_levels(ours, theirs, tap, their_tap)
    # The coarsest level of a pyramid is made of the others and stays free.
    if len(levels) > 4 and tap == 'neck':
        levels = levels[:-1]
    model['levels'] = levels
    lines = pairs_of(levels, ours, theirs, tap, their_tap)
    if class_maps:
        preset = get_config('mmfmkt::_base_/fmkt_dense.py').distiller.taps[-1]
        head = dict(tap=preset.tap, teacher_tap=preset.tap)
        if getattr(student, 'roi_head', None) is not None:
            head['tap'] = 'rpn_head[0]'
        if getattr(network, 'roi_head', None) is not None:
            head['teacher_tap'] = 'rpn_head[0]'
        ours = probe(student, head['tap'], 'student')
        theirs = probe(network, head['teacher_tap'], 'teacher')
        names = head['tap'], head['teacher_tap']
        head['levels'] = shared_levels(ours, theirs, *names)[: len(levels)]
        lines += pairs_of(head['levels'], ours, theirs, *names)
        neck = dict(tap=tap, levels=levels, teacher_tap=their_tap)
        model['taps'] = [neck, dict(head, flow=preset.flow.to_dict())]
    return lines + decide_inheritance(model, student, network)


def decide_inheritance(
    model: dict, student: nn.Module, teacher: nn.Module
) -> List[str]:
    """Let parts behind the backbone that both have start as the teacher's."""
    own, theirs = (
        {
            name: {key: x.shape for key, x in part.state_dict().items()}
            for name, part in network.named_children()
        }
        for network in (student, teacher)
    )
    shared = [
        name
        for name, shapes in own.items()
        if name != 'backbone' and shapes and shapes == theirs.get(name)
    ]
    if not shared:
        return []
    model['teacher']['inherit'] = shared
    return [f"inherits  the teacher's {', '.join(shared)}"]


def shared_levels(
    ours: List[LevelSpec], theirs: List[LevelSpec], tap: str, their_tap: str
) -> Tuple[int, ...]:
    """Return the student's levels that have a partner, one of a stride.

    Raises:
        ConfigError: If there are none.
    """
    strides = {x.stride for x in theirs}
    seen: Dict[float, int] = {}
    for level, spec in enumerate(ours):
        if spec.stride in strides:
            seen.setdefault(spec.stride, level)
    if not seen:
        raise ConfigError(
            f"The student's {tap} has the strides {strides_of(ours)} and the "
            f"teacher's {their_tap} {strides_of(theirs)}: no level can be "
            'paired; give the teacher another pyramid by a config of its own.'
        )
    return tuple(seen.values())


def pairs_of(
    levels: Tuple[int, ...],
    ours: List[LevelSpec],
    theirs: List[LevelSpec],
    tap: str,
    their_tap: str,
) -> List[str]:
    """Say which levels are paired, and what lies between them."""
    lines = [f"taps      student's {tap}, teacher's {their_tap}"]
    pairs = pair_levels(levels, ours, theirs, tap, their_tap)
    for level, partner in pairs.items():
        ch = ours[level].channels, theirs[partner].channels
        lines.append(
            f'          level {level} to {partner}, stride '
            f'{ours[level].stride:g}, {ch[0]} channels to {ch[1]}'
            + ('' if ch[0] == ch[1] else ' by a 1x1 convolution')
        )
    return lines


def strides_of(specs: List[LevelSpec]) -> str:
    """Return the strides of levels for a sentence."""
    return ', '.join(f'{x.stride:g}' for x in specs)


def data_overrides(config: Config, data: CocoFolder) -> dict:
    """Return what puts a data set in the place of the config's own."""
    overrides = {}
    for key, split in (
        ('train', data.train),
        ('val', data.val),
        ('test', data.val),
    ):
        loader = config.get(f'{key}_dataloader')
        if not loader:
            continue
        own = dict(
            data_root=f'{data.root}/',
            metainfo=dict(classes=data.classes),
            ann_file=split.ann_file,
            data_prefix=dict(_delete_=True, img=split.images),
        )
        dataset = loader.dataset
        leaves = list(leaf_datasets(dataset))
        if len(leaves) != 1 or 'datasets' in dataset:
            raise ConfigError(
                f'--data-root: {key}_dataloader.dataset joins several data '
                'sets; set their keys in the composed config instead.'
            )
        while dataset.get('dataset') is not None:
            own, dataset = dict(dataset=own), dataset.dataset
        overrides[f'{key}_dataloader'] = dict(dataset=own)
        if key != 'train' and 'ann_file' in (
            config.get(f'{key}_evaluator') or {}
        ):
            overrides[f'{key}_evaluator'] = dict(
                ann_file=str(data.root / split.ann_file)
            )
    return overrides


def render(
    student: str,
    library: str,
    model: dict,
    overrides: dict,
    classes: dict,
    encoder: Optional[str],
) -> str:
    """Write the config as a person would."""
    presets = THETA_PRESETS if model['variant'] == 'theta' else PRESETS
    bases = [absolute(student), f'mmfmkt::_base_/{presets[library]}.py']
    lines = [
        '# Composed by tools/distill.py; edit it, or inherit it.',
        '_base_ = [',
        *(f'    {base!r},' for base in bases),
        ']',
        'model = dict(',
        '    _base_.distiller,',
        '    _delete_=True,',
        '    student=_base_.model)',
    ]
    if library == 'mmpretrain':
        lines.append("model['data_preprocessor'] = _base_.data_preprocessor")
    lines += [f'model[{key!r}] = {literal(x)}' for key, x in model.items()]
    if encoder:
        lines.append(f"model['flow']['encoder'] = dict(type={encoder!r})")
    for name, value in classes.items():
        keys = ''.join(
            f'[{int(key) if key.isdigit() else key!r}]'
            for key in name.split('.')
        )
        lines.append(f"model['student']{keys} = {value}")
    lines += [f'{key} = {literal(value)}' for key, value in overrides.items()]
    return '\n'.join(lines) + '\n'


def literal(value: Any) -> str:
    """Write a value as configs have it, dicts as calls of ``dict``.

    Keys with dots, of overrides, stay in quotes.
    """
    if isinstance(value, list):
        return f'[{", ".join(map(literal, value))}]'
    if isinstance(value, dict):
        if all(key.isidentifier() for key in value):
            return 'dict({})'.format(
                ', '.join(f'{key}={literal(x)}' for key, x in value.items())
            )
        return '{{{}}}'.format(
            ', '.join(f'{key!r}: {literal(x)}' for key, x in value.items())
        )
    return repr(value)


@torch.no_grad()
def describe(path: Path) -> List[str]:
    """Build the distillation with random weights and say what it costs."""
    config = Config.fromfile(path)
    section = config.model
    without_weights(section.student)
    if section.get('teacher'):
        section.teacher.checkpoint = None
    with DefaultScope.overwrite_default_scope(config.default_scope):
        model = MODELS.build(section)
    flow = section.flow
    direct = flow.loss_weight * flow.get('direct_weight', 0)
    beside = f' beside a direct term of {direct:g}' if direct else ''
    same = model.data_preprocessor is model.student.data_preprocessor
    lines = [
        f'flow      variant {section.variant}, {encoder_names(flow)}, '
        f'{flow.schedule.type}, {flow.metric.type} of weight '
        f'{flow.loss_weight:g}{beside}, N = {json.dumps(flow.num_steps)}, '
        f'K = {flow.inference_steps}',
    ]
    if model.teacher is not None:
        lines.append(
            'images    '
            + (
                'the same for both'
                if same
                else 'the same pixels, each network in its own normalisation'
            )
        )
    return lines + [cost(model)]


def encoder_names(flow: dict) -> str:
    """Name the encoder, or the encoders of the levels."""
    encoder = flow['encoder']
    several = isinstance(encoder, (list, tuple))
    names = [x['type'] for x in (encoder if several else [encoder])]
    return ' and '.join(dict.fromkeys(names))


def cost(model: nn.Module) -> str:
    """Say what the flow adds to the deployed student."""
    if not model.deploys_flow:
        return 'deployed  the plain student: nothing is added'
    deployed = nn.ModuleList(
        part
        for flow in model.flows.modules()
        if isinstance(flow, Transfer)
        for part in flow.deployed
    )
    added = sum(p.numel() for p in deployed.parameters())
    size = (256, 256)
    try:
        what = 'FLOPs'
        plain, with_flow = (flops_of(x, size) for x in (model.student, model))
    except Exception:  # Tracing fails in many ways in heads of two stages.
        what = 'FLOPs up to the neck'
        plain, with_flow = (
            flops_of(UpToNeck(model, flows), size)
            for flows in ([], model.tap_flows)
        )
    flops = f', {what} of a 256x256 image {plain} to {with_flow}'
    own = sum(p.numel() for p in model.student.parameters())
    return (
        f'deployed  student and flow: {own / 1e6:.2f} M parameters and '
        f'{added / 1e6:.2f} M{flops}'
    )


class UpToNeck(nn.Module):
    """A detector without its heads, with some of its flows.

    Args:
        model (nn.Module): A distiller.
        flows (list[TapFlow]): Those of its flows that are to run.
    """

    def __init__(self, model: nn.Module, flows: List[TapFlow]) -> None:
        super().__init__()
        self.student, self.flows = model.student, nn.ModuleList(flows)

    def forward(self, inputs: torch.Tensor) -> Any:
        with ExitStack() as tapped:
            for flow in self.flows:
                module = find_module(self.student, flow.tap, 'student')
                tapped.enter_context(listening(module, flow.transport))
            return self.student.extract_feat(inputs)


def flops_of(network: nn.Module, size: Tuple[int, int]) -> str:
    """Count FLOPs for a sentence."""
    return f'{size_and_flops(network.eval(), size)[1] / 1e9:.2f} G'
