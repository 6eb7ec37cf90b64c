"""Containers of layers, and a check for compilation."""

import torch
from torch import Tensor, nn


def is_compiling() -> bool:
    """Return whether ``torch.compile`` is tracing; False on PyTorch 2.1."""
    return hasattr(torch.compiler, 'is_compiling') and (
        torch.compiler.is_compiling()
    )


class CompilableSequential(nn.Sequential):
    """Sequential whose ``compile()`` has an effect.

    PyTorch does not compile the forward of ``nn.Sequential`` itself, but that
    of a subclass.
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
