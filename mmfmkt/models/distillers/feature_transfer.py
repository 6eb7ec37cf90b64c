"""The flows of one tap: which levels flow, how, and in how many steps."""

from typing import Any, Dict, List, Optional, Sequence, Tuple

from mmengine.config import ConfigDict
from torch import Tensor, nn

from mmfmkt.utils import ConfigError

from ..flows import VARIANTS, MetaEncoder, decouple_pairs
from .builder import Ends, ReaderMaker, build_transfer, check_pairing
from .step_count import StepCount
from .taps import LevelSpec, as_levels, like_output


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
        readers (dict[int, Callable], optional): What makes readers of the
            teacher's levels, by level of the student, where it has them.

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
        readers: Optional[Dict[int, ReaderMaker]] = None,
    ) -> None:
        super().__init__()
        self.tap = tap
        self.inference_steps = flow.inference_steps
        self.dirac_ratio = flow.dirac_ratio
        self.step_count = StepCount(flow.num_steps)
        check_pairing(variant, flow)
        needs_teacher = VARIANTS[variant].needs_teacher
        weights = self._per_level(flow.loss_weight, levels, 'loss_weight')
        encoders = self._per_level(flow.encoder, levels, 'encoder')
        for level, weight, encoder in zip(levels, weights, encoders):
            channels = student[level].channels
            self._check_channels(level, channels, encoder)
            target_channels = channels
            if needs_teacher:
                target_channels = teacher and teacher[level].channels
            if flow.share_encoder and len(self):
                encoder = self._shared_encoder(level, channels, flow)
            reader = (readers or {}).get(level)
            ends = Ends(channels, target_channels, reader=reader)
            self[str(level)] = build_transfer(
                variant, ends, flow, weight, encoder
            )

    def _shared_encoder(
        self, level: int, channels: int, flow: ConfigDict
    ) -> MetaEncoder:
        """The encoder of the first level, for all."""
        if not isinstance(flow.encoder, dict):
            raise ConfigError(
                'model.flow.share_encoder has all levels share one encoder, '
                'but model.flow.encoder has one for each.'
            )
        first = next(iter(self.values()))
        if (
            first.field is not None
            and first.field.encoder.channels != channels
        ):
            raise ConfigError(
                f'model.flow.share_encoder: level {level} of tap '
                f'{self.tap!r} has {channels} channels and the first one '
                f'{first.field.encoder.channels}; one encoder takes only one '
                'number of channels.'
            )
        return first.field and first.field.encoder

    @staticmethod
    def _per_level(
        value: Any, levels: Sequence[int], key: str
    ) -> Sequence[Any]:
        """A setting of each level, of one for all or one for each."""
        if not isinstance(value, (list, tuple)):
            return [value] * len(levels)
        if len(value) != len(levels):
            raise ConfigError(
                f'model.flow.{key} has {len(value)} values for '
                f'{len(levels)} levels; give one for each of model.levels '
                f'{tuple(levels)}, or one for all.'
            )
        return value

    def _check_channels(
        self, level: int, channels: int, encoder: dict
    ) -> None:
        wanted = encoder.get('channels', channels)
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
        self,
        output: Any,
        targets: Optional[Dict[int, Tensor]],
        weight: float,
        diagnose: bool = False,
    ) -> Tuple[Dict[str, Tensor], Any]:
        """Walk and compare.

        Args:
            output (Tensor | Sequence[Tensor]): What the tapped module gave.
            targets (dict[int, Tensor], optional): The teacher's levels, by
                level of the student; None while the transfer is stopped, and
                without a teacher.
            weight (float): Factor of the losses.
            diagnose (bool): Whether to give ``metric_of_mean`` as well.

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
                source, target, num_steps, order=order, diagnose=diagnose
            )
            losses.update(weigh(parts, weight, prefix=f'{self.tap}.{name}.'))
        return losses, like_output(output, levels, self.tap)


def weigh(
    losses: Dict[str, Tensor], weight: float, prefix: str
) -> Dict[str, Tensor]:
    """Name losses, and weigh those of the transfer.

    Args:
        losses (dict): As a transfer gives them.
        weight (float): Factor of all but the losses of the student's task.
        prefix (str): What names are to begin with.
    """
    return {
        prefix + name: loss
        if name.startswith(('task', 'loss_task'))
        else weight * loss
        for name, loss in losses.items()
    }
