"""Training without labels: freezing of modules without gradients."""

from typing import Iterable

from torch import nn

from mmfmkt.utils import ConfigError

from ..flows import VARIANTS
from .feature_transfer import TapTransfer
from .gradient_share import GradientShare
from .taps import split_tap


def freeze_untapped(
    student: nn.Module, variant: str, transfers: Iterable[TapTransfer]
) -> None:
    """Freeze the modules of a student that its transfers do not train.

    Args:
        student (nn.Module): The student.
        variant (str): A key of ``VARIANTS``.
        transfers (Iterable[TapTransfer]): Transfers of all taps.

    Raises:
        ConfigError: If the variant or a tap needs the student's head, or if
            a loss weight is relative to the task losses.
    """
    variant_cls = VARIANTS[variant]
    if variant_cls.deploys_flow or not variant_cls.needs_teacher:
        raise ConfigError(
            'model.task_loss=False trains a backbone that is used without '
            f'a flow, but the variant {variant!r} deploys its flow: set '
            "model.variant to 'theta' or 'direct'."
        )
    transfers = list(transfers)
    if any(
        isinstance(module, GradientShare)
        for transfer in transfers
        for module in transfer.modules()
    ):
        raise ConfigError(
            "model.flow.loss_weight='auto' is relative to the task losses, "
            'but model.task_loss=False: set model.flow.loss_weight to a '
            'number.'
        )
    modules = [split_tap(transfer.tap)[0] for transfer in transfers]
    tapped = {module.split('.')[0] for module in modules}
    if not tapped <= {'backbone', 'neck'}:
        raise ConfigError(
            'model.task_loss=False needs taps in backbone or neck, but the '
            f'tapped modules are {", ".join(sorted(tapped))}.'
        )
    trained = ('backbone', *(('neck',) if 'neck' in tapped else ()))
    for name, child in student.named_children():
        if name not in trained:
            child.requires_grad_(False)
