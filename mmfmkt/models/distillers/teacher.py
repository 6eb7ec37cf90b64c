"""Teacher: a frozen network outside the student, and its input."""

import logging
from contextlib import nullcontext
from typing import Any, ContextManager, Dict, List, Optional, Tuple

import torch
from mmengine.logging import print_log
from mmengine.model import BaseDataPreprocessor
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmfmkt.utils import ConfigError
from mmfmkt.utils.schema import check_keys

from .data_pipeline import (
    channel_order,
    dataset_of,
    pipeline_normalization,
)
from .levels import LevelSpec
from .probing import input_channels, probe
from .shared_classes import (
    ClassPair,
    describe_classes,
    match_classes,
    student_class_names,
    teacher_class_names,
)
from .taps import as_levels, read_taps, split_tap
from .teacher_config import (
    VIEW_SCHEMA,
    build_teacher,
    load_teacher_config,
    open_cache,
)
from .teacher_input import (
    IDENTITY,
    Normalization,
    TeacherInputAdapter,
    normalization,
)
from .wrapper import StudentWrapper


class TeacherHolder:
    """Holder of the frozen teacher, which is in eval mode.

    The holder is not a module. Therefore neither ``parameters()`` nor
    ``state_dict()`` of the distiller contains the teacher. Deep copies of the
    distiller share the holder.

    Args:
        settings (dict): ``model.teacher``; see ``TEACHER_SCHEMA``.
        library (str): Default scope of the teacher's config.
        student (nn.Module): The student.

    Attributes:
        network (nn.Module): The teacher.
        checkpoint (str, optional): Checkpoint of the teacher.
        cache (TeacherCache, optional): Cache of the teacher's outputs.
        view (dict): ``scale`` and ``multiple_of`` of the teacher's images.
        library (str): Scope of the teacher's config.
        is_backbone (bool): Whether the teacher is a classifier without its
            head, for a detector.
        taps (dict): By tap of the student: the teacher's tap, and a dict from
            the student's levels to the teacher's, which is empty for logits.
        input_adapter (TeacherInputAdapter): Converts the student's images to
            the teacher's normalization and channels.

    Raises:
        ConfigError: If a setting is invalid.
    """

    def __init__(
        self, settings: dict, library: str, student: nn.Module
    ) -> None:
        model, config = load_teacher_config(settings, library)
        self.checkpoint = settings.get('checkpoint')
        self.library = model.get('_scope_') or library
        self.is_backbone = self.library == 'mmpretrain' != library
        if self.is_backbone and 'head' in model:
            # A detector does not use the classifier's head, which checkpoints
            # of pretrained backbones do not have.
            model['head'] = None
        self.taps: Dict[str, Tuple[str, Dict[int, int]]] = {}
        self.network = build_teacher(model, library, self.checkpoint)
        if settings.get('channels_last'):
            self.network.to(memory_format=torch.channels_last)
        self.cache = open_cache(settings.get('cache'))
        self._settings, self._model = settings, model
        self.view = dict(settings.get('view') or {})
        self.view.pop('_scope_', None)
        check_keys(self.view, VIEW_SCHEMA, 'model.teacher.view')
        self._channels = input_channels(student), input_channels(self.network)
        self._scope = config.get('default_scope') or library
        self._dataset = dataset_of(config)
        self._pipeline: Optional[Normalization] = None
        if self._dataset is not None:
            self._pipeline = pipeline_normalization(
                self._dataset, 'model.teacher.config', self._scope
            )
        self.set_student_data(student.data_preprocessor, None)
        self.inherited_weights(student)  # checks model.teacher.inherit

    def __deepcopy__(self, memo: dict) -> 'TeacherHolder':
        return self

    def set_student_data(
        self, preprocessor: BaseDataPreprocessor, dataset: Any
    ) -> None:
        """Set ``input_adapter`` for the student's preprocessor and data set.

        Args:
            preprocessor (BaseDataPreprocessor): Preprocessor of the student.
            dataset (Dataset | dict, optional): Data set of the student, or
                its config; None: the images have no data pipeline.
        """
        self.input_adapter = self._adapter(
            (preprocessor, self.network.data_preprocessor),
            dataset,
            'train_dataloader.dataset',
            **self.view,
        ).to(self.device)

    def match_classes(
        self, outputs: ClassPair, dataset: Any
    ) -> Tuple[Optional[List[Optional[int]]], str]:
        """Match the student's classes to the teacher's by name.

        Args:
            outputs (tuple[ClassOutputs, ClassOutputs]): Student and teacher.
            dataset (Dataset | dict, optional): Data set of the student, or
                its config.

        Returns:
            tuple: Result of the function `match_classes`, or None while the
            student's data set is not set; and a description of the classes
            that the teacher teaches, empty if names are unknown.

        Raises:
            ConfigError: As the function `match_classes`.
        """
        classes, mapping = self._settings.get('classes'), None
        teacher = teacher_class_names(
            classes,
            outputs[1].classes,
            self.checkpoint,
            (self._dataset, self._scope),
        )
        student = student_class_names(dataset, outputs, teacher)
        if dataset is None and teacher:
            return None, ''
        if isinstance(classes, dict):
            mapping = {k: v for k, v in classes.items() if k != '_scope_'}
        matched = match_classes(outputs, student, teacher, mapping)
        if student is None or teacher is None:
            return matched, ''
        return matched, describe_classes(matched, student, teacher)

    @property
    def device(self) -> torch.device:
        """Device of the teacher."""
        return next(self.network.parameters()).device

    def apply_to_tensors(self, *args: Any, **kwargs: Any) -> None:
        """Apply what ``to()`` of the distiller applies to its tensors."""
        self.network._apply(*args, **kwargs)
        self.network.to(self.device)  # sets the device of its preprocessor
        self.input_adapter._apply(*args, **kwargs)

    def probe(self, tap: str) -> List[LevelSpec]:
        """Return a tap's levels, with strides in the student's pixels.

        Args:
            tap (str): Path of a module of the teacher.
        """
        scale = self.view.get('scale', 1.0)
        return [
            LevelSpec(level.channels, level.stride / scale)
            for level in probe(self.network, tap, 'teacher')
        ]

    def raw_input_adapter(self, dataset: Any) -> TeacherInputAdapter:
        """Return an adapter of the images that a data loader yields.

        Its output is the input of the teacher's preprocessor.

        Args:
            dataset (Dataset | dict): Data set of the images, or its config.
        """
        identity = BaseDataPreprocessor()
        return self._adapter(
            (identity, identity), dataset, 'val_dataloader.dataset'
        )

    def _adapter(
        self,
        preprocessors: Tuple[BaseDataPreprocessor, BaseDataPreprocessor],
        dataset: Any,
        key: str,
        **view: Any,
    ) -> TeacherInputAdapter:
        """Build an adapter from a data set's images to the teacher's.

        Args:
            preprocessors (tuple[BaseDataPreprocessor]): Preprocessors of
                student and teacher.
            dataset (Dataset | dict, optional): The data set, or its config.
            key (str): Config key of the data set, for errors.
            view: ``scale`` and ``multiple_of``.
        """
        pipeline = pipeline_normalization(dataset, key)
        teacher_pipeline = self._pipeline
        if teacher_pipeline is None:
            preprocessor = self.network.data_preprocessor
            normalizes = getattr(preprocessor, 'mean', None) is not None
            order = channel_order(dataset)
            known = normalization(preprocessor, self._channels[1])
            if known is not None and known.swaps_rgb:
                order = IDENTITY  # it was trained on BGR images
            teacher_pipeline = order if normalizes else pipeline
            if not teacher_pipeline.equals(order):
                print_log(
                    'model.teacher.config has only a model, which does not '
                    'normalize: the teacher gets images normalized by the '
                    "student's data pipeline. If the teacher was trained with "
                    'another normalization, give its whole config.',
                    logger='current',
                    level=logging.WARNING,
                )
        return TeacherInputAdapter(
            *preprocessors,
            (pipeline, teacher_pipeline),
            self._channels,
            **view,
        )

    def outputs(
        self, inputs: Tensor, data_samples: List[BaseDataElement]
    ) -> Dict[str, Any]:
        """Return the teacher's outputs for the student's images.

        Args:
            inputs (Tensor): The student's images, ``(B, C, H, W)``.
            data_samples (list): Meta data of the images.

        Returns:
            dict: By tap of the student, a dict of maps by level of the
            student, or logits.
        """
        if self.device != inputs.device:
            # FSDP moves the distiller's parameters without calling to().
            self.network.to(inputs.device)
            self.input_adapter.to(inputs.device)
        with self._autocast(inputs.device.type):
            images = self.input_adapter(inputs, data_samples)
            data_samples = self.input_adapter.scale_samples(
                data_samples, images
            )
            if self.cache is None:
                return self._run(images, data_samples)
            return self.cache.outputs(images, data_samples, self._run)

    def _run(
        self, images: Tensor, data_samples: List[BaseDataElement]
    ) -> Dict[str, Any]:
        """Run the teacher on adapted images; see `outputs`."""
        taps = [tap for tap, _ in self.taps.values()]
        if isinstance(self.network, StudentWrapper):
            outputs = self.network.read_taps(taps, images, data_samples)
        else:
            outputs = read_taps(
                self.network, taps, images, 'teacher', data_samples, stop=True
            )
        targets = dict(zip(self.taps, outputs))
        for tap, (teacher_tap, pairs) in self.taps.items():
            if pairs:  # not the logits of a classifier
                maps = as_levels(targets[tap], teacher_tap, images)
                targets[tap] = {
                    student_level: maps[teacher_level]
                    for student_level, teacher_level in pairs.items()
                }
        return targets

    def _autocast(self, device_type: str) -> ContextManager:
        """Return the context of ``model.teacher.dtype``."""
        dtype = self._settings.get('dtype')
        if dtype is None:
            return nullcontext()
        if dtype == 'float32':
            return torch.autocast(device_type, enabled=False)
        return torch.autocast(device_type, getattr(torch, dtype))

    def inherited_weights(self, student: nn.Module) -> Dict[str, Tensor]:
        """Return the weights that the student inherits from the teacher.

        This is the inheriting strategy of FGD (arXiv 2111.11837): the modules
        named in ``model.teacher.inherit`` start with the teacher's weights.
        Tensors of different shapes, such as those for different classes, are
        left out.

        Args:
            student (nn.Module): The student.

        Raises:
            ConfigError: If a module is missing or none of its tensors fits.
        """
        weights = self.network.state_dict()
        inherited: Dict[str, Tensor] = {}
        for module in self._settings.get('inherit') or ():
            matching = {
                name: weights[name]
                for name, tensor in student.state_dict().items()
                if name.startswith(f'{module}.')
                and name in weights
                and weights[name].shape == tensor.shape
            }
            if not matching:
                raise ConfigError(
                    f'model.teacher.inherit names {module!r}, but student and '
                    'teacher have no tensors of equal name and shape there; '
                    'give modules that both have.'
                )
            inherited.update(matching)
        return inherited

    def prepare_taps(self) -> None:
        """Compile the untapped backbone and neck, if
        ``model.teacher.compile`` is set, and prepare the cache.

        A tapped backbone or neck is not compiled: registering its hooks in
        each iteration would recompile it.
        """
        taps = [tap for tap, _ in self.taps.values()]
        settings = [self._model, *self.taps.items()]
        if isinstance(self.network, StudentWrapper):
            flow_taps = [x.tap for x in self.network.flows.values()]
            taps += flow_taps
            settings.append(flow_taps)
        if options := self._settings.get('compile'):
            options = {} if options is True else options
            tapped = {split_tap(x)[0].split('.')[0] for x in taps}
            for name, child in self.network.named_children():
                if name in ('backbone', 'neck') and name not in tapped:
                    child.compile(**options)
        if self.cache is not None:
            self.cache.set_teacher(self.network, *settings)
