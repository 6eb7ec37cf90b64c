"""Composition of a distillation from a student and a teacher config."""

from inspect import signature
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple, Union

from mmengine.config import Config
from mmengine.registry import MODELS

from mmfmkt.datasets.coco_folder import CocoFolder
from mmfmkt.models.distillers.networks import load_model_config
from mmfmkt.models.distillers.taps import HEAD
from mmfmkt.models.flows import VARIANTS
from mmfmkt.utils import ConfigError
from mmfmkt.utils.config_text import prefixed
from mmfmkt.utils.configs import read_config
from mmfmkt.utils.error_messages import errors_as_config_errors
from mmfmkt.utils.types import is_a, resolve_type, type_name

from .choose_flow import choose_flow
from .choose_taps import choose_classifier_tap, choose_taps, preset_of
from .composed_config import (
    absolute_path,
    convert_base,
    render,
    write_configs,
)
from .data_overrides import FolderData, folder_data, num_classes_overrides
from .describe import describe
from .unlabelled import unlabelled_overrides

# Base classes of the networks that the libraries' distillers support.
BASE_CLASSES = dict(
    mmdet='mmdet.models.detectors.BaseDetector',
    mmpretrain='mmpretrain.models.classifiers.BaseClassifier',
)


class Composed(NamedTuple):
    """Composed distillation.

    Attributes:
        config (Path): Config file.
        summary (list[str]): Description of the distillation by line.
        data (CocoFolder, optional): Data set of ``data_root``.
    """

    config: Path
    summary: List[str]
    data: Optional[CocoFolder] = None


@errors_as_config_errors(Config())
def compose_distillation(
    student: str,
    teacher: Optional[str],
    path: Union[str, Path],
    teacher_checkpoint: Optional[str] = None,
    variant: str = 'fmkt',
    data_root: Optional[str] = None,
    class_maps: bool = False,
    teacher_scale: Optional[float] = None,
    unlabelled: Optional[str] = None,
    encoder: Optional[str] = None,
    inference_steps: Optional[int] = None,
    annotations: Optional[Path] = None,
    cfg_options: Optional[dict] = None,
) -> Composed:
    """Compose a distillation config, write it and describe it.

    Args:
        student (str): Student config: a file or a packaged config
            (``'mmdet::...'``, ``'mmpretrain::...'``).
        teacher (str, optional): Teacher config; None for ``'online'``.
        path (str | Path): Output file.
        teacher_checkpoint (str, optional): Path or URL; None: random
            weights.
        variant (str): A key of ``VARIANTS``.
        data_root (str, optional): Folder that replaces the student's dataset:
            for detectors, in COCO, YOLO or Pascal VOC format; for
            classifiers, with a folder for each class in ``train/`` and
            ``val/``. A teacher without a checkpoint gets its number of
            classes, too.
        class_maps (bool): Whether to distill the class maps of dense heads
            (of one-stage detectors and RPNs), too.
        teacher_scale (float, optional): Side of the teacher's images,
            relative to the student's; not for the tap ``'head'``. See
            `choose_taps`.
        unlabelled (str, optional): Folder of images without annotations, on
            which the distillation loss alone trains backbone and neck.
        encoder (str, optional): Type of the flow's encoder. None: that of the
            preset for detectors, that of `choose_flow` for classifiers.
        inference_steps (int, optional): Number of sampling steps K of the
            deployed flow. None: chosen like ``encoder``.
        annotations (Path, optional): Folder to which the caller writes the
            annotations of ``data_root`` if they must be converted. None:
            they are written to the folder of the output file.
        cfg_options (dict, optional): Overrides of the composed config by
            dotted keys, which are described but not written.

    Raises:
        ConfigError: If student, teacher and options are incompatible.
    """
    path = Path(path)
    config, library, overrides = read_student(student)
    check_options(library, teacher, variant, data_root, class_maps, unlabelled)
    check_flow_options(variant, encoder, inference_steps)
    if teacher is None and (teacher_checkpoint or teacher_scale is not None):
        raise ConfigError(
            '--teacher-checkpoint and --teacher-scale need --teacher.'
        )
    lines = [f'student   {student} ({network_name(config.model)})']
    model: Dict[str, Any] = dict(variant=variant)
    data: Optional[FolderData] = None
    if data_root:
        out_dir = annotations or path.parent
        data = folder_data(config, library, data_root, out_dir)
        lines += data.summary
        data.merge_into(config)
        overrides.update(data.overrides)
        overrides.update(prefixed('model.student', data.model))
    if unlabelled:
        replacements, description = unlabelled_overrides(
            config, unlabelled, library
        )
        overrides.update(replacements)
        lines += description
        model['task_loss'] = False
    if teacher is not None:
        model['teacher'], description = teacher_settings(
            teacher, teacher_checkpoint, data and data.num_classes
        )
        lines += description
    options = dict(
        encoder=encoder and dict(type=encoder), inference_steps=inference_steps
    )
    flow = {key: value for key, value in options.items() if value}
    cfg_options = cfg_options or {}
    tap = cfg_options.get('model.tap')
    if library == 'mmpretrain' and not tap and not unlabelled:
        tap, description = choose_classifier_tap(
            config, model.get('teacher'), cfg_options
        )
        lines += description
    preset = preset_of(variant, tap)
    if tap == HEAD:
        if teacher_scale is not None:
            raise ConfigError(
                "--teacher-scale supports feature maps, not the tap 'head'."
            )
        lines += choose_flow(config, preset, variant, flow)
    else:
        taps = tap, cfg_options.get('model.teacher.tap')
        lines += choose_taps(
            config, library, model, class_maps, teacher_scale, *taps
        )
        if library == 'mmpretrain':
            distiller = 'mmfmkt.ClassificationDistiller'
            model.update(type=distiller, _scope_=library)
            if not unlabelled:
                flow['loss_weight'] = 'auto'
        if teacher is None:
            flow['loss_weight'] = 1.0  # as in docs/bccd.md
    base, files, description = convert_base(student, path)
    lines += description
    overrides = {
        **prefixed('model', model),
        **prefixed('model.flow', flow),
        **overrides,
    }
    files[path] = render('distill', base, overrides, preset)
    write_configs(files)
    converted = data and data.annotations
    if converted and annotations is None:
        converted.write()
    return Composed(path, lines + describe(path, cfg_options), converted)


def teacher_settings(
    teacher: str, checkpoint: Optional[str], num_classes: Optional[int]
) -> Tuple[Dict[str, Any], List[str]]:
    """Return ``model.teacher``, and its description by line.

    Args:
        teacher (str): Teacher config: a file or a packaged config.
        checkpoint (str, optional): Path or URL; None: random weights.
        num_classes (int, optional): Number of classes of ``data_root``.
    """
    model = load_model_config(teacher, '--teacher')
    settings: Dict[str, Any] = dict(
        config=absolute_path(teacher),
        checkpoint=checkpoint and absolute_path(checkpoint),
    )
    if num_classes is not None and checkpoint is None:
        settings['cfg_options'] = num_classes_overrides(model, num_classes)
    lines = [f'teacher   {teacher} ({network_name(model)})']
    if checkpoint is None:
        lines.append('WARNING   random weights: set --teacher-checkpoint')
    else:
        lines.append(f'weights   {checkpoint}')
    return settings, lines


def compose_training(
    source: str, data_root: str, path: Union[str, Path]
) -> Composed:
    """Compose a config that trains a network on a folder, and write it.

    Args:
        source (str): Config of a detector or classifier: a file or a packaged
            config (``'mmdet::...'``, ``'mmpretrain::...'``).
        data_root (str): As in `compose_distillation`.
        path (str | Path): Output file, with converted annotations beside it.

    Raises:
        ConfigError: If the config has another model, or the folder lacks
            files.
    """
    path = Path(path)
    config, library, overrides = read_student(source, 'The config')
    if 'student' in config.model:
        raise ConfigError(
            '--data-root needs the config of a detector or classifier, but '
            f'{source!r} is a distillation: use mmfmkt distill.'
        )
    data = folder_data(config, library, data_root, path.parent)
    overrides.update({**prefixed('model', data.model), **data.overrides})
    base, files, description = convert_base(source, path)
    files[path] = render('train', base, overrides)
    write_configs(files)
    if data.annotations:
        data.annotations.write()
    model = f'model     {source} ({network_name(config.model)})'
    return Composed(path, [model, *data.summary, *description])


def check_options(
    library: str,
    teacher: Optional[str],
    variant: str,
    data_root: Optional[str],
    class_maps: bool,
    unlabelled: Optional[str],
) -> None:
    """Check the options of `compose_distillation`.

    Raises:
        ConfigError: If they are incompatible.
    """
    if variant not in VARIANTS:
        raise ConfigError(
            f'--variant must be one of {", ".join(VARIANTS)}, got {variant!r}.'
        )
    variant_type: Any = VARIANTS[variant]
    if (teacher is None) == variant_type.needs_teacher:
        verb = 'needs' if teacher is None else 'does not use'
        raise ConfigError(
            f'--teacher: the variant {variant!r} {verb} a teacher.'
        )
    if unlabelled and (variant_type.deploys_flow or teacher is None):
        raise ConfigError(
            '--unlabelled exports a backbone without a flow, but the variant '
            f'{variant!r} deploys its flow; use --variant theta or direct.'
        )
    if unlabelled and (data_root or class_maps):
        raise ConfigError(
            '--unlabelled cannot be combined with --data-root or --class-maps.'
        )
    if class_maps and (library != 'mmdet' or teacher is None):
        raise ConfigError(
            '--class-maps supports detectors with a teacher only.'
        )


def check_flow_options(
    variant: str, encoder: Optional[str], inference_steps: Optional[int]
) -> None:
    """Check ``encoder`` and ``inference_steps`` of `compose_distillation`.

    Raises:
        ConfigError: If the variant has no flow or does not deploy it.
    """
    variant_type: Any = VARIANTS[variant]
    if encoder and 'field' not in signature(variant_type).parameters:
        raise ConfigError(f'--encoder: the variant {variant!r} has no flow.')
    if inference_steps and not variant_type.deploys_flow:
        raise ConfigError(
            f'--inference-steps: the variant {variant!r} deploys no flow.'
        )


def read_student(
    source: str, key: str = 'The student'
) -> Tuple[Config, str, Dict[str, Any]]:
    """Read the config of the student or, to train it alone, of a detector.

    Args:
        source (str): A file or a packaged config.
        key (str): Name of the config in errors.

    Returns:
        tuple: The config, its library (``'mmdet'`` or ``'mmpretrain'``), and
        overrides by top-level key: ``default_scope`` if the config needs but
        lacks it.

    Raises:
        ConfigError: If the config does not exist or has no model of a
            supported library.
    """
    config = read_config(source, key=key)
    load_model_config(config, key)
    library = library_of(config, source)
    overrides: Dict[str, Any] = {}
    if not config.get('default_scope') and not resolve_type(
        config.model, MODELS, 'mmengine'
    ):
        # Types in the config have no scope, such as 'RetinaNet'.
        config.default_scope = overrides['default_scope'] = library
    return config, library, overrides


def library_of(config: Config, student: str) -> str:
    """Return the library of a student, ``'mmdet'`` or ``'mmpretrain'``.

    Without ``default_scope``, types are looked up in both libraries.

    Raises:
        ConfigError: If the student is neither a detector nor a classifier.
    """
    scope = config.get('default_scope')
    for library, base in BASE_CLASSES.items():
        if is_a(config.model, [base], MODELS, scope or library):
            return library
    if scope in BASE_CLASSES:
        return scope
    raise ConfigError(
        f'{student!r}: model.type must be a detector of MMDetection or a '
        f'classifier of MMPretrain, got {type_name(config.model)} with '
        f'default_scope = {scope!r}.'
    )


def network_name(model: dict) -> str:
    """Return the types of a network and its backbone as text."""
    backbone = model.get('backbone', {})
    depth = backbone.get('depth', '')
    name = type_name(backbone) if backbone else 'no backbone'
    return f'{type_name(model)}, {name}' + (f'-{depth}' if depth else '')
