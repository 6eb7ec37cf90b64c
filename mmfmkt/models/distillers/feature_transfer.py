"""Transfers between feature maps: one for each level of a tap."""

from copy import deepcopy
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import torch
from mmengine.config import ConfigDict
from mmengine.logging import MessageHub
from torch import Tensor, nn

from mmfmkt.utils import ConfigError

from ..flows import ParallelFMKT, decouple_pairs
from ..losses import BaseMetricLoss, DISTLoss, DKDLoss, KDLoss
from ..tensor_ops import select_classes
from .builder import FeaturePair, build_transfer
from .gradient_share import eager_while_measuring, weigh
from .shared_classes import ClassPair
from .step_count import StepCount
from .taps import as_levels, replace_levels
from .teacher import TeacherHolder

# Intervals of MMEngine's LoggerHook are usually multiples of 10 iterations.
DIAGNOSIS_INTERVAL = 10
# Losses of distributions over classes, which are constant for one class.
DISTRIBUTIONS = (KDLoss, DKDLoss, DISTLoss)


class TapTransfer(nn.ModuleDict):
    """Base class of the transfers of one tap, which share settings.

    Args:
        tap (str): Path of the tapped module.
        flow (ConfigDict): Complete settings.

    Attributes:
        log_name (str): The tap without brackets, which MLflow rejects.
        inference_steps (int): Number K of Euler steps at inference.
        step_count (StepCount): Number N of Euler steps in training.
        class_outputs (tuple[ClassOutputs, ClassOutputs], optional): Class
            outputs of student and teacher, if classes are compared.
        teacher_classes (Tensor, optional): Index of the teacher's class
            output for each class output of the student; None: equal indices.
        class_summary (str): Description of the compared classes; empty if
            the classes of student and teacher are equal.
    """

    class_outputs: Optional[ClassPair] = None
    # Not a buffer: averaged copies of the model must have the same buffers,
    # and MMEngine makes them before the classes are matched.
    teacher_classes: Optional[Tensor] = None
    class_summary = ''

    def __init__(self, tap: str, flow: ConfigDict) -> None:
        super().__init__()
        self.tap = tap
        self.log_name = tap.replace('[', '.').replace(']', '')
        self.inference_steps = flow.inference_steps
        self.dirac_ratio = flow.dirac_ratio
        self.step_count = StepCount(flow.num_steps)

    def match_classes(self, teacher: TeacherHolder, dataset: Any) -> None:
        """Restrict the losses to the classes that student and teacher share.

        Args:
            teacher (TeacherHolder): The teacher.
            dataset (Dataset | dict, optional): Data set of the student, or
                its config.

        Raises:
            ConfigError: If classes cannot be matched by name, or if some are
                not shared and the variant or the metric needs all of them.
        """
        if self.class_outputs is None:
            return
        matched, summary = teacher.match_classes(self.class_outputs, dataset)
        if matched is None:
            return
        self.num_teacher_classes = self.class_outputs[1].channels
        is_equal = matched == [*range(self.num_teacher_classes)]
        # Index 0 is a placeholder for outputs that are not compared.
        indices = torch.tensor([x or 0 for x in matched])
        self.teacher_classes = None if is_equal else indices
        self.class_summary = '' if is_equal else summary
        shared = [i for i, x in enumerate(matched) if x is not None]
        self._compare_classes(shared, len(matched))

    def _compare_classes(self, shared: List[int], total: int) -> None:
        """Restrict the distillation losses to shared classes.

        Args:
            shared (list[int]): Indices of the student's class outputs that
                the teacher has as well.
            total (int): Number of the student's class outputs.
        """
        compared = None
        if len(shared) < total:
            compared = torch.tensor(shared)
        for transfer in self.values():
            needs_all = (
                transfer.metric.needs_labels
                or isinstance(transfer, ParallelFMKT)
                or getattr(transfer, 'compare', 'targets') != 'targets'
            )
            if needs_all and compared is not None:
                raise ConfigError(
                    f'The teacher has only {len(shared)} of {total} classes '
                    f'of the student, but at the tap {self.tap!r} '
                    f'{type(transfer).__name__} with '
                    f'{type(transfer.metric).__name__} needs all of them: set '
                    'model.flow.metric to a loss without labels, such as '
                    "KDLoss, model.flow.compare to 'targets' and "
                    "model.variant to 'fmkt', 'theta' or 'direct', or name "
                    'all classes in model.teacher.classes.'
                )
            # CWDLoss is a KDLoss of maps, with distributions over positions.
            is_over_classes = (
                isinstance(transfer.metric, DISTRIBUTIONS)
                and 'logits' in transfer.metric.spaces
            )
            if len(shared) == 1 and is_over_classes:
                raise ConfigError(
                    'Student and teacher have one class in common, but at the '
                    f'tap {self.tap!r} {type(transfer.metric).__name__} '
                    'compares distributions over classes: tap feature maps, '
                    'or name more classes in model.teacher.classes.'
                )
            transfer.metric.compare_classes(compared, total)

    def in_student_classes(
        self, target: Union[Tensor, Dict[int, Tensor]]
    ) -> Union[Tensor, Dict[int, Tensor]]:
        """Return the teacher's outputs in the order of the student's classes.

        Args:
            target (Tensor | dict[int, Tensor]): The teacher's logits, or its
                class maps by level.

        Raises:
            ConfigError: If the numbers of classes differ and the classes have
                not been matched.
        """
        if self.teacher_classes is None:
            student, teacher = self.class_outputs or (None, None)
            if student != teacher:
                raise ConfigError(
                    f'The student has {student.classes} classes and the '
                    f'teacher {teacher.classes}: call set_teacher_dataset of '
                    'the distiller with the training data set, whose classes '
                    'are matched by name.'
                )
            return target
        if isinstance(target, dict):
            return {k: self.in_student_classes(x) for k, x in target.items()}
        self.teacher_classes = self.teacher_classes.to(target.device)
        return select_classes(
            target, self.teacher_classes, self.num_teacher_classes
        )

    def draw_permutation(self, source: Tensor) -> Optional[Tensor]:
        """Draw a permutation of the targets; None: every pair is kept."""
        if self.dirac_ratio == 1:
            return None
        return decouple_pairs(
            len(source), self.dirac_ratio, device=source.device
        )


class FeatureTransfer(TapTransfer):
    """Transfers of feature maps, by tapped level of the student.

    Args:
        tap (str): Path of the tapped module.
        features (dict[int, FeaturePair]): Features of the tapped levels.
        variant (str): A key of ``VARIANTS``.
        flow (ConfigDict): Complete settings.

    Raises:
        ConfigError: If a setting has another number of values than there are
            levels, or does not suit their channels.
    """

    def __init__(
        self,
        tap: str,
        features: Dict[int, FeaturePair],
        variant: str,
        flow: ConfigDict,
    ) -> None:
        super().__init__(tap, flow)
        if flow.share_encoder and isinstance(flow.encoder, (list, tuple)):
            raise ConfigError(
                'model.flow.share_encoder shares one encoder, but '
                'model.flow.encoder has one for each level.'
            )
        self.stride_ratios = {
            str(level): pair.stride_ratio for level, pair in features.items()
        }
        levels = list(features)
        weights = per_level(flow.loss_weight, levels, 'loss_weight')
        # A built encoder is copied for each level.
        encoders = map(deepcopy, per_level(flow.encoder, levels, 'encoder'))
        for level, weight, encoder in zip(levels, weights, encoders):
            if flow.share_encoder and len(self):
                field = next(iter(self.values())).field
                encoder = field and field.encoder
            self[str(level)] = build_transfer(
                variant,
                features[level],
                flow,
                weight,
                encoder,
                f'{tap}.{level}',
            )

    def sample(self, output: Any) -> Any:
        """Return the deployed output: the tapped one with sampled levels.

        Args:
            output (Tensor | Sequence[Tensor]): Output of the tapped module.
        """
        levels = as_levels(output, self.tap)
        for name, transfer in self.items():
            levels[int(name)] = transfer.sample(
                levels[int(name)], self.inference_steps
            )
        return replace_levels(output, levels, self.tap)

    def crop(self, target: Tensor, source: Tensor, name: str) -> Tensor:
        """Return the teacher's map of a level without the padding that a
        larger map has, which is at the right and the bottom."""
        height, width = (
            max(1, round(x * self.stride_ratios[name]))
            for x in source.shape[-2:]
        )
        return target[..., :height, :width]

    def forward(
        self,
        output: Any,
        targets: Optional[Dict[int, Tensor]],
        weight: float,
        diagnose: bool = False,
    ) -> Tuple[Dict[str, Tensor], Any]:
        """Return losses and the tapped output with transferred levels.

        Args:
            output (Tensor | Sequence[Tensor]): Output of the tapped module.
            targets (dict[int, Tensor], optional): The teacher's levels, by
                level of the student; None without a teacher and while the
                transfer weight is 0.
            weight (float): Factor of the losses.
            diagnose (bool): Whether to add ``metric_of_mean``.

        Returns:
            tuple: Losses named ``<tap>.<level>.<term>``, and the output with
            the transferred levels.
        """
        levels = as_levels(output, self.tap)
        num_steps = self.step_count.draw()
        permutation = None
        if targets is not None:
            permutation = self.draw_permutation(levels[0])
        losses = {}
        for name, transfer in self.items():
            source, target = levels[int(name)], None
            if targets is not None:
                target = self.crop(targets[int(name)], source, name)
                # Some students run several branches as one batch; all branches
                # have the same target.
                branches = len(source) // len(target)
                if branches > 1:
                    target = target.repeat(branches, 1, 1, 1)
            with eager_while_measuring(transfer):
                terms, levels[int(name)] = transfer(
                    source,
                    target,
                    num_steps,
                    permutation=permutation,
                    diagnose=diagnose,
                )
            terms = weigh(transfer, source, terms, weight)
            for term, loss in terms.items():
                losses[f'{self.log_name}.{name}.{term}'] = loss
        return losses, replace_levels(output, levels, self.tap)


def per_level(value: Any, levels: Sequence[int], key: str) -> Sequence[Any]:
    """Return the values of a setting for all levels.

    Args:
        value (Any): A single value for all levels, or a list with a value for
            each level.
        levels (Sequence[int]): The tapped levels.
        key (str): Key of the setting in ``model.flow``, for errors.

    Raises:
        ConfigError: If the list has another length than ``levels``.
    """
    if not isinstance(value, (list, tuple)):
        return [value] * len(levels)
    if len(value) != len(levels):
        raise ConfigError(
            f'model.flow.{key} has {len(value)} values for '
            f'{len(levels)} levels; give one value for each of model.levels '
            f'{tuple(levels)}, or a single value.'
        )
    return value


def should_diagnose() -> bool:
    """Return whether the Runner may log ``metric_of_mean`` after this
    iteration; False without a Runner."""
    iteration = MessageHub.get_current_instance().runtime_info.get('iter')
    return iteration is not None and (iteration + 1) % DIAGNOSIS_INTERVAL == 0


def set_epoch(flows: nn.Module) -> None:
    """Pass the Runner's epoch to the distillation losses of flows."""
    info = MessageHub.get_current_instance().runtime_info
    epoch = info.get('data_epoch', info.get('epoch'))
    if epoch is not None:
        for module in flows.modules():
            if isinstance(module, BaseMetricLoss):
                module.set_epoch(epoch)
