"""Base class of the distillers: a student, its flows and a teacher."""

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
from mmengine.logging import MessageHub, print_log
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmfmkt.utils import ConfigError, require
from mmfmkt.utils.random_stream import RandomStream
from mmfmkt.utils.schema import check_arguments
from mmfmkt.utils.stopwatch import Stopwatch

from ..flows import VARIANTS
from ..losses import BaseMetricLoss
from .builder import complete_taps
from .data_pipeline import dataset_of, training_config
from .feature_pairs import pair_features, student_features
from .feature_transfer import FeatureTransfer, should_diagnose
from .networks import ConfigSource, build_network, load_model_config
from .taps import HEAD, output_hooks, read_taps
from .teacher import TeacherHolder
from .unlabelled import freeze_untapped
from .wrapper import FLOWS, StudentWrapper


class BaseDistiller(StudentWrapper):
    """Student with flows that are trained with a teacher.

    Forward hooks read and may replace the outputs of tapped modules of the
    student. Teacher and flows draw random numbers from a separate stream.

    Args:
        student, teacher, variant, tap, levels, flow, taps,
            data_preprocessor, backbone, task_loss: See `DetectionDistiller`.
            MMEngine's Runner passes the top-level ``data_preprocessor`` of a
            config.

    Attributes:
        library (str): Default scope of the networks' configs.
        packages (tuple[str]): Required packages.
        default_tap (str), default_flow (dict): Defaults of tap and flow.
        transfer_weight (float): Factor of the transfer's losses, set by
            TransferWeightHook. At 0 the teacher does not run.

    Raises:
        ConfigError: If a setting is invalid; the message names its key.
        ImportError: If a package is missing.
    """

    library: str
    packages: Tuple[str, ...]
    default_tap: str
    default_flow: Dict[str, Any] = {}
    # Declared here so that StudentWrapper does not set them in the student.
    variant = ''
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
        flow = {**self.default_flow, **(flow or {})}
        tap = self.default_tap if tap is None else tap
        student_cfg = load_model_config(student, 'model.student')
        if data_preprocessor is not None:
            student_cfg.setdefault('data_preprocessor', data_preprocessor)
        if backbone is not None:
            student_cfg.backbone.update(backbone)
        super().__init__(build_network(student_cfg, self.library))
        self.random_stream = RandomStream()
        self.teacher_stopwatch = Stopwatch()
        self.variant = variant
        self.teacher_holder: Optional[TeacherHolder] = None
        # By tap: the teacher's tap, and its level by level of the student.
        self.teacher_taps: Dict[str, Tuple[str, Dict[int, int]]] = {}
        with self.random_stream:
            if teacher is not None:
                holder = TeacherHolder(teacher, self.library, self.student)
                self.teacher_holder = holder
                if holder.library == 'mmpretrain' != self.library:
                    # The neck of a classifier outputs vectors.
                    teacher = {'tap': 'backbone', **teacher}
            for settings in complete_taps(tap, levels, flow, taps, teacher):
                # Names of modules must not contain dots.
                name = settings['tap'].replace('.', '-')
                self.flows[name] = self._build_transfer(**settings)
        if teacher is not None:
            self.teacher_holder.set_taps(self.teacher_taps)
        self.task_loss = task_loss
        if not task_loss:
            freeze_untapped(self.student, variant, self.flows.values())

    def init_weights(self) -> None:
        """Initialize the student, including weights from the teacher."""
        super().init_weights()
        if self.teacher_holder is not None:
            inherited = self.teacher_holder.inherited_weights(self.student)
            self.student.load_state_dict(inherited, strict=False)
        # MMEngine's Runner has published its config before.
        self.set_teacher_dataset(dataset_of(training_config()))
        for line in self.class_summary:
            print_log(f'{line}.', logger='current')

    def set_teacher_dataset(self, dataset: Any) -> None:
        """Set the data set whose images are converted for the teacher.

        Classes that are compared are matched by their names in the data set.

        Args:
            dataset (Dataset | dict, optional): The data set, or its config;
                None: images without a pipeline.

        Raises:
            ConfigError: If the images cannot be converted, or if the classes
                cannot be matched.
        """
        holder = self.teacher_holder
        if holder is not None:
            holder.set_student_data(self.data_preprocessor, dataset)
            for flow in self.flows.values():
                flow.match_classes(holder, dataset)

    def _build_transfer(
        self,
        tap: str,
        levels: Optional[Sequence[int]],
        flow: ConfigDict,
        teacher_tap: str,
    ) -> FeatureTransfer:
        """Build the transfer of a tap, and check it against both networks."""
        if self.teacher is None:
            has_teacher = VARIANTS[self.variant].needs_teacher
            features = student_features(self.student, tap, levels, has_teacher)
            return FeatureTransfer(tap, features, self.variant, flow)
        pairs, features, class_outputs = pair_features(
            self.student, self.teacher_holder, (tap, teacher_tap), levels
        )
        self.teacher_taps[tap] = (teacher_tap, pairs)
        transfer = FeatureTransfer(tap, features, self.variant, flow)
        transfer.class_outputs = class_outputs
        return transfer

    @property
    def teacher(self) -> Optional[nn.Module]:
        """The teacher, or None."""
        return self.teacher_holder and self.teacher_holder.network

    @property
    def deploys_flow(self) -> bool:
        """Whether the deployed student includes the flow."""
        return VARIANTS[self.variant].deploys_flow

    @property
    def inference_steps(self) -> int:
        """Number K of Euler steps; setting it changes all taps."""
        return next(iter(self.flows.values())).inference_steps

    @inference_steps.setter
    def inference_steps(self, value: int) -> None:
        for flow in self.flows.values():
            flow.inference_steps = value

    @property
    def feature_transfers(self) -> List[FeatureTransfer]:
        """The transfers between feature maps."""
        flows = self.flows.values()
        return [flow for flow in flows if isinstance(flow, FeatureTransfer)]

    @property
    def class_summary(self) -> List[str]:
        """Which classes are compared, by tap with other classes."""
        flows = [x for x in self.flows.values() if x.class_summary]
        return [f'{flow.tap}: {flow.class_summary}' for flow in flows]

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
            Result of the student; for ``'loss'`` with losses of the flow.
        """
        if mode == 'loss':
            return self._loss(inputs, data_samples)
        with self._deployed_flows():
            return self.student(inputs, data_samples, mode=mode)

    def _deployed_flows(self) -> ContextManager:
        """Replace tapped outputs by sampled features, if deployed."""
        flows = self.feature_transfers if self.deploys_flow else ()
        return output_hooks(self.student, [(x.tap, x.sample) for x in flows])

    def _loss(
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
        """Transfer tapped outputs in a context, and add losses to a dict."""

        def transfer(flow: FeatureTransfer, output: Any) -> Any:
            target = targets.get(flow.tap)
            with self.random_stream:
                transfer_losses, output = flow(
                    output, target, self.transfer_weight, should_diagnose()
                )
            losses.update(transfer_losses)
            return output

        self._set_epoch()
        return output_hooks(
            self.student,
            [(x.tap, partial(transfer, x)) for x in self.feature_transfers],
        )

    def _set_epoch(self) -> None:
        """Pass the Runner's epoch to the distillation losses."""
        epoch = MessageHub.get_current_instance().runtime_info.get('epoch')
        if epoch is not None:
            for module in self.flows.modules():
                if isinstance(module, BaseMetricLoss):
                    module.set_epoch(epoch)

    @torch.no_grad()
    def read_teacher(
        self, inputs: Tensor, data_samples: List[BaseDataElement]
    ) -> Dict[str, Any]:
        """Return the teacher's outputs by tap; empty at a weight of 0.

        Args:
            inputs (Tensor): Images of the student, ``(B, C, H, W)``.
            data_samples (list): Meta data.

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
            targets = self.teacher_holder.outputs(
                inputs, data_samples, self._run_teacher
            )
        return {
            flow.tap: flow.in_student_classes(targets[flow.tap])
            for flow in self.flows.values()
        }

    def _run_teacher(
        self, inputs: Tensor, data_samples: List[BaseDataElement]
    ) -> Dict[str, Any]:
        """Return the teacher's outputs by tap and level of the student."""
        taps = [tap for tap, _ in self.teacher_taps.values()]
        outputs = read_taps(
            self.teacher, taps, inputs, 'teacher', data_samples, stop=True
        )
        targets = dict(zip(self.teacher_taps, outputs))
        for tap, (_, pairs) in self.teacher_taps.items():
            if tap != HEAD:
                levels = targets[tap]
                targets[tap] = {x: levels[i] for x, i in pairs.items()}
        return targets

    def _apply(self, fn, *args, **kwargs):
        """Apply to(), cuda() and half() to the teacher as well."""
        super()._apply(fn, *args, **kwargs)
        if self.teacher_holder is not None:
            self.teacher._apply(fn, *args, **kwargs)
            self.teacher_holder.input_adapter._apply(fn, *args, **kwargs)
        return self

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Ignore parameters of training when loading for inference."""
        if self.teacher is None:
            flows_prefix = f'{prefix}{FLOWS}.'
            expected = self.flows.state_dict(prefix=flows_prefix)
            for name in list(state_dict):
                if name.startswith(flows_prefix) and name not in expected:
                    del state_dict[name]
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
