"""DetectionDistiller: any MMDetection detector under any other.

It listens at a named module of the student with a forward hook and may put
the flow's output in the place of the module's own; no detector is
subclassed.
"""

from contextlib import ExitStack
from functools import partial
from typing import Any, Callable, Dict, List, Optional, Sequence, Union

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmfmkt.registry import MODELS
from mmfmkt.utils import ConfigError, require

from ..flows import VARIANTS
from .base import BaseDistiller
from .data_preprocessor import PairDataPreprocessor, same_view
from .networks import (
    build_network,
    build_teacher,
    load_model_config,
    load_teacher_config,
)
from .tap_flow import TapFlow, complete_flow
from .taps import LevelSpec, find_module, listening, probe, read_taps

@MODELS.register_module()
class DetectionDistiller(BaseDistiller):
    """Trains a detector under a bigger one by flow matching (FM-KT).

    In training the levels of the tap flow towards the teacher's; the losses
    are the student's own and, for each level, ``<tap>.<level>.loss_flow``
    and what else the variant has. Beside them ``<tap>.<level>.ensemble`` is
    logged, the loss of the mean of the estimates, which is what is deployed.
    Prediction is the student's own, with the flow in front of its head where
    the variant deploys it.

    Args:
        student (str | dict): Student: a config file, a packaged config
            (``'mmdet::...'``) or a ``model`` dict.
        teacher (dict, optional): ``config`` (as ``student``),
            ``checkpoint`` (path, URL, or None for random weights) and,
            optionally, ``cfg_options``, which override the teacher's model
            config by dotted keys. None is enough for inference, and for the
            variant ``'online'``.
        variant (str): ``'fmkt'``: the student's head reads the transferred
            feature, in training and after. ``'theta'``: the flow only
            teaches; the plain student is deployed. ``'online'``: as fmkt,
            without a teacher. ``'parallel'``: fmkt trained on interpolated
            states, an ablation. ``'direct'``: the metric without a flow.
        tap (str): Path of the tapped module in both networks.
        levels (Sequence[int], optional): Indices of the tapped levels; None
            taps all.
        flow (dict, optional): ``encoder``, ``schedule``, ``metric``
            (configs), ``num_steps`` (N; several are drawn from),
            ``inference_steps`` (K), ``loss_weight`` (one number, or one for
            each level), ``dirac_ratio`` (beta_d, the share of a batch that
            keeps its own teacher sample), ``prediction``, ``compare`` and
            ``direct_weight`` (see :class:`FlowTransfer`).
        taps (Sequence[dict], optional): Several taps in the place of one:
            each has ``tap``, ``levels`` and ``flow``; what its flow leaves
            out is as in ``flow`` above.
        backbone (dict, optional): Overrides of ``student.backbone``;
            ``mmdet.apis.init_detector`` writes ``init_cfg`` there.

    Attributes:
        transfer_weight (float): Factor of the transfer's losses;
            TransferWeightHook changes it in the course of training. At 0 the
            teacher rests.

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
                 taps: Optional[Sequence[dict]] = None,
                 backbone: Optional[dict] = None) -> None:
        require('mmcv', 'mmdet')
        if variant not in VARIANTS:
            raise ConfigError(f'model.variant must be one of '
                             f'{", ".join(VARIANTS)}, but is {variant!r}.')
        self_taught = not VARIANTS[variant].needs_teacher
        if self_taught and teacher is not None:
            raise ConfigError(f'model.variant {variant!r} learns without a '
                              'teacher; set model.teacher to None.')
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

        self.variant = variant
        self.transfer_weight = 1.
        self.flows = nn.ModuleDict()
        for settings in complete_taps(tap, levels, flow, taps):
            # A dot would part the names of modules.
            self.flows[settings['tap'].replace('.', '-')] = self._build_flow(
                **settings)

    def _build_flow(self, tap: str, levels: Optional[Sequence[int]],
                    flow: dict) -> TapFlow:
        """Build the flows of a tap and check them against both networks."""
        student = probe(self.student, tap, 'student')
        levels = check_levels(levels, student, tap, 'student')
        teacher = None
        if self.teacher is not None:
            teacher = probe(self.teacher, tap, 'teacher')
            check_levels(levels, teacher, tap, 'teacher')
            check_strides(levels, student, teacher, tap)
        return TapFlow(tap, levels, student, teacher, self.variant, flow)

    @property
    def deploys_flow(self) -> bool:
        """Whether the deployed student carries the flow."""
        return VARIANTS[self.variant].deploys_flow

    @property
    def inference_steps(self) -> int:
        """K; setting it changes that of every tap."""
        return next(iter(self.flows.values())).inference_steps

    @inference_steps.setter
    def inference_steps(self, value: int) -> None:
        for flow in self.flows.values():
            flow.inference_steps = value

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
        with ExitStack() as tapped:
            if self.deploys_flow:
                for flow in self.flows.values():
                    self._listen(tapped, flow.tap, flow.transport)
            return self.student(inputs, data_samples, mode=mode)

    def _listen(self, stack: ExitStack, tap: str,
                on_output: Callable[[Any], Any]) -> None:
        module = find_module(self.student, tap, 'student')
        stack.enter_context(listening(module, on_output))

    def _loss(self, inputs: Tensor, data_samples: List[BaseDataElement],
              teacher_inputs: Tensor) -> Dict[str, Tensor]:
        """The student's own losses and those of the flow."""
        losses: Dict[str, Tensor] = {}
        targets = self._read_teacher(teacher_inputs)

        def transfer(flow: TapFlow, output: Any) -> Any:
            parts, output = flow.transfer(output, targets.get(flow.tap),
                                          self.transfer_weight)
            losses.update(parts)
            return output

        with ExitStack() as tapped:
            for flow in self.flows.values():
                self._listen(tapped, flow.tap, partial(transfer, flow))
            losses.update(self.student(inputs, data_samples, mode='loss'))
        return losses

    @torch.no_grad()
    def _read_teacher(self, inputs: Tensor) -> Dict[str, List[Tensor]]:
        """The teacher's levels by tap; none while the transfer is stopped."""
        if not VARIANTS[self.variant].needs_teacher or (
                self.teacher is not None and not self.transfer_weight):
            return {}
        if self.teacher is None:
            raise RuntimeError(
                'A distiller without a teacher only predicts; set '
                'model.teacher to train it.')
        taps = [flow.tap for flow in self.flows.values()]
        return dict(zip(taps, read_taps(self.teacher, taps, inputs,
                                        'teacher')))

    def _adapt_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        super()._adapt_state_dict(state_dict, prefix, *args)
        if self.teacher is None:
            # A full checkpoint also has what only training needs.
            own = self.state_dict(prefix=prefix)
            for key in list(state_dict):
                if key.startswith(f'{prefix}flows.') and key not in own:
                    del state_dict[key]


def complete_taps(tap: str, levels: Optional[Sequence[int]],
                  flow: Optional[dict],
                  taps: Optional[Sequence[dict]]) -> List[dict]:
    """Return ``tap``, ``levels`` and a complete ``flow`` for each tap.

    Raises:
        ConfigError: If there is no tap, one twice, or an unknown key.
    """
    if taps is None:
        return [dict(tap=tap, levels=levels, flow=complete_flow(flow))]
    completed = []
    for own in taps:
        own = {k: v for k, v in own.items() if k != '_scope_'}
        if 'tap' not in own or set(own) - {'tap', 'levels', 'flow'}:
            raise ConfigError('Each of model.taps takes the keys tap, levels '
                              f'and flow, but has {", ".join(sorted(own))}.')
        completed.append(
            dict(
                tap=own['tap'],
                levels=own.get('levels'),
                flow=complete_flow({**(flow or {}), **own.get('flow', {})})))
    names = [settings['tap'] for settings in completed]
    if not names or len(set(names)) < len(names):
        raise ConfigError('model.taps must name one tap or more, each once, '
                          f'but names {names}.')
    return completed


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
