"""From ``model.flow`` of a config to a transfer: defaults, checks, building.

The flows themselves know no configs and take built parts. Those that flows
and losses export are registered here.
"""

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
from mmfmkt.utils.schema import Count, NotNegative, Share, check_keys

from .. import flows, losses
from ..flows import (
    VARIANTS,
    MapTransform,
    MetaEncoder,
    NoiseSchedule,
    PooledHead,
    Transfer,
    VelocityField,
)
from ..losses import BaseMetricLoss
from ..losses.cross_kd_loss import Reader

ReaderMaker = Callable[[], Reader]

BASES = (MetaEncoder, NoiseSchedule, BaseMetricLoss)
for part in (*vars(flows).values(), *vars(losses).values()):
    if isinstance(part, type) and issubclass(part, BASES):
        if part not in BASES:
            MODELS.register_module(module=part)

FLOW_DEFAULTS = dict(
    encoder=dict(type='ConvEncoder'),
    schedule=dict(type='RectifiedFlow'),
    metric=dict(type='PKDLoss'),
    num_steps=(1, 2, 4, 8, 16),
    inference_steps=4,
    loss_weight=10.0,
    dirac_ratio=1.0,
    prediction='velocity',
    compare='targets',
    direct_weight=0.0,
    ensemble_weight=1.0,
    share_encoder=False,
    with_cp=False,
    compile=False,
)
# What is usual where logits are compared.
HEAD_DEFAULTS = dict(
    metric=dict(type='KDLoss'), num_steps=8, inference_steps=8, loss_weight=1.0
)
FLOW_SCHEMA = dict(
    encoder=Union[dict, MetaEncoder, Sequence[Union[dict, MetaEncoder]]],
    schedule=Union[dict, NoiseSchedule],
    metric=Union[dict, BaseMetricLoss],
    num_steps=Union[Count, Sequence[Count]],
    inference_steps=Count,
    loss_weight=Union[NotNegative, Sequence[NotNegative]],
    dirac_ratio=Share,
    prediction=str,
    compare=str,
    direct_weight=NotNegative,
    ensemble_weight=NotNegative,
    share_encoder=bool,
    with_cp=bool,
    compile=Union[bool, dict],
)
TAP_SCHEMA = dict(
    tap=str,
    levels=Optional[Sequence[int]],
    flow=dict,
    teacher_tap=Optional[str],
)


class Ends(NamedTuple):
    """The two features that a transfer lies between.

    Attributes:
        channels (int): C_s of the student's.
        target_channels (int, optional): C_t of the teacher's, or its number
            of classes; None where there is no teacher.
        vectors (bool): Whether the student's is ``(B, C)`` instead of a map.
        space (str): What is compared, ``'maps'`` or ``'logits'``.
        reader (Callable, optional): Makes what reads the teacher's feature,
            for metrics that compare what is read.
    """

    channels: int
    target_channels: Optional[int]
    vectors: bool = False
    space: str = 'maps'
    reader: Optional[ReaderMaker] = None


def build_transfer(
    variant: str,
    ends: Ends,
    flow: ConfigDict,
    loss_weight: float,
    encoder: Any,
) -> Transfer:
    """Build a transfer of built parts.

    Args:
        variant (str): A key of ``VARIANTS``.
        ends (Ends): What it lies between.
        flow (ConfigDict): Settings, complete.
        loss_weight (float): Weight of its losses.
        encoder (dict | MetaEncoder): That of ``flow``, of this level.

    Raises:
        ConfigError: If the settings make no sense together.
    """
    kind = VARIANTS[variant]
    check_settings(variant, flow)
    parts: Dict[str, Any] = {}
    if flow.compare == 'velocities':
        check_equal_shape("model.flow.compare 'velocities'", ends)
    if kind.mixes:
        check_equal_shape(f'model.variant {variant!r}', ends)
    if ends.target_channels is not None:
        parts = build_training_parts(kind, ends)
        parts['metric'] = build_part(flow.metric, 'model.flow.metric')
        check_metric(parts['metric'], ends)
        if parts['metric'].needs_reader:
            parts['metric'].reader = ends.reader()
    if kind.walks:
        parts['field'] = build_field(ends, flow, encoder)
    try:
        transfer = kind(
            loss_weight=loss_weight,
            direct_weight=flow.direct_weight,
            compare=flow.compare,
            with_cp=flow.with_cp,
            **{key: flow[key] for key in kind.settings},
            **parts,
        )
    except ValueError as error:
        raise ConfigError(f'model.flow.{error}') from error
    if flow.compile:
        transfer.compile(**({} if flow.compile is True else flow.compile))
    return transfer


def build_training_parts(
    kind: Type[Transfer], ends: Ends
) -> Dict[str, nn.Module]:
    """T, and what a variant has beside it; none that a head takes over."""
    in_channels, out_channels = ends.channels, ends.target_channels
    if ends.space == 'maps':
        return {
            name: MapTransform(in_channels, out_channels)
            for name in kind.transforms
        }
    own = kind.transforms[1:]
    return {'transform': PooledHead(in_channels, out_channels)} if own else {}


def build_field(ends: Ends, flow: ConfigDict, encoder: Any) -> VelocityField:
    """Build the velocity field, and check it."""
    encoder = build_part(
        encoder,
        'model.flow.encoder',
        channels=ends.channels,
        deep_time=ends.space == 'logits',
    )
    if ends.vectors and not encoder.takes_vectors:
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


def check_equal_shape(what: str, ends: Ends) -> None:
    """Refuse what mixes both networks' features where it cannot."""
    if ends.space == 'logits' or ends.target_channels not in (
        None,
        ends.channels,
    ):
        kind = 'logits' if ends.space == 'logits' else 'channels'
        raise ConfigError(
            f"{what} needs features of equal shape, but the student's has "
            f'{ends.channels} channels and the target {ends.target_channels} '
            f'{kind}.'
        )


def check_metric(metric: BaseMetricLoss, ends: Ends) -> None:
    """Refuse a metric for which there is nothing to compare."""
    if ends.space not in metric.spaces:
        raise ConfigError(
            f'model.flow.metric {type(metric).__name__} compares '
            f'{" or ".join(metric.spaces)}, but the target is {ends.space} '
            'here.'
        )
    if metric.needs_reader and ends.reader is None:
        raise ConfigError(
            f'model.flow.metric {type(metric).__name__} compares what the '
            "teacher's dense head reads in its neck: set tap to 'neck', under "
            'a teacher that has such a head.'
        )


def check_settings(variant: str, flow: ConfigDict) -> None:
    """Refuse what only another variant has.

    Raises:
        ConfigError: If such a setting is not its default.
    """
    for other, kind in VARIANTS.items():
        for key in set(kind.settings) - set(VARIANTS[variant].settings):
            if flow[key] != FLOW_DEFAULTS[key]:
                raise ConfigError(
                    f'model.flow.{key} is {flow[key]!r}, but only the '
                    f'variant {other!r} has such a term: leave it out.'
                )


def check_pairing(variant: str, flow: ConfigDict) -> None:
    """Refuse pair decoupling where no flow is led to a teacher.

    Raises:
        ConfigError: If ``dirac_ratio`` has no meaning.
    """
    if flow.dirac_ratio < 1 and not VARIANTS[variant].pairs:
        raise ConfigError(
            f'model.flow.dirac_ratio is {flow.dirac_ratio!r}, but in the '
            f'variant {variant!r} no flow is led to a teacher: leave it out.'
        )


def complete_flow(flow: Optional[dict]) -> ConfigDict:
    """Fill a flow config with the defaults and check its plain values.

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
        teacher (dict, optional): ``model.teacher``, whose ``tap`` is that of
            the teacher where a tap has none of its own.

    Raises:
        ConfigError: If there is no tap, one twice, or an unknown key.
    """
    if taps is None:
        taps = [dict(tap=tap, levels=levels)]
    completed = []
    for index, own in enumerate(taps):
        own = {k: v for k, v in own.items() if k != '_scope_'}
        check_keys(own, TAP_SCHEMA, f'model.taps[{index}]', needed=('tap',))
        theirs = (teacher or {}).get('tap') or own['tap']
        completed.append(
            dict(
                tap=own['tap'],
                levels=own.get('levels'),
                teacher_tap=own.get('teacher_tap') or theirs,
                flow=complete_flow({**(flow or {}), **own.get('flow', {})}),
            )
        )
    names = [settings['tap'] for settings in completed]
    if not names or len(set(names)) < len(names):
        raise ConfigError(
            'model.taps must name one tap or more, each once, '
            f'but names {names}.'
        )
    return completed
