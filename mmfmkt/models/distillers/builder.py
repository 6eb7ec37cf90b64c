"""Building of transfers from ``model.flow``: defaults, checks, registration.

Flows and losses do not depend on configs and take built modules. This module
registers the classes that the packages ``flows`` and ``losses`` export.
"""

from copy import deepcopy
from inspect import signature
from typing import (
    Any,
    Callable,
    Dict,
    List,
    Literal,
    NamedTuple,
    Optional,
    Sequence,
    Type,
    Union,
)

from mmengine.config import ConfigDict
from torch import nn

from mmfmkt.registry import MODELS, build_part
from mmfmkt.utils import ConfigError
from mmfmkt.utils.schema import (
    NonNegative,
    PositiveInt,
    UnitInterval,
    check_keys,
)

from .. import flows, losses
from ..flows import (
    VARIANTS,
    MapTransform,
    MetaEncoder,
    NoiseSchedule,
    ParallelFMKT,
    PooledHead,
    TeacherFlowTransfer,
    Transfer,
    VelocityField,
)
from ..losses import BaseMetricLoss
from ..losses.cross_kd_loss import TeacherHead
from .gradient_share import gradient_share
from .levels import SAME_STRIDE, check_distinct
from .taps import HEAD

TeacherHeadFactory = Callable[[], TeacherHead]

BASES = (MetaEncoder, NoiseSchedule, BaseMetricLoss)
for member in (*vars(flows).values(), *vars(losses).values()):
    if isinstance(member, type) and issubclass(member, BASES):
        if member not in BASES:
            MODELS.register_module(module=member)

# A number, 'auto', or settings of GradientShare.
LossWeight = Union[NonNegative, Literal['auto'], dict]
# Type and default of each key of model.flow.
FLOW_SETTINGS = dict(
    encoder=(
        Union[dict, MetaEncoder, Sequence[Union[dict, MetaEncoder]]],
        dict(type='ConvEncoder'),
    ),
    schedule=(Union[dict, NoiseSchedule], dict(type='RectifiedFlow')),
    metric=(Union[dict, BaseMetricLoss], dict(type='PKDLoss')),
    num_steps=(Union[PositiveInt, Sequence[PositiveInt]], (1, 2, 4, 8, 16)),
    inference_steps=(PositiveInt, 4),
    loss_weight=(Union[LossWeight, Sequence[LossWeight]], 10.0),
    dirac_ratio=(UnitInterval, 1.0),
    prediction=(str, 'velocity'),
    compare=(str, 'targets'),
    direct_weight=(NonNegative, 0.0),
    ensemble_weight=(NonNegative, 1.0),
    share_encoder=(bool, False),
    with_cp=(bool, False),
    compile=(Union[bool, dict], False),
)
# Keys of loss terms that only some variants have.
LOSS_TERMS = ('direct_weight', 'compare', 'ensemble_weight')
FLOW_SCHEMA = {key: hint for key, (hint, _) in FLOW_SETTINGS.items()}
FLOW_DEFAULTS = {key: value for key, (_, value) in FLOW_SETTINGS.items()}
# Defaults for the tap 'head', at which logits are compared.
HEAD_DEFAULTS = dict(
    metric=dict(type='KDLoss'), num_steps=8, inference_steps=8, loss_weight=1.0
)
TAP_SCHEMA = dict(
    tap=str,
    levels=Optional[Sequence[int]],
    flow=dict,
    teacher_tap=Optional[str],
)


class FeaturePair(NamedTuple):
    """Feature of the student and target of its transfer.

    Attributes:
        channels (int): Channels C_s of the student's feature.
        target_channels (int, optional): Channels C_t of the teacher's
            feature, or its number of classes; None without a teacher.
        is_vector (bool): Whether the student's feature is a vector ``(B, C)``
            instead of a map.
        space (str): Compared outputs, ``'maps'`` or ``'logits'``.
        teacher_head (Callable, optional): Factory of the teacher's dense
            head, for distillation losses that compare its predictions.
        stride_ratio (float): Stride of the student's map, relative to that of
            the target.
    """

    channels: int
    target_channels: Optional[int]
    is_vector: bool = False
    space: str = 'maps'
    teacher_head: Optional[TeacherHeadFactory] = None
    stride_ratio: float = 1.0


def build_transfer(
    variant: str,
    pair: FeaturePair,
    flow: ConfigDict,
    loss_weight: Union[float, str, dict],
    encoder: Any,
    name: str = '',
) -> Transfer:
    """Build the transfer of a feature.

    Args:
        variant (str): A key of ``VARIANTS``.
        pair (FeaturePair): Feature and target.
        flow (ConfigDict): Complete settings.
        loss_weight (float | str | dict): ``flow.loss_weight``, for this
            level.
        encoder (dict | MetaEncoder): ``flow.encoder``, for this level.
        name (str): Tap and level, for the log.

    Raises:
        ConfigError: If the settings contradict each other.
    """
    variant_cls = VARIANTS[variant]
    check_variant_settings(variant, flow)
    accepted = signature(variant_cls).parameters
    settings = (*LOSS_TERMS, 'with_cp')
    arguments = {key: flow[key] for key in settings if key in accepted}
    share = gradient_share(loss_weight, name)
    arguments['loss_weight'] = loss_weight if share is None else 1.0
    if flow.compare == 'velocities' or issubclass(variant_cls, ParallelFMKT):
        check_equal_shape(variant, flow.compare, pair)
    if pair.target_channels is not None:
        arguments.update(build_transforms(variant_cls, pair))
        arguments['metric'] = build_metric(flow.metric, pair)
    if 'field' in accepted:
        arguments['field'] = build_field(pair, flow, encoder)
    try:
        transfer = variant_cls(**arguments)
    except ValueError as error:
        raise ConfigError(f'model.flow.{error}') from error
    if share is not None and pair.target_channels is not None:
        share.starts_at_zero = not variant_cls.needs_teacher or (
            flow.compare == 'velocities'
            and not flow.direct_weight
            and transfer.field.starts_at_zero
        )
        transfer.gradient_share = share
    if flow.compile:
        transfer.compile(**({} if flow.compile is True else flow.compile))
    return transfer


def build_transforms(
    variant_cls: Type[Transfer], pair: FeaturePair
) -> Dict[str, nn.Module]:
    """Build the transforms T; for logits, T is the student's head.

    A variant whose flow is a training-only branch has two transforms: of the
    flow's estimates and of the student's feature.
    """
    channels = pair.channels, pair.target_channels
    has_branch = 'student_transform' in signature(variant_cls).parameters
    if pair.space == 'maps':
        names = ['student_transform'] * has_branch + ['transform']
        return {name: MapTransform(*channels) for name in names}
    return {'transform': PooledHead(*channels)} if has_branch else {}


def build_metric(metric: Any, pair: FeaturePair) -> BaseMetricLoss:
    """Build the distillation loss, and check that it can compare the pair."""
    # A built loss is copied: each level sets its own head and classes.
    metric = deepcopy(build_part(metric, 'model.flow.metric'))
    name = f'model.flow.metric {type(metric).__name__}'
    if pair.space not in metric.spaces:
        raise ConfigError(
            f'{name} compares {" or ".join(metric.spaces)}, but the target of '
            f'this tap is {pair.space}.'
        )
    if metric.needs_teacher_head:
        if pair.teacher_head is None:
            raise ConfigError(
                f"{name} compares predictions of the teacher's dense head: "
                "set tap to 'neck', with a teacher that has such a head."
            )
        teacher_head = pair.teacher_head()
        for part in metric.modules():
            if getattr(part, 'needs_teacher_head', False):
                part.teacher_head = teacher_head
    return metric


def build_field(
    pair: FeaturePair, flow: ConfigDict, encoder: Any
) -> VelocityField:
    """Build the velocity field, and check that it takes the feature."""
    encoder = build_part(
        encoder,
        'model.flow.encoder',
        channels=pair.channels,
        deep_time=pair.space == 'logits',
    )
    if encoder.channels != pair.channels:
        raise ConfigError(
            f'model.flow.encoder.channels is {encoder.channels}, but a tapped '
            f'feature has {pair.channels} channels; remove the keys channels '
            'and share_encoder.'
        )
    if pair.is_vector and not encoder.takes_vectors:
        raise ConfigError(
            f'model.flow.encoder {type(encoder).__name__} takes feature maps, '
            'but the feature is a vector; use MLPEncoder, which takes both.'
        )
    schedule = build_part(flow.schedule, 'model.flow.schedule')
    try:
        schedule.check()
        return VelocityField(encoder, schedule, flow.prediction)
    except ValueError as error:
        raise ConfigError(f'model.flow.{error}') from error


def check_equal_shape(variant: str, compare: str, pair: FeaturePair) -> None:
    """Raise a ConfigError unless a pair has maps of equal channels and stride.

    Sizes may still differ by rounding; the target is then resized.
    """
    is_maps = pair.space == 'maps'
    is_aligned = abs(pair.stride_ratio - 1) < SAME_STRIDE
    has_equal_channels = pair.target_channels in (None, pair.channels)
    if not (is_maps and is_aligned and has_equal_channels):
        raise ConfigError(
            f'model.variant {variant!r} with model.flow.compare {compare!r} '
            "needs features of equal shape, but the student's feature has "
            f'{pair.channels} channels and the target has '
            f'{pair.target_channels} {"channels" if is_maps else "logits"}; '
            f"the student's stride is {pair.stride_ratio:.4g} times the "
            "target's."
        )


def check_variant_settings(variant: str, flow: ConfigDict) -> None:
    """Raise a ConfigError for settings that a variant does not use."""
    variant_cls = VARIANTS[variant]
    accepted = signature(variant_cls).parameters
    for key in LOSS_TERMS:
        if key not in accepted and flow[key] not in (FLOW_DEFAULTS[key], 0):
            raise ConfigError(
                f'model.flow.{key} is {flow[key]!r}, but the variant '
                f'{variant!r} has no such term; remove the key.'
            )
    has_pairs = issubclass(variant_cls, TeacherFlowTransfer)
    if flow.dirac_ratio < 1 and not has_pairs:
        raise ConfigError(
            f'model.flow.dirac_ratio is {flow.dirac_ratio!r}, but in the '
            f'variant {variant!r} no flow is trained towards a teacher; '
            'remove the key.'
        )


def complete_flow(flow: Optional[dict]) -> ConfigDict:
    """Check a flow config, and add the defaults.

    Args:
        flow (dict, optional): ``model.flow`` of a config.

    Raises:
        ConfigError: If a key is unknown or a value is out of range.
    """
    flow = {k: v for k, v in (flow or {}).items() if k != '_scope_'}
    check_keys(flow, FLOW_SCHEMA, 'model.flow')
    return ConfigDict({**FLOW_DEFAULTS, **flow})


def complete_taps(
    tap: str,
    levels: Optional[Sequence[int]],
    flow: Optional[dict],
    taps: Optional[Sequence[dict]],
    teacher: Optional[dict],
    head_defaults: Dict[str, Any],
) -> List[dict]:
    """Return the complete settings of each tap.

    They are ``tap``, ``levels``, ``flow`` and ``teacher_tap``, which is by
    default the tap of the student.

    Args:
        tap (str): ``model.tap``.
        levels (Sequence[int], optional): ``model.levels``.
        flow (dict, optional): ``model.flow``.
        taps (Sequence[dict], optional): ``model.taps``.
        teacher (dict, optional): ``model.teacher``, whose ``tap`` is the
            default of ``teacher_tap``.
        head_defaults (dict): Defaults of ``flow`` for the tap ``'head'``.

    Raises:
        ConfigError: If there is no tap, if two taps are equal, or if a key
            is unknown.
    """
    if taps is None:
        taps = [dict(tap=tap, levels=levels)]
    completed = []
    teacher_tap = (teacher or {}).get('tap')
    for index, entry in enumerate(taps):
        entry = {k: v for k, v in entry.items() if k != '_scope_'}
        check_keys(
            entry, TAP_SCHEMA, f'model.taps[{index}]', required=('tap',)
        )
        defaults = head_defaults if entry['tap'] == HEAD else {}
        completed.append(
            dict(
                tap=entry['tap'],
                levels=entry.get('levels'),
                teacher_tap=entry.get('teacher_tap')
                or teacher_tap
                or entry['tap'],
                flow=complete_flow(
                    {**defaults, **(flow or {}), **entry.get('flow', {})}
                ),
            )
        )
    check_distinct([settings['tap'] for settings in completed], 'model.taps')
    return completed
