"""Training without labels: what the transfer alone trains."""

from typing import Iterable

from torch import nn

from mmfmkt.utils import ConfigError

from ..flows import VARIANTS
from .feature_transfer import TapTransfer


def freeze_untapped(
    student: nn.Module, variant: str, flows: Iterable[TapTransfer]
) -> None:
    """Freeze the parts of a student that the transfer alone does not train.

    Args:
        student (nn.Module): The student.
        variant (str): A key of ``VARIANTS``.
        flows (Iterable[TapTransfer]): Transfers of all taps.

    Raises:
        ConfigError: If variant or taps need the whole student.
    """
    kind = VARIANTS[variant]
    if kind.deploys_flow or not kind.needs_teacher:
        raise ConfigError(
            'model.task_loss=False trains a backbone that is used without '
            f'its flow, but the variant {variant!r} needs it: set '
            "model.variant to 'theta' or 'direct'."
        )
    tapped = {flow.tap.split('.')[0] for flow in flows}
    if not tapped <= {'backbone', 'neck'}:
        raise ConfigError(
            'model.task_loss=False needs taps in backbone or neck, but '
            f'taps {", ".join(sorted(tapped))}.'
        )
    trained = ('backbone', *(('neck',) if 'neck' in tapped else ()))
    for name, part in student.named_children():
        if name not in trained:
            part.requires_grad_(False)
