"""Layers of layers."""

import torch
from torch import Tensor, nn


def compiling() -> bool:
    """Whether ``torch.compile`` traces; PyTorch 2.1 does not say."""
    return hasattr(torch.compiler, 'is_compiling') and (
        torch.compiler.is_compiling()
    )


class Layers(nn.Sequential):
    """Layers one after the other, which ``compile()`` takes as one.

    PyTorch's own container is on the list of what it leaves alone.
    """

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


class Residual(nn.Module):
    """``x + layers(x)``."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)
