"""What all distillers share: a student that owns everything, and a guest.

A distiller listens at named modules of the student with forward hooks and may
put the flow's output in the place of a module's own; no network is
subclassed.

The teacher is a guest: frozen, in eval mode whatever ``train()`` says, and
in neither ``parameters()`` nor ``state_dict()``, so neither optimizer, DDP,
EMA nor checkpoints know it; but it follows the model to every device. What
is drawn at random for teacher and flows comes from a stream of their own.
"""

import logging
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import (
    Any,
    Callable,
    ContextManager,
    Dict,
    Iterator,
    List,
    Optional,
    Sequence,
    Tuple,
    Union,
)

import torch
from mmengine.config import ConfigDict
from mmengine.logging import MessageHub, print_log
from mmengine.model import BaseDataPreprocessor
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmfmkt.utils import ConfigError, require
from mmfmkt.utils.random_stream import RandomStream
from mmfmkt.utils.schema import check_keys, nearest
from mmfmkt.utils.stopwatch import Stopwatch

from ..flows import VARIANTS
from ..losses import BaseMetricLoss
from .builder import ReaderMaker, complete_taps
from .data_pipeline import (
    dataset_of,
    pipeline_normalization,
    training_config,
)
from .feature_transfer import TapFlow
from .networks import build_network, load_model_config
from .probing import input_channels, probe
from .taps import (
    check_levels,
    find_module,
    listening,
    pair_levels,
    read_taps,
)
from .teacher import (
    build_teacher,
    compile_untapped,
    inherited_weights,
    load_teacher_config,
    open_cache,
    teacher_dtype,
)
from .teacher_cache import TeacherCache
from .teacher_view import AS_LOADED, Normalization, TeacherView
from .wrapper import FLOWS, StudentFace

DISTILLER_SCHEMA = dict(
    variant=str,
    tap=str,
    teacher=Optional[dict],
    levels=Optional[Sequence[int]],
    flow=Optional[dict],
    taps=Optional[Sequence[dict]],
)
# Loggers write every so many iterations, or of a multiple of them.
DIAGNOSED = 10


class Guest:
    """Holds the teacher, which is not a submodule; copies share it.

    Args:
        network (nn.Module, optional): The teacher.
        cache (TeacherCache, optional): What it said of views it has seen.

    Attributes:
        view (TeacherView, optional): From the student's images to its own.
        pipeline (Normalization, optional): That of the data it was trained
            on; None where its config has a model alone.
        channels (tuple[int]): Of the images of student and teacher.
    """

    view: Optional[TeacherView] = None
    pipeline: Optional[Normalization] = None
    channels = (3, 3)

    def __init__(
        self,
        network: Optional[nn.Module] = None,
        cache: Optional[TeacherCache] = None,
    ) -> None:
        self.network, self.cache = network, cache

    def __deepcopy__(self, memo: dict) -> 'Guest':
        return self


class BaseDistiller(StudentFace):
    """A student in training under a teacher; a subclass says of what kind.

    Args:
        student (str | dict): Config of the student.
        teacher (dict, optional): ``config``, ``checkpoint``,
            ``cfg_options``, ``inherit``, ``dtype``, ``channels_last``,
            ``compile`` and ``cache``.
        variant (str): A key of ``VARIANTS``.
        tap (str): Path of the tapped module.
        levels (Sequence[int], optional): Indices of the tapped levels.
        flow (dict, optional): Settings of the flow.
        taps (Sequence[dict], optional): Several taps in the place of one.
        data_preprocessor (dict, optional): The student's, where its config
            has none; MMEngine's Runner puts one here that stands beside the
            model.
        overrides (dict, optional): Changes of the student's config.

    Attributes:
        library (str): Scope in which networks are built.
        packages (tuple[str]): What must be installed.
        transfer_weight (float): Factor of the transfer's losses;
            TransferWeightHook changes it in the course of training. At 0 the
            teacher rests.

    Raises:
        ConfigError: If settings do not fit; the message names the config key
            to change.
        ImportError: If a package is missing.
    """

    library: str
    packages: Tuple[str, ...]
    # Ours, also where a student has an attribute of such a name.
    variant = ''
    inherit: Sequence[str] = ()
    teacher_dtype: Optional[torch.dtype] = None
    transfer_weight = 1.0

    def __init__(
        self,
        student: Union[str, dict],
        teacher: Optional[dict],
        variant: str,
        tap: str,
        levels: Optional[Sequence[int]],
        flow: Optional[dict],
        taps: Optional[Sequence[dict]],
        data_preprocessor: Optional[dict],
        overrides: Optional[dict] = None,
    ) -> None:
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
        check_variant(variant, teacher)
        student_cfg = load_model_config(student, 'model.student')
        if data_preprocessor is not None:
            student_cfg.setdefault('data_preprocessor', data_preprocessor)
        for key, value in (overrides or {}).items():
            student_cfg[key].update(value)
        super().__init__(build_network(student_cfg, self.library))
        self.random_stream = RandomStream()
        self._guest = Guest()
        self.teacher_watch = Stopwatch()
        self.inherit = (teacher or {}).get('inherit') or ()
        self.variant = variant
        self.teacher_taps: Dict[str, Tuple[str, Dict[int, int]]] = {}
        with self.random_stream:
            if teacher is not None:
                self._invite(teacher)
            for settings in complete_taps(tap, levels, flow, taps, teacher):
                # A dot would part the names of modules.
                name = settings['tap'].replace('.', '-')
                self.flows[name] = self._build_flow(**settings)
        if teacher is not None and teacher.get('compile'):
            theirs = [tap for tap, _ in self.teacher_taps.values()]
            compile_untapped(self.teacher, theirs, teacher['compile'])
        if self.teacher_cache is not None:
            self.teacher_cache.belongs_to(
                self.teacher, *self.teacher_taps.items()
            )

    def _invite(self, teacher: dict) -> None:
        """Build the teacher and its view of the images."""
        model, config = load_teacher_config(teacher)
        network = build_teacher(model, self.library, teacher.get('checkpoint'))
        self.teacher_dtype = teacher_dtype(teacher)
        if teacher.get('channels_last'):
            network.to(memory_format=torch.channels_last)
        self._guest = Guest(network, open_cache(teacher))
        self._guest.channels = (
            input_channels(self.student),
            input_channels(network),
        )
        dataset = dataset_of(config)
        if dataset is not None:
            self._guest.pipeline = pipeline_normalization(
                dataset,
                'model.teacher.config',
                config.get('default_scope') or self.library,
            )
        self.show_teacher(None)
        self._inherited_weights()

    def init_weights(self) -> None:
        """Initialise the student; what it inherits starts as the teacher's.

        A Runner calls it before it trains, when the data that it trains on
        are known.
        """
        super().init_weights()
        self.student.load_state_dict(self._inherited_weights(), strict=False)
        self.show_teacher(dataset_of(training_config()))

    def show_teacher(self, dataset: Any) -> None:
        """Let the teacher see images of a data set as those it was trained
        on.

        Args:
            dataset (Dataset | dict, optional): What the student's images are
                from, or its config; None: images as they are loaded.

        Raises:
            ConfigError: If that cannot be.
        """
        if self.teacher is not None:
            view = self._view(
                self.data_preprocessor,
                self.teacher.data_preprocessor,
                pipeline_normalization(dataset, 'train_dataloader.dataset'),
            )
            self._guest.view = view.to(next(self.parameters()).device)

    def raw_view(self, dataset: Any) -> TeacherView:
        """Return what makes batches of a data set such as the teacher's own
        data preprocessor takes.

        Args:
            dataset (Dataset | dict): What the batches are from, or its
                config.
        """
        unchanged = BaseDataPreprocessor()
        return self._view(
            unchanged,
            unchanged,
            pipeline_normalization(dataset, 'val_dataloader.dataset'),
        )

    def _view(
        self,
        ours: BaseDataPreprocessor,
        theirs: BaseDataPreprocessor,
        pipeline: Normalization,
    ) -> TeacherView:
        own = self._guest.pipeline
        if own is None:
            preprocessor = self.teacher.data_preprocessor
            normalizes = getattr(preprocessor, 'mean', None) is not None
            own = AS_LOADED if normalizes else pipeline
            if not own.equals(AS_LOADED):
                print_log(
                    'model.teacher.config has a model alone, which does not '
                    "normalize: the teacher sees images as the student's data "
                    'pipeline normalizes them. If it was trained on others, '
                    'give its whole config.',
                    logger='current',
                    level=logging.WARNING,
                )
        return TeacherView(ours, theirs, (pipeline, own), self._guest.channels)

    def _inherited_weights(self) -> Dict[str, Tensor]:
        if self.teacher is None:
            return {}
        return inherited_weights(self.student, self.teacher, self.inherit)

    def _build_flow(
        self,
        tap: str,
        levels: Optional[Sequence[int]],
        flow: ConfigDict,
        teacher_tap: str,
    ) -> TapFlow:
        """Build the flows of a tap and check them against both networks."""
        student = probe(self.student, tap, 'student')
        levels = check_levels(levels, student, tap)
        teacher = readers = None
        if self.teacher is not None:
            theirs = probe(self.teacher, teacher_tap, 'teacher')
            pairs = pair_levels(levels, student, theirs, tap, teacher_tap)
            self.teacher_taps[tap] = (teacher_tap, pairs)
            teacher = {ours: theirs[i] for ours, i in pairs.items()}
            readers = self._readers(teacher_tap, pairs, len(theirs))
        return TapFlow(
            tap, levels, student, teacher, self.variant, flow, readers
        )

    def _readers(
        self, teacher_tap: str, pairs: Dict[int, int], num_levels: int
    ) -> Dict[int, ReaderMaker]:
        """What makes readers of the teacher's levels, by the student's."""
        return {}

    @property
    def teacher(self) -> Optional[nn.Module]:
        """The teacher, or None where there is none."""
        return self._guest.network

    @property
    def teacher_view(self) -> Optional[TeacherView]:
        """From the student's images to the teacher's; None without one."""
        return self._guest.view

    @property
    def teacher_cache(self) -> Optional[TeacherCache]:
        """The cache of the teacher's outputs, or None where there is none."""
        return self._guest.cache

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

    def forward(
        self,
        inputs: Tensor,
        data_samples: Optional[List[BaseDataElement]] = None,
        mode: str = 'tensor',
    ) -> Any:
        """Run the student with the flow.

        Args:
            inputs (Tensor): Normalised images ``(B, 3, H, W)``.
            data_samples (list, optional): Annotations and meta data.
            mode (str): ``'loss'``, ``'predict'`` or ``'tensor'``.

        Returns:
            What the student gives in that mode; in ``'loss'`` with the
            losses of the flow.
        """
        if mode == 'loss':
            return self._loss(inputs, data_samples)
        with ExitStack() as tapped:
            if self.deploys_flow:
                for flow in self.tap_flows:
                    self._listen(tapped, flow.tap, flow.transport)
            return self.student(inputs, data_samples, mode=mode)

    def _listen(
        self, stack: ExitStack, tap: str, on_output: Callable[[Any], Any]
    ) -> None:
        module = find_module(self.student, tap, 'student')
        stack.enter_context(listening(module, on_output))

    def _loss(
        self, inputs: Tensor, data_samples: List[BaseDataElement]
    ) -> Dict[str, Tensor]:
        """The student's own losses and those of the flow."""
        losses: Dict[str, Tensor] = {}
        targets = self._read_teacher(inputs, data_samples)
        with self._transferring(targets, losses):
            losses.update(self.student(inputs, data_samples, mode='loss'))
        return losses

    @contextmanager
    def _transferring(
        self, targets: Dict[str, Any], losses: Dict[str, Tensor]
    ) -> Iterator[None]:
        """Let the tapped levels flow and gather their losses."""

        def transfer(flow: TapFlow, output: Any) -> Any:
            with self.random_stream:
                parts, output = flow.transfer(
                    output,
                    targets.get(flow.tap),
                    self.transfer_weight,
                    diagnosing(),
                )
            losses.update(parts)
            return output

        self._set_epoch()
        with ExitStack() as tapped:
            for flow in self.tap_flows:
                self._listen(tapped, flow.tap, partial(transfer, flow))
            yield

    def _set_epoch(self) -> None:
        """Tell the losses the epoch of the Runner, if there is one."""
        epoch = MessageHub.get_current_instance().runtime_info.get('epoch')
        if epoch is not None:
            for module in self.flows.modules():
                if isinstance(module, BaseMetricLoss):
                    module.set_epoch(epoch)

    @property
    def tap_flows(self) -> List[TapFlow]:
        """The flows between feature maps."""
        return list(self.flows.values())

    @torch.no_grad()
    def _read_teacher(
        self, inputs: Tensor, data_samples: List[BaseDataElement]
    ) -> Dict[str, Any]:
        """The teacher's targets by tap; none while the transfer is stopped.

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
            self._teacher_precision(inputs.device.type),
            self.teacher_watch.on(inputs.device),
        ):
            view = self._guest.view(inputs, data_samples)
            if self.teacher_cache is None:
                return self._run_teacher(view, data_samples)
            return self.teacher_cache.outputs(
                view, data_samples, self._run_teacher
            )

    def _teacher_precision(self, device_type: str) -> ContextManager:
        """That of ``model.teacher.dtype``, or the student's own."""
        dtype = self.teacher_dtype
        if dtype is None:
            return nullcontext()
        return torch.autocast(
            device_type,
            None if dtype == torch.float32 else dtype,
            enabled=dtype != torch.float32,
        )

    def _run_teacher(
        self, inputs: Tensor, data_samples: List[BaseDataElement]
    ) -> Dict[str, Any]:
        taps = [self.teacher_taps[flow.tap][0] for flow in self.tap_flows]
        found = read_taps(
            self.teacher, taps, inputs, 'teacher', data_samples, stop=True
        )
        return {
            flow.tap: self._paired(flow.tap, levels)
            for flow, levels in zip(self.tap_flows, found)
        }

    def _paired(self, tap: str, levels: List[Tensor]) -> Dict[int, Tensor]:
        """The teacher's levels by level of the student."""
        _, pairs = self.teacher_taps[tap]
        return {ours: levels[theirs] for ours, theirs in pairs.items()}

    def _apply(self, fn, *args, **kwargs):
        super()._apply(fn, *args, **kwargs)
        for guest in (self.teacher, self._guest.view):
            if guest is not None:
                guest._apply(fn, *args, **kwargs)
        return self

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Let in plain student checkpoints, and full ones for inference."""
        if self.teacher is None:
            # A full checkpoint also has what only training needs.
            front = f'{prefix}{FLOWS}.'
            wanted = self.flows.state_dict(prefix=front)
            for name in list(state_dict):
                if name.startswith(front) and name not in wanted:
                    del state_dict[name]
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def check_variant(variant: str, teacher: Optional[dict]) -> None:
    """Insist on a variant that there is, and on a teacher only where it has
    something to teach.

    Raises:
        ConfigError: If variant and teacher do not go together.
    """
    if variant not in VARIANTS:
        raise ConfigError(
            f'model.variant must be one of '
            f'{", ".join(VARIANTS)}, but is {variant!r}'
            f'{nearest(variant, VARIANTS)}.'
        )
    if teacher is not None and not VARIANTS[variant].needs_teacher:
        raise ConfigError(
            f'model.variant {variant!r} learns without a '
            'teacher; set model.teacher to None.'
        )


def diagnosing() -> bool:
    """Whether a Runner may log this iteration, and diagnoses are wanted."""
    iteration = MessageHub.get_current_instance().runtime_info.get('iter')
    return iteration is not None and (iteration + 1) % DIAGNOSED == 0
