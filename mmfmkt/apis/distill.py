"""Composing a distillation from a student's and a teacher's config."""

import os.path as osp
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from mmengine.config import Config
from mmengine.registry import MODELS

from mmfmkt.datasets.coco_folder import find_coco_folder
from mmfmkt.models.distillers.classification import probe_classifier
from mmfmkt.models.distillers.networks import (
    build_network,
    load_model_config,
    without_weights,
)
from mmfmkt.models.flows import VARIANTS
from mmfmkt.utils import ConfigError
from mmfmkt.utils.config_text import assignment
from mmfmkt.utils.configs import read_config, walk
from mmfmkt.utils.files import write_whole
from mmfmkt.utils.types import resolve_type, type_name

from .choose_taps import decide_taps
from .data_overrides import data_overrides
from .describe import describe
from .unlabelled import unlabelled_overrides

PRESETS = dict(mmdet='fmkt_fpn', mmpretrain='fmkt_logits')
THETA_PRESETS = dict(PRESETS, mmdet='theta_fpn')
# What the networks are that a library's distiller takes.
NETWORKS = dict(
    mmdet='mmdet.models.detectors.BaseDetector',
    mmpretrain='mmpretrain.models.classifiers.BaseClassifier',
)


class Composed(NamedTuple):
    """A distillation that was composed.

    Attributes:
        config (Path): The config, which can be inherited and edited.
        decisions (list[str]): What was decided, a line each.
    """

    config: Path
    decisions: List[str]


def compose_distillation(
    student: str,
    teacher: Optional[str],
    path: Path,
    teacher_checkpoint: Optional[str] = None,
    variant: str = 'fmkt',
    data_root: Optional[str] = None,
    class_maps: bool = False,
    teacher_scale: Optional[float] = None,
    unlabelled: Optional[str] = None,
) -> Composed:
    """Compose a config from two, write it and say what it does.

    Args:
        student (str): The student's config: a file, or a packaged one
            (``'mmdet::...'``, ``'mmpretrain::...'``).
        teacher (str, optional): The teacher's; None for ``'online'``.
        path (Path): File to write.
        teacher_checkpoint (str, optional): Path or URL; None leaves the
            teacher's weights random.
        variant (str): A key of ``VARIANTS``.
        data_root (str, optional): Folder in COCO format that takes the place
            of the student's data set; detectors only. A teacher without a
            checkpoint gets its number of classes too.
        class_maps (bool): Whether the class maps of both detectors' dense
            heads flow too, beside the pyramid.
        teacher_scale (float, optional): Side of the teacher's images,
            relative to the student's; detectors only. None: chosen so that
            strides are equal.
        unlabelled (str, optional): Folder of images without annotations, on
            which the transfer alone trains backbone and neck.

    Raises:
        ConfigError: If the two do not go together; the message names what to
            change.
    """
    config, new_style = read_student(student)
    resolved = resolved_text(config, student) if new_style else None
    library = library_of(config, student)
    check_request(library, teacher, variant, data_root, class_maps, unlabelled)
    lines = [f'student   {student} ({network_name(config.model)})']
    model: Dict[str, Any] = dict(variant=variant)
    overrides: Dict[str, Any] = {}
    classes: Dict[str, Any] = {}
    options: Dict[str, Any] = {}
    if not config.get('default_scope') and not resolve_type(
        config.model, MODELS, 'mmengine'
    ):
        # The names in the config are those of one library.
        config.default_scope = overrides['default_scope'] = library
    data = find_coco_folder(data_root) if data_root else None
    if data is not None:
        replaced, described = data_overrides(config, data)
        overrides.update(replaced)
        lines += described
        classes = classes_of(config.model, len(data.classes))
        config.merge_from_dict({f'model.{k}': v for k, v in classes.items()})
    if unlabelled:
        replaced, classes, described = unlabelled_overrides(
            config, unlabelled, library
        )
        overrides.update(replaced)
        lines += described
        model['task_loss'] = False
        if library == 'mmpretrain':
            model.update(
                type='mmfmkt.ClassificationDistiller', _scope_=library
            )
    if teacher is not None:
        theirs = load_model_config(teacher, '--teacher')
        lines.append(
            f'teacher   {teacher} ({network_name(theirs)}), weights '
            f'{teacher_checkpoint or "random"}'
        )
        if data is not None and teacher_checkpoint is None:
            options = classes_of(theirs, len(data.classes))
        model['teacher'] = dict(
            config=absolute(teacher),
            checkpoint=teacher_checkpoint and absolute(teacher_checkpoint),
            **(dict(cfg_options=options) if options else {}),
        )
    if library == 'mmdet' or unlabelled:
        lines += decide_taps(
            config, library, model, teacher, class_maps, teacher_scale
        )
    encoder = None
    if (
        library == 'mmpretrain'
        and not unlabelled
        and feature_is_vector(config)
    ):
        encoder = 'MLPEncoder'
        lines.append('encoder   MLPEncoder: the last feature is a vector')
    base = absolute(student)
    if resolved:
        base = f'{path.stem}_student.py'
        write(path.with_name(base), resolved)
        lines.append(
            f'base      {base}, the student as an old-style config: MMEngine '
            'inherits new-style configs in new-style ones alone'
        )
    presets = THETA_PRESETS if variant == 'theta' else PRESETS
    preset = presets['mmdet' if unlabelled else library]
    text = render(base, config, preset, model, overrides, classes, encoder)
    write(path, text)
    return Composed(path, lines + describe(path))


def check_request(
    library: str,
    teacher: Optional[str],
    variant: str,
    data_root: Optional[str],
    class_maps: bool,
    unlabelled: Optional[str],
) -> None:
    """Insist on options that go together; see `compose_distillation`.

    Raises:
        ConfigError: If they do not.
    """
    if variant not in VARIANTS:
        raise ConfigError(
            f'--variant must be one of {", ".join(VARIANTS)}, '
            f'but is {variant!r}.'
        )
    kind: Any = VARIANTS[variant]
    if (teacher is None) == kind.needs_teacher:
        need = 'needs a' if teacher is None else 'learns without a'
        raise ConfigError(f'The variant {variant!r} {need} teacher.')
    if unlabelled and (kind.deploys_flow or teacher is None):
        raise ConfigError(
            f'--unlabelled trains a backbone under a teacher, which is used '
            f'without its flow, but the variant {variant!r} deploys it: use '
            '--variant theta or direct.'
        )
    if unlabelled and (data_root or class_maps):
        raise ConfigError(
            '--unlabelled goes neither with --data-root nor with --class-maps.'
        )
    if data_root and library != 'mmdet':
        raise ConfigError(
            '--data-root is for detectors; set data_root in a '
            "classifier's config."
        )
    if class_maps and (library != 'mmdet' or teacher is None):
        raise ConfigError('--class-maps is for detectors with a teacher.')


def write(path: Path, text: str) -> None:
    """Write a config, and never over one that somebody has edited.

    Raises:
        ConfigError: If another text stands there.
    """
    if path.exists() and path.read_text(encoding='utf-8') != text:
        raise ConfigError(
            f'{str(path)!r} is there and differs from what would be composed: '
            'train it with tools/train.py, delete it, or name another '
            '--work-dir.'
        )
    # Half a config would look like an edited one.
    write_whole(path, text)


def read_student(student: str) -> Tuple[Config, bool]:
    """Read the student's whole config.

    Returns:
        tuple: The config, and whether it is a new-style one
        (``with read_base()``, ``type=SomeClass``).

    Raises:
        ConfigError: If there is none.
    """
    config = read_config(student, key='The student')
    load_model_config(config, 'the student')
    # Private in MMEngine 0.10.7: nothing public tells the two styles apart.
    return config, Config._is_lazy_import(config.filename)


def resolved_text(config: Config, student: str) -> str:
    """Return a new-style config as the text of an old-style one."""
    # to_dict leaves out what the config only imports, such as classes.
    values = [assignment(key, config[key]) for key in config.to_dict()]
    return '\n'.join([f'# Resolved from {student}', *values, ''])


def library_of(config: Config, student: str) -> str:
    """Return the library whose distiller takes a student.

    Names that MMEngine does not find are looked up in the libraries, where
    the config has no ``default_scope``.

    Raises:
        ConfigError: If the student is neither a detector nor a classifier.
    """
    scope = config.get('default_scope')
    for place in [scope] if scope else ['mmengine', *NETWORKS]:
        kind = resolve_type(config.model, MODELS, place) or object
        for library, name in NETWORKS.items():
            # None where the library is not installed.
            if issubclass(kind, resolve_type(name, MODELS) or ()):
                return library
    if scope in NETWORKS:
        return scope
    raise ConfigError(
        f'{student!r}: model.type must be a detector of MMDetection or a '
        f'classifier of MMPretrain, but is {type_name(config.model)}, with '
        f'default_scope = {scope!r}.'
    )


def absolute(source: str) -> str:
    """Return a packaged name or a URL as it is, and a path in full."""
    if '::' in source or '://' in source:
        return source
    # A link stays one: MMEngine looks for bases beside it, too.
    return osp.abspath(osp.expanduser(source))


def network_name(model: dict) -> str:
    """Return the name of a network and of its backbone."""
    backbone = model.get('backbone', {})
    depth = backbone.get('depth', '')
    kind = type_name(backbone) if backbone else 'no backbone'
    return f'{type_name(model)}, {kind}' + (f'-{depth}' if depth else '')


def classes_of(model: dict, num_classes: int) -> Dict[str, Any]:
    """Return dotted overrides that give a network a number of classes."""
    found: Dict[str, Any] = {}
    for key, value in walk(model):
        name = key.rpartition('.')[2]
        if name in ('num_classes', 'num_things_classes'):
            if 'rpn' not in key:
                found[key] = num_classes
        elif name == 'class_weight' and isinstance(value, (list, tuple)):
            if len(set(value[:-1])) == 1:  # the last is the background's
                found[key] = [value[0]] * num_classes + [value[-1]]
    return found


def feature_is_vector(config: Config) -> bool:
    """Whether the last feature of a classifier is a token and not a map."""
    network = build_network(
        without_weights(load_model_config(config, 'the student')), 'mmpretrain'
    )
    return probe_classifier(network, 'student')[0].dim() == 2


def render(
    base: str,
    config: Config,
    preset: str,
    model: dict,
    overrides: dict,
    classes: dict,
    encoder: Optional[str],
) -> str:
    """Return the text of the composed config.

    Args:
        base (str): The student's config, for ``_base_``.
        config (Config): The same, read.
        preset (str): Name of a config in ``_base_``, with a ``distiller``.
        model (dict): Settings of the distiller.
        overrides (dict): Other keys of the config.
        classes (dict): Dotted overrides of the student.
        encoder (str, optional): Type of the flow's encoder, where it is not
            the preset's.
    """
    lines = [
        '# Composed by tools/distill.py; edit it, or inherit it.',
        '_base_ = [',
        f'    {base!r},',
        f"    'mmfmkt::_base_/{preset}.py',",
        ']',
        'model = dict(',
        '    _base_.distiller,',
        '    _delete_=True,',
        '    student=_base_.model)',
    ]
    if 'data_preprocessor' in config and not config.model.get(
        'data_preprocessor'
    ):
        # The distiller hands it on to the student.
        lines.append("model['data_preprocessor'] = _base_.data_preprocessor")
    lines += [assignment(f'model[{key!r}]', x) for key, x in model.items()]
    if encoder:
        lines.append(f"model['flow']['encoder'] = dict(type={encoder!r})")
    for name, value in classes.items():
        keys = ''.join(
            f'[{int(key) if key.isdigit() else key!r}]'
            for key in name.split('.')
        )
        lines.append(assignment(f"model['student']{keys}", value))
    lines += [assignment(key, value) for key, value in overrides.items()]
    return '\n'.join(lines) + '\n'
