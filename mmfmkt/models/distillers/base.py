"""Base of the distillers: a student, its flows and a teacher."""

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
    Union,
)

import torch
from mmengine.config import ConfigDict
from mmengine.logging import MessageHub
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmfmkt.utils import ConfigError, require
from mmfmkt.utils.random_stream import RandomStream
from mmfmkt.utils.schema import check_keys
from mmfmkt.utils.stopwatch import Stopwatch

from ..flows import VARIANTS
from ..losses import BaseMetricLoss
from .builder import TeacherHeadFactory, complete_taps
from .data_pipeline import dataset_of, training_config
from .feature_transfer import FeatureTransfer
from .networks import build_network, load_model_config
from .probing import probe
from .taps import check_levels, output_hooks, pair_levels, read_taps
from .teacher import TeacherHolder
from .teacher_cache import TeacherCache
from .teacher_view import TeacherInputAdapter
from .wrapper import FLOWS, StudentWrapper

DISTILLER_SCHEMA = dict(
    variant=Literal[tuple(VARIANTS)],
    tap=str,
    teacher=Optional[dict],
    levels=Optional[Sequence[int]],
    flow=Optional[dict],
    taps=Optional[Sequence[dict]],
)
# Loggers write at multiples of this number of iterations.
DIAGNOSIS_INTERVAL = 10


class BaseDistiller(StudentWrapper):
    """A student trained under a teacher.

    Flows read the outputs of tapped modules of the student by forward hooks,
    and may replace them; no network is subclassed. Random numbers of teacher
    and flows come from a stream of their own.

    Args:
        student (str | dict): Config of the student.
        teacher (dict, optional): ``config``, ``checkpoint``,
            ``cfg_options``, ``inherit``, ``dtype``, ``channels_last``,
            ``compile`` and ``cache``.
        variant (str): A key of ``VARIANTS``.
        tap (str, optional): Path of the tapped module; default:
            ``default_tap``.
        levels (Sequence[int], optional): Indices of the tapped levels.
        flow (dict, optional): Settings of the flow.
        taps (Sequence[dict], optional): Several taps instead of one.
        data_preprocessor (dict, optional): The student's, if its config has
            none; MMEngine's Runner passes one that stands beside the model.
        overrides (dict, optional): Changes of the student's config.

    Attributes:
        library (str): Default scope of the networks' configs.
        packages (tuple[str]): Required packages.
        default_tap (str): Default of ``tap``.
        default_flow (dict): Defaults of ``flow``.
        transfer_weight (float): Factor of the transfer's losses, set by
            TransferWeightHook. At 0 the teacher does not run.

    Raises:
        ConfigError: If settings do not fit; the message names the config key.
        ImportError: If a package is missing.
    """

    library: str
    packages: Tuple[str, ...]
    default_tap: str
    default_flow: Dict[str, Any] = {}
    # Class attributes are set here, even if the student has equal names.
    variant = ''
    transfer_weight = 1.0

    def __init__(
        self,
        student: Union[str, dict],
        teacher: Optional[dict] = None,
        variant: str = 'fmkt',
        tap: Optional[str] = None,
        levels: Optional[Sequence[int]] = None,
        flow: Optional[dict] = None,
        taps: Optional[Sequence[dict]] = None,
        data_preprocessor: Optional[dict] = None,
        overrides: Optional[dict] = None,
    ) -> None:
        tap = self.default_tap if tap is None else tap
        flow = {**self.default_flow, **(flow or {})}
        require('torch', 'mmengine', *self.packages)
        check_keys(
            dict(
                variant=variant,
                tap=tap,
                teacher=teacher,
                levels=levels,
                flow=flow,
                taps=taps,
            ),
            DISTILLER_SCHEMA,
            'model',
        )
        if teacher is not None and not VARIANTS[variant].needs_teacher:
            raise ConfigError(
                f'model.variant {variant!r} learns without a teacher; set '
                'model.teacher to None.'
            )
        student_cfg = load_model_config(student, 'model.student')
        if data_preprocessor is not None:
            student_cfg.setdefault('data_preprocessor', data_preprocessor)
        for key, value in (overrides or {}).items():
            student_cfg[key].update(value)
        super().__init__(build_network(student_cfg, self.library))
        self.random_stream = RandomStream()
        self.teacher_watch = Stopwatch()
        self.variant = variant
        self._holder: Optional[TeacherHolder] = None
        # Teacher's tap, and its level for each level of the student.
        self.teacher_taps: Dict[str, Tuple[str, Dict[int, int]]] = {}
        with self.random_stream:
            if teacher is not None:
                self._holder = TeacherHolder(
                    teacher, self.library, self.student
                )
            for settings in complete_taps(tap, levels, flow, taps, teacher):
                # Names of modules must not contain dots.
                name = settings['tap'].replace('.', '-')
                self.flows[name] = self._build_transfer(**settings)
        if teacher is not None and teacher.get('compile'):
            self._holder.compile_untapped(
                [tap for tap, _ in self.teacher_taps.values()],
                teacher['compile'],
            )
        if self.teacher_cache is not None:
            self.teacher_cache.set_teacher(
                self.teacher, *self.teacher_taps.items()
            )

    def init_weights(self) -> None:
        """Initialize the student, with the weights that it inherits.

        MMEngine's Runner calls it before training, when it has published its
        config.
        """
        super().init_weights()
        if self._holder is not None:
            self.student.load_state_dict(
                self._holder.inherited_weights(self.student), strict=False
            )
        self.set_teacher_dataset(dataset_of(training_config()))

    def set_teacher_dataset(self, dataset: Any) -> None:
        """Adapt a data set's images to the teacher.

        Args:
            dataset (Dataset | dict, optional): Data set of the student's
                images, or its config; None: images without a pipeline.

        Raises:
            ConfigError: If the images cannot be adapted.
        """
        if self._holder is not None:
            self._holder.set_student_data(self.data_preprocessor, dataset)

    def raw_input_adapter(self, dataset: Any) -> TeacherInputAdapter:
        """Return an adapter of a data set's batches to the teacher's own data
        preprocessor.

        Args:
            dataset (Dataset | dict): The data set, or its config.
        """
        return self._holder.raw_input_adapter(dataset)

    def _build_transfer(
        self,
        tap: str,
        levels: Optional[Sequence[int]],
        flow: ConfigDict,
        teacher_tap: str,
    ) -> FeatureTransfer:
        """Build the transfer of a tap, and check it against both networks."""
        student = probe(self.student, tap, 'student')
        levels = check_levels(levels, student, tap)
        teacher = heads = None
        if self.teacher is not None:
            specs = probe(self.teacher, teacher_tap, 'teacher')
            pairs = pair_levels(levels, student, specs, tap, teacher_tap)
            self.teacher_taps[tap] = (teacher_tap, pairs)
            teacher = {level: specs[i] for level, i in pairs.items()}
            heads = self._teacher_heads(teacher_tap, pairs, len(specs))
        return FeatureTransfer(
            tap, levels, student, teacher, self.variant, flow, heads
        )

    def _teacher_heads(
        self, teacher_tap: str, pairs: Dict[int, int], num_levels: int
    ) -> Dict[int, TeacherHeadFactory]:
        """Return factories of the teacher's heads, by the student's level."""
        return {}

    @property
    def teacher(self) -> Optional[nn.Module]:
        """The teacher, or None."""
        return self._holder and self._holder.network

    @property
    def teacher_input_adapter(self) -> Optional[TeacherInputAdapter]:
        """From the student's images to the teacher's, or None."""
        return self._holder and self._holder.input_adapter

    @property
    def teacher_cache(self) -> Optional[TeacherCache]:
        """The cache of the teacher's outputs, or None."""
        return self._holder and self._holder.cache

    @property
    def deploys_flow(self) -> bool:
        """Whether the deployed student includes the flow."""
        return VARIANTS[self.variant].deploys_flow

    @property
    def inference_steps(self) -> int:
        """K; setting it changes that of every tap."""
        return next(iter(self.flows.values())).inference_steps

    @inference_steps.setter
    def inference_steps(self, value: int) -> None:
        for flow in self.flows.values():
            flow.inference_steps = value

    @property
    def feature_transfers(self) -> List[FeatureTransfer]:
        """The transfers between feature maps."""
        return list(self.flows.values())

    def forward(
        self,
        inputs: Tensor,
        data_samples: Optional[List[BaseDataElement]] = None,
        mode: str = 'tensor',
    ) -> Any:
        """Run the student with the flow.

        Args:
            inputs (Tensor): Normalized images ``(B, 3, H, W)``.
            data_samples (list, optional): Annotations and meta data.
            mode (str): ``'loss'``, ``'predict'`` or ``'tensor'``.

        Returns:
            The student's result in that mode; in ``'loss'`` with the losses
            of the flow.
        """
        if mode == 'loss':
            return self._loss(inputs, data_samples)
        with self._deployed_flows():
            return self.student(inputs, data_samples, mode=mode)

    def _deployed_flows(self) -> ContextManager:
        """Replace tapped outputs by those of the flows, where deployed."""
        flows = self.feature_transfers if self.deploys_flow else ()
        return output_hooks(self.student, [(x.tap, x.sample) for x in flows])

    def _loss(
        self, inputs: Tensor, data_samples: List[BaseDataElement]
    ) -> Dict[str, Tensor]:
        """Return the student's own losses and those of the flow."""
        losses: Dict[str, Tensor] = {}
        targets = self.read_teacher(inputs, data_samples)
        with self._training_flows(targets, losses):
            losses.update(self.student(inputs, data_samples, mode='loss'))
        return losses

    def _training_flows(
        self, targets: Dict[str, Any], losses: Dict[str, Tensor]
    ) -> ContextManager:
        """Transfer tapped outputs, and add the losses to a dict."""

        def transfer(flow: FeatureTransfer, output: Any) -> Any:
            with self.random_stream:
                transfer_losses, output = flow(
                    output,
                    targets.get(flow.tap),
                    self.transfer_weight,
                    should_diagnose(),
                )
            losses.update(transfer_losses)
            return output

        self._set_epoch()
        return output_hooks(
            self.student,
            [(x.tap, partial(transfer, x)) for x in self.feature_transfers],
        )

    def _set_epoch(self) -> None:
        """Pass the Runner's epoch to the losses."""
        epoch = MessageHub.get_current_instance().runtime_info.get('epoch')
        if epoch is not None:
            for module in self.flows.modules():
                if isinstance(module, BaseMetricLoss):
                    module.set_epoch(epoch)

    @torch.no_grad()
    def read_teacher(
        self, inputs: Tensor, data_samples: List[BaseDataElement]
    ) -> Dict[str, Any]:
        """Return the teacher's outputs by tap; none if the transfer rests.

        Args:
            inputs (Tensor): The student's images, ``(B, C, H, W)``.
            data_samples (list): Meta data.

        Raises:
            ConfigError: If there is no teacher.
        """
        if not VARIANTS[self.variant].needs_teacher or (
            self.teacher is not None and not self.transfer_weight
        ):
            return {}
        if self.teacher is None:
            raise ConfigError(
                'A distiller without a teacher only predicts; set '
                'model.teacher to train it.'
            )
        with (
            self.random_stream,
            self._holder.autocast(inputs.device.type),
            self.teacher_watch.on(inputs.device),
        ):
            images = self.teacher_input_adapter(inputs, data_samples)
            if self.teacher_cache is None:
                return self._run_teacher(images, data_samples)
            return self.teacher_cache.outputs(
                images, data_samples, self._run_teacher
            )

    def _run_teacher(
        self, inputs: Tensor, data_samples: List[BaseDataElement]
    ) -> Dict[str, Any]:
        outputs = read_taps(
            self.teacher,
            [self.teacher_taps[x.tap][0] for x in self.feature_transfers],
            inputs,
            'teacher',
            data_samples,
            stop=True,
        )
        return {
            flow.tap: self._paired(flow.tap, levels)
            for flow, levels in zip(self.feature_transfers, outputs)
        }

    def _paired(self, tap: str, levels: List[Tensor]) -> Dict[int, Tensor]:
        """Return the teacher's levels by level of the student."""
        _, pairs = self.teacher_taps[tap]
        return {level: levels[i] for level, i in pairs.items()}

    def _apply(self, fn, *args, **kwargs):
        super()._apply(fn, *args, **kwargs)
        if self._holder is not None:
            self.teacher._apply(fn, *args, **kwargs)
            self.teacher_input_adapter._apply(fn, *args, **kwargs)
        return self

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Accept checkpoints of the student, and full ones for inference."""
        if self.teacher is None:
            # A full checkpoint has parts that only training needs.
            front = f'{prefix}{FLOWS}.'
            own = self.flows.state_dict(prefix=front)
            for name in list(state_dict):
                if name.startswith(front) and name not in own:
                    del state_dict[name]
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def should_diagnose() -> bool:
    """Return whether a Runner may log ``metric_of_mean`` this iteration."""
    iteration = MessageHub.get_current_instance().runtime_info.get('iter')
    return iteration is not None and (iteration + 1) % DIAGNOSIS_INTERVAL == 0
