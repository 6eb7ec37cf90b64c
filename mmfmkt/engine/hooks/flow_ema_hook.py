"""Exponential moving average of the flow."""

from contextlib import contextmanager
from typing import Iterator

from mmengine.hooks import EMAHook
from mmengine.registry import MODELS
from mmengine.runner import Runner

from mmfmkt.registry import HOOKS
from mmfmkt.utils.schema import UnitInterval

from ..export import FLOWS_PREFIX
from .progress import get_distiller


@HOOKS.register_module()
class FlowEMAHook(EMAHook):
    """MMEngine's EMAHook for the flow only; the student is not averaged.

    The averaged flow is validated, saved and exported. The checkpoint also
    stores the flow that the optimizer updates, for resuming. To average the
    student as well, use EMAHook.

    Args:
        momentum (float): Weight of the current parameters in each update,
            as in EMAHook. 0.001 corresponds to a decay of 0.999.
        kwargs: Other arguments of EMAHook.
    """

    priority = 'NORMAL'

    def __init__(self, momentum: UnitInterval = 0.001, **kwargs) -> None:
        super().__init__(momentum=momentum, **kwargs)

    def before_run(self, runner: Runner) -> None:
        """Create the averaged copy of the flow."""
        self.src_model = get_distiller(runner).flows
        self.ema_model = MODELS.build(
            self.ema_cfg, default_args=dict(model=self.src_model)
        )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Store the averaged flow as the flow of the checkpoint."""
        with flow_checkpoint_of(checkpoint) as flow_checkpoint:
            super().before_save_checkpoint(runner, flow_checkpoint)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Restore the flow and its average."""
        with flow_checkpoint_of(checkpoint) as flow_checkpoint:
            super().after_load_checkpoint(runner, flow_checkpoint)


@contextmanager
def flow_checkpoint_of(checkpoint: dict) -> Iterator[dict]:
    """Yield a checkpoint with the flows only, then copy its changes back."""
    state_dict = checkpoint['state_dict']
    flow_state = {
        name.removeprefix(FLOWS_PREFIX): x
        for name, x in state_dict.items()
        if name.startswith(FLOWS_PREFIX)
    }
    flow_checkpoint = {**checkpoint, 'state_dict': flow_state}
    yield flow_checkpoint
    state_dict.update({FLOWS_PREFIX + k: x for k, x in flow_state.items()})
    if 'ema_state_dict' in flow_checkpoint:
        checkpoint['ema_state_dict'] = flow_checkpoint['ema_state_dict']
