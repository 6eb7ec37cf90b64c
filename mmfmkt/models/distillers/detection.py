"""DetectionDistiller: any MMDetection detector under any other.

It listens at a named module of the student with a forward hook and may put
the flow's output in the place of the module's own; no detector is
subclassed.
"""

from contextlib import nullcontext
from typing import Any, Dict, List, Optional, Sequence, Union

import torch
from mmengine.config import ConfigDict
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmfmkt.registry import MODELS
from mmfmkt.utils import ConfigError, require

from ..flows import VARIANTS, StepCount, decouple_pairs
from .base import BaseDistiller
from .data_preprocessor import PairDataPreprocessor, same_view
from .networks import (
    build_network,
    build_teacher,
    load_model_config,
    load_teacher_config,
)
from .taps import (
    LevelSpec,
    as_levels,
    find_module,
    like_output,
    listening,
    probe,
    read_tap,
)

FLOW_DEFAULTS = dict(
    encoder=dict(type='ConvEncoder'),
    schedule=dict(type='RectifiedFlow'),
    metric=dict(type='PKDLoss'),
    num_steps=(1, 2, 4, 8, 16),
    inference_steps=4,
    loss_weight=10.0,
    dirac_ratio=1.0)


@MODELS.register_module()
class DetectionDistiller(BaseDistiller):
    """Trains a detector under a bigger one by flow matching (FM-KT).

    In training the levels of the tap flow towards the teacher's; the losses
    are the student's own and, for each level, ``<tap>.<level>.loss_flow``
    (and ``loss_student`` for Theta). Prediction is the student's own, with
    the flow in front of its head where the variant deploys it.

    Args:
        student (str | dict): Student: a config file, a packaged config
            (``'mmdet::...'``) or a ``model`` dict.
        teacher (dict, optional): ``config`` (as ``student``),
            ``checkpoint`` (path, URL, or None for random weights) and,
            optionally, ``cfg_options``, which override the teacher's model
            config by dotted keys. None is enough for inference.
        variant (str): ``'fmkt'``: the student's head reads the transferred
            feature, in training and after. ``'theta'``: the flow only
            teaches; the plain student is deployed.
        tap (str): Path of the tapped module in both networks.
        levels (Sequence[int], optional): Indices of the tapped levels; None
            taps all.
        flow (dict, optional): ``encoder``, ``schedule``, ``metric``
            (configs), ``num_steps`` (N; several are drawn from),
            ``inference_steps`` (K), ``loss_weight`` (one number, or one for
            each level) and ``dirac_ratio`` (beta_d, the share of a batch
            that keeps its own teacher sample).
        backbone (dict, optional): Overrides of ``student.backbone``;
            ``mmdet.apis.init_detector`` writes ``init_cfg`` there.

    Raises:
        ConfigError: If tap, levels, strides, checkpoint or settings do not
            fit; the message names the config key to change.
        ImportError: If mmdet or mmcv is missing.
    """

    library = 'mmdet'

    def __init__(self,
                 student: Union[str, dict],
                 teacher: Optional[dict] = None,
                 variant: str = 'fmkt',
                 tap: str = 'neck',
                 levels: Optional[Sequence[int]] = None,
                 flow: Optional[dict] = None,
                 backbone: Optional[dict] = None) -> None:
        require('mmcv', 'mmdet')
        flow = complete_flow(flow)
        if variant not in VARIANTS:
            raise ConfigError(f'model.variant must be one of '
                             f'{", ".join(VARIANTS)}, but is {variant!r}.')
        student_cfg = load_model_config(student, 'model.student')
        if backbone:
            student_cfg.backbone.update(backbone)
        student_net = build_network(student_cfg, self.library)
        teacher_net, preprocessor = None, student_net.data_preprocessor
        if teacher is not None:
            teacher_cfg = load_teacher_config(teacher)
            teacher_net = build_teacher(teacher_cfg, self.library,
                                        teacher.get('checkpoint'))
            if not same_view(
                    student_cfg.get('data_preprocessor'),
                    teacher_cfg.get('data_preprocessor')):
                preprocessor = PairDataPreprocessor(
                    preprocessor, teacher_net.data_preprocessor)
        super().__init__(student_net, teacher_net, preprocessor)

        self.tap = tap
        student_specs = probe(student_net, tap, 'student')
        self.levels = check_levels(levels, student_specs, tap, 'student')
        teacher_specs = None
        if teacher_net is not None:
            teacher_specs = probe(teacher_net, tap, 'teacher')
            check_levels(self.levels, teacher_specs, tap, 'teacher')
            check_strides(self.levels, student_specs, teacher_specs, tap)
        self.step_count = StepCount(flow.num_steps)
        self.inference_steps = flow.inference_steps
        self.dirac_ratio = flow.dirac_ratio
        self.flows = self._build_flows(variant, flow, student_specs,
                                       teacher_specs)

    def _build_flows(self, variant: str, flow: dict,
                     student: List[LevelSpec],
                     teacher: Optional[List[LevelSpec]]) -> nn.ModuleDict:
        """Build one flow for each tapped level."""
        weights = flow.loss_weight
        if not isinstance(weights, Sequence):
            weights = [weights] * len(self.levels)
        if len(weights) != len(self.levels):
            raise ConfigError(
                f'model.flow.loss_weight has {len(weights)} values for '
                f'{len(self.levels)} levels; give one for each of '
                f'model.levels {tuple(self.levels)}, or one for all.')
        flows = nn.ModuleDict()
        for level, weight in zip(self.levels, weights):
            channels = student[level].channels
            wanted = flow.encoder.get('channels', channels)
            if wanted != channels:
                raise ConfigError(
                    f'model.flow.encoder.channels is {wanted}, but level '
                    f'{level} of tap {self.tap!r} has {channels} channels; '
                    'leave the key out to follow the student.')
            flows[str(level)] = VARIANTS[variant](
                channels,
                None if teacher is None else teacher[level].channels,
                encoder=flow.encoder,
                schedule=flow.schedule,
                metric=flow.metric,
                loss_weight=weight)
        return flows

    @property
    def deploys_flow(self) -> bool:
        """Whether the deployed student carries the flow."""
        return next(iter(self.flows.values())).deploys_flow

    def forward(self,
                inputs: Tensor,
                data_samples: Optional[List[BaseDataElement]] = None,
                mode: str = 'tensor',
                teacher_inputs: Optional[Tensor] = None) -> Any:
        """Run the student with the flow.

        Args:
            inputs (Tensor): Normalised images ``(B, 3, H, W)``.
            data_samples (list, optional): Annotations and meta data.
            mode (str): ``'loss'``, ``'predict'`` or ``'tensor'``.
            teacher_inputs (Tensor, optional): The same images as the teacher
                wants them; None where it sees them alike.

        Returns:
            What the student gives in that mode; in ``'loss'`` with the
            losses of the flow.
        """
        if mode == 'loss':
            if teacher_inputs is None:
                teacher_inputs = inputs
            return self._loss(inputs, data_samples, teacher_inputs)
        tapped = nullcontext()
        if self.deploys_flow:
            tapped = listening(
                find_module(self.student, self.tap, 'student'),
                self._transport)
        with tapped:
            return self.student(inputs, data_samples, mode=mode)

    def _transport(self, output: Any) -> Any:
        """Replace the tapped levels by the transferred ones."""
        levels = as_levels(output, self.tap)
        for name, flow in self.flows.items():
            levels[int(name)] = flow.transport(levels[int(name)],
                                               self.inference_steps)
        return like_output(output, levels)

    def _loss(self, inputs: Tensor, data_samples: List[BaseDataElement],
              teacher_inputs: Tensor) -> Dict[str, Tensor]:
        """The student's own losses and those of the flow."""
        if self.teacher is None:
            raise RuntimeError(
                'A distiller without a teacher only predicts; set '
                'model.teacher to train it.')
        with torch.no_grad():
            targets = read_tap(self.teacher, self.tap, teacher_inputs,
                               'teacher')
        if self.dirac_ratio < 1:
            order = decouple_pairs(
                len(inputs), self.dirac_ratio, device=inputs.device)
            targets = [target[order] for target in targets]
        num_steps = self.step_count.draw()
        losses: Dict[str, Tensor] = {}

        def transfer(output: Any) -> Any:
            levels = as_levels(output, self.tap)
            for name, flow in self.flows.items():
                source = levels[int(name)]
                # At equal strides a larger map is one with more padding.
                height, width = source.shape[-2:]
                target = targets[int(name)][..., :height, :width]
                parts, levels[int(name)] = flow(source, target, num_steps)
                losses.update({
                    f'{self.tap}.{name}.{part}': loss
                    for part, loss in parts.items()
                })
            return like_output(output, levels)

        with listening(
                find_module(self.student, self.tap, 'student'), transfer):
            losses.update(self.student(inputs, data_samples, mode='loss'))
        return losses

    def _adapt_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        super()._adapt_state_dict(state_dict, prefix, *args)
        if self.teacher is None:
            # A full checkpoint also has what only training needs.
            own = self.state_dict(prefix=prefix)
            for key in list(state_dict):
                if key.startswith(f'{prefix}flows.') and key not in own:
                    del state_dict[key]


def complete_flow(flow: Optional[dict]) -> ConfigDict:
    """Fill a flow config with the defaults and check its plain values.

    Args:
        flow (dict, optional): ``model.flow`` of a config.

    Raises:
        ConfigError: If a key is unknown or a value out of range.
    """
    flow = {k: v for k, v in (flow or {}).items() if k != '_scope_'}
    unknown = set(flow) - set(FLOW_DEFAULTS)
    if unknown:
        raise ConfigError(
            f'model.flow has no key {", ".join(sorted(unknown))}; its keys '
            f'are {", ".join(FLOW_DEFAULTS)}.')
    flow = ConfigDict({**FLOW_DEFAULTS, **flow})
    if not isinstance(flow.inference_steps, int) or flow.inference_steps < 1:
        raise ConfigError('model.flow.inference_steps must be a positive '
                         f'integer, but is {flow.inference_steps!r}.')
    if not 0 <= flow.dirac_ratio <= 1:
        raise ConfigError('model.flow.dirac_ratio must lie in [0, 1], but is '
                         f'{flow.dirac_ratio!r}.')
    return flow


def check_levels(levels: Optional[Sequence[int]], specs: List[LevelSpec],
                 tap: str, role: str) -> List[int]:
    """Return the tapped levels, all where none are named.

    Raises:
        ConfigError: If there is no such level.
    """
    if levels is None:
        return list(range(len(specs)))
    for level in levels:
        if not isinstance(level, int) or not 0 <= level < len(specs):
            raise ConfigError(
                f'model.levels asks for level {level!r}, but tap {tap!r} of '
                f'the {role} gives the levels 0 to {len(specs) - 1}.')
    if not levels or len(set(levels)) < len(levels):
        raise ConfigError('model.levels must name one level or more, each '
                         f'once, but is {tuple(levels)}.')
    return list(levels)


def check_strides(levels: Sequence[int], student: List[LevelSpec],
                  teacher: List[LevelSpec], tap: str) -> None:
    """Insist that paired levels cover the image alike.

    Raises:
        ConfigError: If the strides of a level differ.
    """
    for level in levels:
        ours, theirs = student[level].stride, teacher[level].stride
        if ours != theirs:
            raise ConfigError(
                f'Level {level} of tap {tap!r} has stride {ours:g} in the '
                f'student and {theirs:g} in the teacher; choose model.levels '
                'that agree, or give the teacher the same pyramid with '
                'model.teacher.cfg_options.')
