"""From ``model.flow`` of a config to transfers: defaults, checks, building.

Flows and losses know no configs and take built parts. Those that they export
are registered here.
"""

from inspect import signature
from typing import (
    Any,
    Callable,
    Dict,
    List,
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
from .taps import check_distinct

TeacherHeadFactory = Callable[[], TeacherHead]

BASES = (MetaEncoder, NoiseSchedule, BaseMetricLoss)
for part in (*vars(flows).values(), *vars(losses).values()):
    if isinstance(part, type) and issubclass(part, BASES):
        if part not in BASES:
            MODELS.register_module(module=part)

# Type and default of each key.
FLOW_SETTINGS = dict(
    encoder=(
        Union[dict, MetaEncoder, Sequence[Union[dict, MetaEncoder]]],
        dict(type='ConvEncoder'),
    ),
    schedule=(Union[dict, NoiseSchedule], dict(type='RectifiedFlow')),
    metric=(Union[dict, BaseMetricLoss], dict(type='PKDLoss')),
    num_steps=(Union[PositiveInt, Sequence[PositiveInt]], (1, 2, 4, 8, 16)),
    inference_steps=(PositiveInt, 4),
    loss_weight=(Union[NonNegative, Sequence[NonNegative]], 10.0),
    dirac_ratio=(UnitInterval, 1.0),
    prediction=(str, 'velocity'),
    compare=(str, 'targets'),
    direct_weight=(NonNegative, 0.0),
    ensemble_weight=(NonNegative, 1.0),
    share_encoder=(bool, False),
    with_cp=(bool, False),
    compile=(Union[bool, dict], False),
)
# Settings that not every variant has.
VARIANT_SETTINGS = ('direct_weight', 'compare', 'ensemble_weight', 'with_cp')
FLOW_SCHEMA = {key: kind for key, (kind, _) in FLOW_SETTINGS.items()}
FLOW_DEFAULTS = {key: value for key, (_, value) in FLOW_SETTINGS.items()}
# Defaults for logits.
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
    """A student's feature and what it is transferred to.

    Attributes:
        channels (int): C_s of the student's.
        target_channels (int, optional): C_t of the teacher's, or its number
            of classes; None without a teacher.
        is_vector (bool): Whether the student's is ``(B, C)`` and no map.
        space (str): What is compared, ``'maps'`` or ``'logits'``.
        teacher_head (Callable, optional): Factory of the teacher's head, for
            losses that compare its predictions.
    """

    channels: int
    target_channels: Optional[int]
    is_vector: bool = False
    space: str = 'maps'
    teacher_head: Optional[TeacherHeadFactory] = None


def build_transfer(
    variant: str,
    pair: FeaturePair,
    flow: ConfigDict,
    loss_weight: float,
    encoder: Any,
) -> Transfer:
    """Build a transfer and its parts.

    Args:
        variant (str): A key of ``VARIANTS``.
        pair (FeaturePair): The features.
        flow (ConfigDict): Complete settings.
        loss_weight (float): Weight of its losses.
        encoder (dict | MetaEncoder): That of ``flow``, for this level.

    Raises:
        ConfigError: If the settings do not fit each other.
    """
    kind = VARIANTS[variant]
    check_settings(variant, flow)
    accepted = signature(kind).parameters
    parts: Dict[str, Any] = {}
    if flow.compare == 'velocities':
        check_equal_shape("model.flow.compare 'velocities'", pair)
    if issubclass(kind, ParallelFMKT):
        check_equal_shape(f'model.variant {variant!r}', pair)
    if pair.target_channels is not None:
        parts = build_training_parts(kind, pair)
        parts['metric'] = build_metric(flow.metric, pair)
    if 'field' in accepted:
        parts['field'] = build_field(pair, flow, encoder)
    try:
        transfer = kind(
            loss_weight=loss_weight,
            **{key: flow[key] for key in VARIANT_SETTINGS if key in accepted},
            **parts,
        )
    except ValueError as error:
        raise ConfigError(f'model.flow.{error}') from error
    if flow.compile:
        transfer.compile(**({} if flow.compile is True else flow.compile))
    return transfer


def build_training_parts(
    kind: Type[Transfer], pair: FeaturePair
) -> Dict[str, nn.Module]:
    """Build a variant's transforms, unless the student's head is one."""
    channels = pair.channels, pair.target_channels
    # The student's own transform comes first, beside that of a branch.
    branch = 'student_transform' in signature(kind).parameters
    if pair.space == 'maps':
        names = ['student_transform'] * branch + ['transform']
        return {name: MapTransform(*channels) for name in names}
    return {'transform': PooledHead(*channels)} if branch else {}


def build_metric(metric: Any, pair: FeaturePair) -> BaseMetricLoss:
    """Build the distillation loss, and check that the pair suits it."""
    metric = build_part(metric, 'model.flow.metric')
    name = f'model.flow.metric {type(metric).__name__}'
    if pair.space not in metric.spaces:
        raise ConfigError(
            f'{name} compares {" or ".join(metric.spaces)}, but the target '
            f'is {pair.space} here.'
        )
    if metric.needs_teacher_head:
        if pair.teacher_head is None:
            raise ConfigError(
                f"{name} compares predictions of the teacher's dense head: "
                "set tap to 'neck', under a teacher that has such a head."
            )
        metric.teacher_head = pair.teacher_head()
    return metric


def build_field(
    pair: FeaturePair, flow: ConfigDict, encoder: Any
) -> VelocityField:
    """Build the velocity field, and check it."""
    encoder = build_part(
        encoder,
        'model.flow.encoder',
        channels=pair.channels,
        deep_time=pair.space == 'logits',
    )
    if encoder.channels != pair.channels:
        raise ConfigError(
            f'model.flow.encoder.channels is {encoder.channels}, but a tapped '
            f'feature has {pair.channels} channels; leave out the key and '
            'share_encoder.'
        )
    if pair.is_vector and not encoder.takes_vectors:
        raise ConfigError(
            f'model.flow.encoder {type(encoder).__name__} takes feature maps, '
            'but the feature is a vector; an MLPEncoder takes both.'
        )
    schedule = build_part(flow.schedule, 'model.flow.schedule')
    try:
        schedule.check()
        return VelocityField(encoder, schedule, flow.prediction)
    except ValueError as error:
        raise ConfigError(f'model.flow.{error}') from error


def check_equal_shape(name: str, pair: FeaturePair) -> None:
    """Raise a ConfigError if student and teacher cannot be interpolated."""
    maps = pair.space == 'maps'
    if not maps or pair.target_channels not in (None, pair.channels):
        raise ConfigError(
            f"{name} needs features of equal shape, but the student's has "
            f'{pair.channels} channels and the target {pair.target_channels} '
            f'{"channels" if maps else "logits"}.'
        )


def check_settings(variant: str, flow: ConfigDict) -> None:
    """Raise a ConfigError for settings that a variant does not use."""
    kind = VARIANTS[variant]
    for key in VARIANT_SETTINGS[:-1]:
        if key not in signature(kind).parameters:
            if flow[key] != FLOW_DEFAULTS[key]:
                raise ConfigError(
                    f'model.flow.{key} is {flow[key]!r}, but the variant '
                    f'{variant!r} has no such term: leave it out.'
                )
    if flow.dirac_ratio < 1 and not issubclass(kind, TeacherFlowTransfer):
        raise ConfigError(
            f'model.flow.dirac_ratio is {flow.dirac_ratio!r}, but in the '
            f'variant {variant!r} no flow is trained towards a teacher: leave '
            'it out.'
        )


def complete_flow(flow: Optional[dict]) -> ConfigDict:
    """Check a flow config, and add the defaults.

    Args:
        flow (dict, optional): ``model.flow`` of a config.

    Raises:
        ConfigError: If a key is unknown or a value out of range.
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
) -> List[dict]:
    """Return ``tap``, ``levels``, ``flow`` and ``teacher_tap`` of each tap.

    Args:
        tap (str): ``model.tap``.
        levels (Sequence[int], optional): ``model.levels``.
        flow (dict, optional): ``model.flow``.
        taps (Sequence[dict], optional): ``model.taps``.
        teacher (dict, optional): ``model.teacher``, with the default of
            ``teacher_tap`` in ``tap``.

    Raises:
        ConfigError: If there is no tap, one twice, or an unknown key.
    """
    if taps is None:
        taps = [dict(tap=tap, levels=levels)]
    completed = []
    for index, own in enumerate(taps):
        own = {k: v for k, v in own.items() if k != '_scope_'}
        check_keys(own, TAP_SCHEMA, f'model.taps[{index}]', required=('tap',))
        teacher_tap = own.get('teacher_tap') or (teacher or {}).get('tap')
        completed.append(
            dict(
                tap=own['tap'],
                levels=own.get('levels'),
                teacher_tap=teacher_tap or own['tap'],
                flow=complete_flow({**(flow or {}), **own.get('flow', {})}),
            )
        )
    check_distinct([settings['tap'] for settings in completed], 'model.taps')
    return completed
