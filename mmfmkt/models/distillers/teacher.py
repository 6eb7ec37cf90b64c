"""The teacher: a frozen network outside the student, and its inputs."""

import logging
import os
import re
from contextlib import nullcontext
from typing import (
    Any,
    Callable,
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
from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log
from mmengine.model import BaseDataPreprocessor
from mmengine.registry import DefaultScope
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmfmkt.utils import ConfigError
from mmfmkt.utils.checkpoints import DamagedCheckpointError, load_checkpoint
from mmfmkt.utils.schema import check_arguments, check_keys

from .data_pipeline import dataset_of, pipeline_normalization
from .networks import (
    build_network,
    draw_weights,
    load_model_config,
    read_config,
    without_weights,
)
from .probing import input_channels
from .teacher_cache import TeacherCache
from .teacher_view import AS_LOADED, Normalization, TeacherInputAdapter

TEACHER_SCHEMA = dict(
    config=Union[str, dict, Config, os.PathLike],
    checkpoint=Optional[str],
    cfg_options=Optional[Dict[str, Any]],
    tap=Optional[str],
    inherit=Optional[Sequence[str]],
    dtype=Optional[Literal['float32', 'bfloat16', 'float16']],
    channels_last=bool,
    compile=Union[bool, dict],
    cache=Union[None, str, dict],
)


class TeacherHolder:
    """Frozen teacher in eval mode.

    It is no module, so the teacher is in neither ``parameters()`` nor
    ``state_dict()`` of the distiller; deep copies of the distiller share it.

    Args:
        settings (dict): ``model.teacher``; see ``TEACHER_SCHEMA``.
        library (str): Default scope of the teacher's config.
        student (nn.Module): The student.

    Attributes:
        network (nn.Module): The teacher.
        cache (TeacherCache, optional): Cache of its outputs.
        input_adapter (TeacherInputAdapter): From the student's images to the
            teacher's.

    Raises:
        ConfigError: If settings do not fit.
    """

    def __init__(
        self, settings: dict, library: str, student: nn.Module
    ) -> None:
        model, config = load_teacher_config(settings)
        self.network = build_teacher(
            model, library, settings.get('checkpoint')
        )
        if settings.get('channels_last'):
            self.network.to(memory_format=torch.channels_last)
        dtype = settings.get('dtype')
        self._dtype = dtype and getattr(torch, dtype)
        self.cache = open_cache(settings.get('cache'))
        self._inherit = settings.get('inherit') or ()
        self._compile = settings.get('compile')
        self._channels = input_channels(student), input_channels(self.network)
        dataset = dataset_of(config)
        self._pipeline: Optional[Normalization] = None
        if dataset is not None:
            self._pipeline = pipeline_normalization(
                dataset,
                'model.teacher.config',
                config.get('default_scope') or library,
            )
        self.set_student_data(student.data_preprocessor, None)
        self.inherited_weights(student)

    def __deepcopy__(self, memo: dict) -> 'TeacherHolder':
        return self

    def set_student_data(
        self, preprocessor: BaseDataPreprocessor, dataset: Any
    ) -> None:
        """Adapt to images of a data set that the student's preprocessor gives.

        Args:
            preprocessor (BaseDataPreprocessor): The student's.
            dataset (Dataset | dict, optional): The student's data set or its
                config; None: images without a pipeline.
        """
        self.input_adapter = self._adapter(
            (preprocessor, self.network.data_preprocessor),
            dataset,
            'train_dataloader.dataset',
        ).to(self.device)

    @property
    def device(self) -> torch.device:
        """Where the teacher is."""
        return next(self.network.parameters()).device

    def raw_input_adapter(self, dataset: Any) -> TeacherInputAdapter:
        """Return an adapter of batches to the teacher's preprocessor.

        Args:
            dataset (Dataset | dict): The data set of the batches, or its
                config.
        """
        unchanged = BaseDataPreprocessor()
        return self._adapter(
            (unchanged, unchanged), dataset, 'val_dataloader.dataset'
        )

    def _adapter(
        self,
        preprocessors: Tuple[BaseDataPreprocessor, BaseDataPreprocessor],
        dataset: Any,
        key: str,
    ) -> TeacherInputAdapter:
        pipeline = pipeline_normalization(dataset, key)
        teacher_pipeline = self._pipeline
        if teacher_pipeline is None:
            preprocessor = self.network.data_preprocessor
            normalizes = getattr(preprocessor, 'mean', None) is not None
            teacher_pipeline = AS_LOADED if normalizes else pipeline
            if not teacher_pipeline.equals(AS_LOADED):
                print_log(
                    'model.teacher.config has only a model, which does not '
                    'normalize: the teacher gets images normalized by the '
                    "student's data pipeline. If it was trained on others, "
                    'give its whole config.',
                    logger='current',
                    level=logging.WARNING,
                )
        return TeacherInputAdapter(
            *preprocessors, (pipeline, teacher_pipeline), self._channels
        )

    def outputs(
        self,
        inputs: Tensor,
        data_samples: List[BaseDataElement],
        run: Callable[[Tensor, List[BaseDataElement]], Dict[str, Any]],
    ) -> Dict[str, Any]:
        """Return the teacher's outputs for the student's images.

        Args:
            inputs (Tensor): ``(B, C, H, W)``.
            data_samples (list): Meta data.
            run (Callable): Runs the teacher on its own images.
        """
        if self.device != inputs.device:
            # FSDP moves the distiller's parameters, but not the distiller.
            self.network.to(inputs.device)
            self.input_adapter.to(inputs.device)
        with self._autocast(inputs.device.type):
            images = self.input_adapter(inputs, data_samples)
            if self.cache is None:
                return run(images, data_samples)
            return self.cache.outputs(images, data_samples, run)

    def _autocast(self, device_type: str) -> ContextManager:
        """Return the context of ``model.teacher.dtype``."""
        if self._dtype is None:
            return nullcontext()
        full = self._dtype == torch.float32
        return torch.autocast(
            device_type, None if full else self._dtype, enabled=not full
        )

    def inherited_weights(self, student: nn.Module) -> Dict[str, Tensor]:
        """Return the teacher's weights of ``model.teacher.inherit``.

        The inheriting strategy of FGD (arXiv 2111.11837): modules behind the
        backbone start with the teacher's weights. Tensors of other shapes,
        such as those of other classes, are left out.

        Args:
            student (nn.Module): The student.

        Raises:
            ConfigError: If a module is missing or none of its tensors fits.
        """
        own, weights = student.state_dict(), self.network.state_dict()
        inherited: Dict[str, Tensor] = {}
        for module in self._inherit:
            fitting = {
                name: weights[name]
                for name, tensor in own.items()
                if name.startswith(f'{module}.')
                and name in weights
                and weights[name].shape == tensor.shape
            }
            if not fitting:
                raise ConfigError(
                    'model.teacher.inherit must name modules of the student '
                    'with tensors that the teacher has in the same shape, '
                    f'which {module!r} is not.'
                )
            inherited.update(fitting)
        return inherited

    def set_taps(self, taps: Dict[str, Tuple[str, Dict[int, int]]]) -> None:
        """Compile untapped parts and set the identity of cached outputs.

        A tapped backbone or neck is not compiled: hooks are registered in
        each iteration, which would recompile it each time.

        Args:
            taps (dict): The teacher's tap and levels by the student's tap.
        """
        if self._compile:
            options = {} if self._compile is True else self._compile
            tapped = {re.split(r'[.[]', tap)[0] for tap, _ in taps.values()}
            for name, child in self.network.named_children():
                if name in ('backbone', 'neck') and name not in tapped:
                    child.compile(**options)
        if self.cache is not None:
            self.cache.set_teacher(self.network, *taps.items())


def load_teacher_config(
    teacher: dict,
) -> Tuple[ConfigDict, Union[dict, Config]]:
    """Return the teacher's model config with its overrides, and the whole.

    Args:
        teacher (dict): ``model.teacher``; see ``TEACHER_SCHEMA``.

    Raises:
        ConfigError: If a key is missing or unknown.
    """
    given = {k: v for k, v in teacher.items() if k != '_scope_'}
    check_keys(given, TEACHER_SCHEMA, 'model.teacher', required=('config',))
    key = 'model.teacher.config'
    whole = read_config(teacher['config'], key)
    config = Config(dict(model=load_model_config(whole, key)))
    options = teacher.get('cfg_options') or {}
    config.merge_from_dict({f'model.{k}': v for k, v in options.items()})
    return config.model, whole


def build_teacher(
    model: dict, library: str, checkpoint: Optional[str]
) -> nn.Module:
    """Build a frozen teacher in eval mode.

    Args:
        model (dict): Its ``model`` section.
        library (str): Default scope, for configs without one.
        checkpoint (str, optional): Path or URL; None: random weights, for dry
            runs.
    """
    if checkpoint is None:
        teacher = build_network(without_weights(model), library)
        with DefaultScope.overwrite_default_scope(library):
            draw_weights(teacher)
        print_log(
            'model.teacher.checkpoint is None: random teacher weights.',
            logger='current',
            level=logging.WARNING,
        )
    else:
        teacher = build_network(model, library)
        load_teacher_checkpoint(teacher, checkpoint)
    return teacher.requires_grad_(False).eval()


def load_teacher_checkpoint(teacher: nn.Module, checkpoint: str) -> None:
    """Load a checkpoint, which must have all tensors of the teacher.

    Args:
        teacher (nn.Module): The teacher.
        checkpoint (str): Path or URL, as MMEngine takes them.

    Raises:
        ConfigError: If it cannot be read or downloaded, or belongs to another
            network.
    """
    try:
        loaded = load_checkpoint(checkpoint)
    except DamagedCheckpointError as error:
        raise ConfigError(
            f'model.teacher: {str(error).rstrip(".")}: give a path or URL '
            'that can be reached, or None for a dry run with random weights.'
        ) from error
    state = loaded.get('state_dict', loaded)
    state = {name.removeprefix('module.'): x for name, x in state.items()}
    mismatch = ''
    try:
        missing = [
            name
            for name in teacher.load_state_dict(state, strict=False)[0]
            if not name.endswith('num_batches_tracked')
        ]
        if missing:
            mismatch = f'{len(missing)} tensors are missing: {missing[0]}'
    except RuntimeError as error:
        # A title, and a line for each tensor of another shape.
        mismatch = str(error).splitlines()[-1].strip().rstrip('.')
    if mismatch:
        raise ConfigError(
            f'model.teacher.checkpoint {checkpoint!r} does not fit '
            f'model.teacher.config: {mismatch}; give the config that this '
            'checkpoint was trained with.'
        )


def open_cache(settings: Union[None, str, dict]) -> Optional[TeacherCache]:
    """Open the cache of a teacher's outputs, if it is configured.

    Args:
        settings (str | dict, optional): ``model.teacher.cache``.

    Raises:
        ConfigError: If the settings are wrong, or the file cannot be used.
    """
    if settings is None:
        return None
    if isinstance(settings, str):
        settings = dict(path=settings)
    settings = {k: v for k, v in settings.items() if k != '_scope_'}
    check_arguments(TeacherCache, settings, 'model.teacher.cache')
    return TeacherCache(**settings)
