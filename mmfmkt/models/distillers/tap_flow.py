"""The flows of one tap: which levels flow, how, and in how many steps."""

from typing import Any, Dict, List, Optional, Sequence, Tuple

from mmengine.config import ConfigDict
from torch import Tensor, nn

from mmfmkt.utils import ConfigError

from ..flows import VARIANTS, StepCount, decouple_pairs
from .taps import LevelSpec, as_levels, like_output

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
)

TAP_KEYS = {'tap', 'levels', 'flow', 'teacher_tap'}


class TapFlow(nn.ModuleDict):
    """One flow for each tapped level, by the level's index.

    Args:
        tap (str): Path of the tapped module.
        levels (Sequence[int]): Indices of the tapped levels.
        student (list[LevelSpec]): What the tap of the student gives.
        teacher (dict[int, LevelSpec], optional): What the tap of the teacher
            gives, by level of the student; None where there is none.
        variant (str): A key of ``VARIANTS``.
        flow (dict): Settings, complete.

    Raises:
        ConfigError: If settings do not fit levels and channels.
    """

    def __init__(
        self,
        tap: str,
        levels: Sequence[int],
        student: List[LevelSpec],
        teacher: Optional[Dict[int, LevelSpec]],
        variant: str,
        flow: ConfigDict,
    ) -> None:
        super().__init__()
        self.tap = tap
        self.inference_steps = flow.inference_steps
        self.dirac_ratio = flow.dirac_ratio
        self.step_count = StepCount(flow.num_steps)
        transfer = VARIANTS[variant]
        check_pairing(variant, flow)
        for level, weight in zip(levels, self._weights(levels, flow)):
            channels = student[level].channels
            self._check_channels(level, channels, flow)
            if not transfer.needs_teacher:
                target_channels = channels
            else:
                target_channels = teacher and teacher[level].channels
            self[str(level)] = transfer(
                channels,
                target_channels,
                loss_weight=weight,
                **{
                    key: flow[key]
                    for key in (
                        'encoder',
                        'schedule',
                        'metric',
                        'prediction',
                        'compare',
                        'direct_weight',
                    )
                },
            )

    @staticmethod
    def _weights(levels: Sequence[int], flow: ConfigDict) -> Sequence[float]:
        weights = flow.loss_weight
        if not isinstance(weights, Sequence):
            weights = [weights] * len(levels)
        if len(weights) != len(levels):
            raise ConfigError(
                f'model.flow.loss_weight has {len(weights)} values for '
                f'{len(levels)} levels; give one for each of model.levels '
                f'{tuple(levels)}, or one for all.'
            )
        return weights

    def _check_channels(
        self, level: int, channels: int, flow: ConfigDict
    ) -> None:
        wanted = flow.encoder.get('channels', channels)
        if wanted != channels:
            raise ConfigError(
                f'model.flow.encoder.channels is {wanted}, but level {level} '
                f'of tap {self.tap!r} has {channels} channels; leave the key '
                'out to follow the student.'
            )

    def transport(self, output: Any) -> Any:
        """Replace the tapped levels by the transferred ones.

        Args:
            output (Tensor | Sequence[Tensor]): What the tapped module gave.
        """
        levels = as_levels(output, self.tap)
        for name, flow in self.items():
            levels[int(name)] = flow.transport(
                levels[int(name)], self.inference_steps
            )
        return like_output(output, levels, self.tap)

    def transfer(
        self, output: Any, targets: Optional[Dict[int, Tensor]], weight: float
    ) -> Tuple[Dict[str, Tensor], Any]:
        """Walk and compare.

        Args:
            output (Tensor | Sequence[Tensor]): What the tapped module gave.
            targets (dict[int, Tensor], optional): The teacher's levels, by
                level of the student; None while the transfer is stopped, and
                without a teacher.
            weight (float): Factor of the losses.

        Returns:
            tuple: Losses named ``<tap>.<level>.<part>``, and what takes the
            output's place.
        """
        levels = as_levels(output, self.tap)
        num_steps = self.step_count.draw()
        order = None
        if targets is not None and self.dirac_ratio < 1:
            source = levels[0]
            order = decouple_pairs(
                len(source), self.dirac_ratio, device=source.device
            )
        losses = {}
        for name, flow in self.items():
            source, target = levels[int(name)], None
            if targets is not None:
                # At equal strides a larger map is one with more padding.
                height, width = source.shape[-2:]
                target = targets[int(name)][..., :height, :width]
                # Branches that a student trains side by side, one behind
                # the other in the batch, all follow the teacher's only one.
                branches = len(source) // len(target)
                if branches > 1:
                    target = target.repeat(branches, 1, 1, 1)
            parts, levels[int(name)] = flow(
                source, target, num_steps, order=order
            )
            losses.update(weigh(parts, weight, prefix=f'{self.tap}.{name}.'))
        return losses, like_output(output, levels, self.tap)


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


def weigh(
    losses: Dict[str, Tensor], weight: float, prefix: str
) -> Dict[str, Tensor]:
    """Name losses, and weigh those of the transfer.

    Args:
        losses (dict): As FlowTransfer gives them.
        weight (float): Factor of all but the losses of the student's task.
        prefix (str): What names are to begin with.
    """
    return {
        prefix + name: loss
        if name.startswith(('task', 'loss_task'))
        else weight * loss
        for name, loss in losses.items()
    }


def complete_flow(flow: Optional[dict]) -> ConfigDict:
    """Fill a flow config with the defaults and check its plain values.

    Args:
        flow (dict, optional): ``model.flow`` of a config.

    Raises:
        ConfigError: If a key is unknown or a value out of range.
    """
    flow = {k: v for k, v in (flow or {}).items() if k != '_scope_'}
    unknown = set(flow) - set(FLOW_DEFAULTS)
    if unknown:
        raise ConfigError(
            f'model.flow has no key {", ".join(sorted(unknown))}; its keys '
            f'are {", ".join(FLOW_DEFAULTS)}.'
        )
    flow = ConfigDict({**FLOW_DEFAULTS, **flow})
    if not isinstance(flow.inference_steps, int) or flow.inference_steps < 1:
        raise ConfigError(
            'model.flow.inference_steps must be a positive '
            f'integer, but is {flow.inference_steps!r}.'
        )
    if not 0 <= flow.dirac_ratio <= 1:
        raise ConfigError(
            'model.flow.dirac_ratio must lie in [0, 1], but is '
            f'{flow.dirac_ratio!r}.'
        )
    return flow


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
    for own in taps:
        own = {k: v for k, v in own.items() if k != '_scope_'}
        if 'tap' not in own or set(own) - TAP_KEYS:
            raise ConfigError(
                'Each of model.taps takes the keys tap, levels, '
                'flow and teacher_tap, but has '
                f'{", ".join(sorted(own))}.'
            )
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
