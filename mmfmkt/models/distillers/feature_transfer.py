"""Transfer between feature maps: a flow for each level of a tap."""

from typing import Any, Dict, Optional, Sequence, Tuple

from mmengine.config import ConfigDict
from mmengine.logging import MessageHub
from torch import Tensor, nn

from mmfmkt.utils import ConfigError

from ..flows import decouple_pairs
from .builder import FeaturePair, build_transfer
from .step_count import StepCount
from .taps import as_levels, replace_levels

# Loggers write at multiples of this number of iterations.
DIAGNOSIS_INTERVAL = 10


class TapTransfer(nn.ModuleDict):
    """Settings that the flows of one tap share.

    Args:
        tap (str): Path of the tapped module.
        flow (ConfigDict): Complete settings.

    Attributes:
        inference_steps (int): K.
        step_count (StepCount): Draws N.
    """

    def __init__(self, tap: str, flow: ConfigDict) -> None:
        super().__init__()
        self.tap = tap
        self.inference_steps = flow.inference_steps
        self.dirac_ratio = flow.dirac_ratio
        self.step_count = StepCount(flow.num_steps)

    def draw_permutation(self, source: Tensor) -> Optional[Tensor]:
        """Draw which sample's target each flow gets; None: its own."""
        if self.dirac_ratio == 1:
            return None
        return decouple_pairs(
            len(source), self.dirac_ratio, device=source.device
        )


class FeatureTransfer(TapTransfer):
    """A flow for each tapped level, by the level's index.

    Args:
        tap (str): Path of the tapped module.
        features (dict[int, FeaturePair]): Features of the tapped levels.
        variant (str): A key of ``VARIANTS``.
        flow (ConfigDict): Complete settings.

    Raises:
        ConfigError: If settings do not fit levels and channels.
    """

    def __init__(
        self,
        tap: str,
        features: Dict[int, FeaturePair],
        variant: str,
        flow: ConfigDict,
    ) -> None:
        super().__init__(tap, flow)
        if flow.share_encoder and isinstance(flow.encoder, (list, tuple)):
            raise ConfigError(
                'model.flow.share_encoder shares one encoder, but '
                'model.flow.encoder has one for each level.'
            )
        levels = list(features)
        weights = per_level(flow.loss_weight, levels, 'loss_weight')
        encoders = per_level(flow.encoder, levels, 'encoder')
        for level, weight, encoder in zip(levels, weights, encoders):
            if flow.share_encoder and len(self):
                field = next(iter(self.values())).field
                encoder = field and field.encoder
            self[str(level)] = build_transfer(
                variant, features[level], flow, weight, encoder
            )

    def sample(self, output: Any) -> Any:
        """Replace the tapped levels by the transferred ones.

        Args:
            output (Tensor | Sequence[Tensor]): Output of the tapped module.
        """
        levels = as_levels(output, self.tap)
        for name, flow in self.items():
            levels[int(name)] = flow.sample(
                levels[int(name)], self.inference_steps
            )
        return replace_levels(output, levels, self.tap)

    def forward(
        self,
        output: Any,
        targets: Optional[Dict[int, Tensor]],
        weight: float,
        diagnose: bool = False,
    ) -> Tuple[Dict[str, Tensor], Any]:
        """Return losses and transferred levels.

        Args:
            output (Tensor | Sequence[Tensor]): Output of the tapped module.
            targets (dict[int, Tensor], optional): The teacher's levels, by
                level of the student; None while the transfer rests, and
                without a teacher.
            weight (float): Factor of the losses.
            diagnose (bool): Whether to add ``metric_of_mean``.

        Returns:
            tuple: Losses named ``<tap>.<level>.<part>``, and the output with
            the transferred levels.
        """
        levels = as_levels(output, self.tap)
        num_steps = self.step_count.draw()
        permutation = None
        if targets is not None:
            permutation = self.draw_permutation(levels[0])
        losses = {}
        for name, flow in self.items():
            source, target = levels[int(name)], None
            if targets is not None:
                # At equal strides a larger map is one with more padding.
                height, width = source.shape[-2:]
                target = targets[int(name)][..., :height, :width]
                # Some students train several branches as one batch, whose
                # parts all follow the teacher.
                branches = len(source) // len(target)
                if branches > 1:
                    target = target.repeat(branches, 1, 1, 1)
            parts, levels[int(name)] = flow(
                source,
                target,
                num_steps,
                permutation=permutation,
                diagnose=diagnose,
            )
            for part, loss in parts.items():
                losses[f'{self.tap}.{name}.{part}'] = weight * loss
        return losses, replace_levels(output, levels, self.tap)


def per_level(value: Any, levels: Sequence[int], key: str) -> Sequence[Any]:
    """Return a setting of each level, from one for all or one for each."""
    if not isinstance(value, (list, tuple)):
        return [value] * len(levels)
    if len(value) != len(levels):
        raise ConfigError(
            f'model.flow.{key} has {len(value)} values for '
            f'{len(levels)} levels; give one for each of model.levels '
            f'{tuple(levels)}, or one for all.'
        )
    return value


def should_diagnose() -> bool:
    """Return whether a Runner may log ``metric_of_mean`` this iteration."""
    iteration = MessageHub.get_current_instance().runtime_info.get('iter')
    return iteration is not None and (iteration + 1) % DIAGNOSIS_INTERVAL == 0
