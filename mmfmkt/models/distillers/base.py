"""Base class of the distillers: a student, its flows and a teacher."""

import logging
from functools import partial
from typing import (
    Any,
    ContextManager,
    Dict,
    List,
    Literal,
    Optional,
    Sequence,
    Tuple,
)

import torch
from mmengine.config import ConfigDict
from mmengine.logging import print_log
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmfmkt.utils import ConfigError, require
from mmfmkt.utils.random_stream import RandomStream
from mmfmkt.utils.schema import check_arguments
from mmfmkt.utils.stopwatch import Stopwatch

from ..flows import VARIANTS
from .builder import complete_taps
from .data_pipeline import dataset_of, training_config
from .deployed_student import DeployedStudent
from .feature_pairs import pair_features, student_features
from .feature_transfer import FeatureTransfer, set_epoch, should_diagnose
from .gradient_share import GradientShare
from .networks import ConfigSource, build_student
from .taps import output_hooks
from .teacher import TeacherHolder
from .unlabelled import freeze_untapped
from .wrapper import FLOWS


class BaseDistiller(DeployedStudent):
    """Base class: a student with flows that a teacher supervises.

    Forward hooks read, and may replace, the outputs of the student's tapped
    modules. Teacher and flows draw random numbers from a separate stream, so
    the student's random numbers do not depend on them.

    Args:
        student, teacher, variant, tap, levels, flow, taps,
            data_preprocessor, backbone, task_loss: See `DetectionDistiller`.
            MMEngine's Runner passes the top-level ``data_preprocessor`` of a
            config.

    Attributes:
        library (str): Default scope of the networks' configs.
        packages (tuple[str]): Required packages.
        default_tap (str): Default of ``tap``.
        head_defaults (dict): Defaults of ``flow`` for the tap ``'head'``.
        transfer_weight (float): Factor of the transfer's losses, set by
            TransferWeightHook. At 0 the teacher does not run.

    Raises:
        ConfigError: If a setting is invalid; the message names its key.
        ImportError: If a package is missing.
    """

    library: str
    packages: Tuple[str, ...]
    default_tap: str
    head_defaults: Dict[str, Any] = {}
    # Class attributes, which StudentWrapper does not set in the student.
    transfer_weight = 1.0
    task_loss = True

    def __init__(
        self,
        student: ConfigSource,
        teacher: Optional[dict] = None,
        variant: Literal[tuple(VARIANTS)] = 'fmkt',
        tap: Optional[str] = None,
        levels: Optional[Sequence[int]] = None,
        flow: Optional[dict] = None,
        taps: Optional[Sequence[dict]] = None,
        data_preprocessor: Optional[dict] = None,
        backbone: Optional[dict] = None,
        task_loss: bool = True,
    ) -> None:
        require('torch', 'mmengine', *self.packages)
        check_arguments(
            BaseDistiller,
            dict(
                student=student,
                variant=variant,
                tap=tap,
                teacher=teacher,
                levels=levels,
                flow=flow,
                taps=taps,
                task_loss=task_loss,
            ),
            'model',
        )
        if teacher is not None and not VARIANTS[variant].needs_teacher:
            raise ConfigError(
                f'model.variant {variant!r} learns without a teacher; set '
                'model.teacher to None.'
            )
        tap = self.default_tap if tap is None else tap
        super().__init__(
            build_student(student, data_preprocessor, backbone, self.library)
        )
        self.random_stream = RandomStream()
        self.teacher_stopwatch = Stopwatch()
        self.variant = variant
        self.teacher_holder: Optional[TeacherHolder] = None
        with self.random_stream:
            if teacher is not None:
                holder = TeacherHolder(teacher, self.library, self.student)
                self.teacher_holder = holder
                if holder.is_backbone:
                    # A classifier teaches a detector: the classifier's neck
                    # outputs vectors, so its backbone is tapped by default.
                    teacher = {'tap': 'backbone', **teacher}
            for settings in complete_taps(
                tap, levels, flow, taps, teacher, self.head_defaults
            ):
                # Names of modules must not contain dots.
                name = settings['tap'].replace('.', '-')
                self.flows[name] = self._build_transfer(**settings)
        if teacher is not None:
            self.teacher_holder.prepare_taps()
        self.task_loss = task_loss
        if not task_loss:
            freeze_untapped(self.student, variant, self.flows.values())

    def init_weights(self) -> None:
        """Initialize the student, including weights from the teacher.

        Raises:
            ConfigError: If ``loss_weight='auto'`` has no gradient to measure,
                or as `set_teacher_dataset`.
        """
        for module in self.flows.modules():
            if isinstance(module, GradientShare) and module.starts_at_zero:
                raise ConfigError(
                    "model.flow.loss_weight='auto' needs distillation losses "
                    'with a gradient at the start. That of the variant online '
                    "and of compare='velocities' without a direct term is 0: "
                    'set model.flow.loss_weight to a number.'
                )
        super().init_weights()
        if self.teacher_holder is not None:
            if self.teacher_holder.checkpoint is None:
                print_log(
                    'model.teacher.checkpoint is None: random weights.',
                    'current',
                    logging.WARNING,
                )
            inherited = self.teacher_holder.inherited_weights(self.student)
            self.student.load_state_dict(inherited, strict=False)
        # MMEngine's Runner publishes its config before it calls this method.
        self.set_teacher_dataset(dataset_of(training_config()))
        for summary in self.class_summary:
            print_log(f'{summary}.', logger='current')

    def set_teacher_dataset(self, dataset: Any) -> None:
        """Set the student's data set.

        Its pipeline determines how images are converted for the teacher, and
        its class names are matched to the teacher's if classes are compared.

        Args:
            dataset (Dataset | dict, optional): The data set, or its config;
                None: the images have no data pipeline.

        Raises:
            ConfigError: If the images cannot be converted, or if the classes
                cannot be matched.
        """
        holder = self.teacher_holder
        if holder is not None:
            holder.set_student_data(self.data_preprocessor, dataset)
            for transfer in self.flows.values():
                transfer.match_classes(holder, dataset)

    def _build_transfer(
        self,
        tap: str,
        levels: Optional[Sequence[int]],
        flow: ConfigDict,
        teacher_tap: str,
    ) -> FeatureTransfer:
        """Build the transfer of a tap, and check it against both networks."""
        if self.teacher is None:
            features = student_features(
                self.student,
                tap,
                levels,
                VARIANTS[self.variant].needs_teacher,
            )
            return FeatureTransfer(tap, features, self.variant, flow)
        pairs, features, class_outputs = pair_features(
            self.student, self.teacher_holder, (tap, teacher_tap), levels
        )
        self.teacher_holder.taps[tap] = (teacher_tap, pairs)
        transfer = FeatureTransfer(tap, features, self.variant, flow)
        transfer.class_outputs = class_outputs
        return transfer

    @property
    def teacher(self) -> Optional[nn.Module]:
        """The teacher, or None."""
        return self.teacher_holder and self.teacher_holder.network

    @property
    def class_summary(self) -> List[str]:
        """Compared classes of each tap where student and teacher differ."""
        transfers = [x for x in self.flows.values() if x.class_summary]
        return [f'{x.tap}: {x.class_summary}' for x in transfers]

    def forward(
        self,
        inputs: Tensor,
        data_samples: Optional[List[BaseDataElement]] = None,
        mode: str = 'tensor',
    ) -> Any:
        """Run the student with the flow.

        Args:
            inputs (Tensor): Normalized images ``(B, C, H, W)``.
            data_samples (list, optional): Annotations and meta data.
            mode (str): ``'loss'``, ``'predict'`` or ``'tensor'``.

        Returns:
            Result of the student's ``forward``; in mode ``'loss'`` the losses
            of student and flow.
        """
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        return super().forward(inputs, data_samples, mode)

    def loss(
        self, inputs: Tensor, data_samples: List[BaseDataElement]
    ) -> Dict[str, Tensor]:
        """Return the losses of the student and of the flow."""
        losses: Dict[str, Tensor] = {}
        targets = self.read_teacher(inputs, data_samples)
        with self._training_flows(targets, losses):
            if self.task_loss:
                losses.update(self.student(inputs, data_samples, mode='loss'))
            else:
                self.student.extract_feat(inputs)
        return losses

    def _training_flows(
        self, targets: Dict[str, Any], losses: Dict[str, Tensor]
    ) -> ContextManager:
        """Return the context of a training forward pass, in which transferred
        features replace tapped outputs.

        Args:
            targets (dict): The teacher's outputs by tap.
            losses (dict[str, Tensor]): Dict to which the losses of the
                transfers are added.
        """

        def replace_output(transfer: FeatureTransfer, output: Any) -> Any:
            target = targets.get(transfer.tap)
            with self.random_stream:
                transfer_losses, output = transfer(
                    output, target, self.transfer_weight, should_diagnose()
                )
            losses.update(transfer_losses)
            return output

        set_epoch(self.flows)
        transfers = self.feature_transfers
        hooks = [(x.tap, partial(replace_output, x)) for x in transfers]
        return output_hooks(self.student, hooks)

    @torch.no_grad()
    def read_teacher(
        self, inputs: Tensor, data_samples: List[BaseDataElement]
    ) -> Dict[str, Any]:
        """Run the teacher.

        Args:
            inputs (Tensor): Images of the student, ``(B, C, H, W)``.
            data_samples (list): Meta data.

        Returns:
            dict: The teacher's outputs by tap of the student; empty if the
            variant needs no teacher or ``transfer_weight`` is 0.

        Raises:
            ConfigError: If the variant needs a teacher and has none.
        """
        if not VARIANTS[self.variant].needs_teacher or (
            self.teacher is not None and not self.transfer_weight
        ):
            return {}
        if self.teacher is None:
            raise ConfigError(
                'model.teacher is None: the distiller can only predict; set '
                'model.teacher to train it.'
            )
        with self.random_stream, self.teacher_stopwatch.on(inputs.device):
            targets = self.teacher_holder.outputs(inputs, data_samples)
        return {
            transfer.tap: transfer.in_student_classes(targets[transfer.tap])
            for transfer in self.flows.values()
        }

    def _apply(self, fn, *args, **kwargs):
        """Apply to(), cuda() and half() to the teacher as well."""
        super()._apply(fn, *args, **kwargs)
        if self.teacher_holder is not None:
            self.teacher_holder.apply_to_tensors(fn, *args, **kwargs)
        return self

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Without a teacher, ignore the training parameters of the flows."""
        if self.teacher is None:
            flows_prefix = f'{prefix}{FLOWS}.'
            expected = self.flows.state_dict(prefix=flows_prefix)
            for name in list(state_dict):
                if name.startswith(flows_prefix) and name not in expected:
                    del state_dict[name]
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
