"""Mixed precision on CPUs, which AmpOptimWrapper does not support."""

from contextlib import contextmanager
from typing import Iterator

import torch
from mmengine.optim import OptimWrapper
from mmengine.runner.amp import autocast
from torch import nn

from mmfmkt.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(OptimWrapper):
    """OptimWrapper with bfloat16 autocast, which needs no loss scaling.

    Takes the arguments of MMEngine's ``OptimWrapper``.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run the forward pass under autocast.

        Args:
            model (nn.Module): The model in training.
        """
        with (
            super().optim_context(model),
            autocast(device_type='cpu', dtype=torch.bfloat16),
        ):
            yield
