"""Statistics of the flows during training."""

from functools import partial
from typing import Any, Dict, List, Sequence

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn
from torch.optim import Optimizer

from mmfmkt.models.flows import Transfer
from mmfmkt.models.flows.inspection import look
from mmfmkt.registry import HOOKS
from mmfmkt.utils.schema import Count

from .progress import unwrap_model


@HOOKS.register_module()
class FlowMonitorHook(Hook):
    """Writes statistics of the flows to the visualizers.

    For each tap and level of feature maps, under ``flow/<tap>.<level>/``:
    ``velocity`` (its root mean square in units of the feature's),
    ``distance_before`` and ``distance_after`` (the unweighted distillation
    loss without the flow, and of the deployed feature), and ``jensen_gap``
    (the loss of the flow minus the latter); and ``flow/grad_norm_student``
    and ``flow/grad_norm_flow`` before the optimizer step. It costs N passes
    of the encoders without gradients. Each iteration logs the teacher's time
    as ``teacher_time``. Other models than distillers are left alone.

    Args:
        interval (int): Iterations between two records.
    """

    # Before the logger, which writes the teacher's time.
    priority = 'HIGH'

    def __init__(self, interval: Count = 50) -> None:
        self.interval = interval
        self._handles: List[Any] = []
        self._scalars: Dict[str, float] = {}
        self._flows: Sequence[nn.Parameter] = ()

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Register the hooks of this iteration."""
        model = unwrap_model(runner.model)
        if not hasattr(model, 'flows') or not self._due(runner):
            return
        self._scalars = {}
        self._flows = list(model.flows.parameters())
        for tap in model.feature_transfers:
            for level, transfer in tap.items():
                if transfer.metric is None:
                    continue
                hook = partial(record, f'{tap.tap}.{level}', self._scalars)
                self._handles.append(transfer.register_forward_hook(hook))
        optimizer = getattr(runner.optim_wrapper, 'optimizer', None)
        if isinstance(optimizer, Optimizer):
            self._handles.append(optimizer.register_step_pre_hook(self._norms))

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """Write the statistics and remove the hooks."""
        model = unwrap_model(runner.model)
        if not hasattr(model, 'flows'):
            return
        runner.message_hub.update_scalar(
            'train/teacher_time', model.teacher_watch.seconds()
        )
        for handle in self._handles:
            handle.remove()
        self._handles = []
        if self._scalars and self._due(runner):
            scalars = {f'flow/{key}': x for key, x in self._scalars.items()}
            runner.visualizer.add_scalars(scalars, step=runner.iter + 1)
            self._scalars = {}

    def _due(self, runner: Runner) -> bool:
        return self.every_n_train_iters(runner, self.interval)

    def _norms(self, optimizer: Optimizer, args: tuple, kwargs: dict) -> None:
        flows = {id(p) for p in self._flows}
        parts: Dict[bool, List[torch.Tensor]] = {True: [], False: []}
        for group in optimizer.param_groups:
            for p in group['params']:
                if p.grad is not None:
                    parts[id(p) in flows].append(p.grad)
        for name, grads in zip(('flow', 'student'), parts.values()):
            if grads:
                norms = torch.stack(torch._foreach_norm(grads))
                self._scalars[f'grad_norm_{name}'] = float(norms.norm())


def record(
    name: str,
    scalars: Dict[str, float],
    transfer: Transfer,
    args: tuple,
    output: Any,
) -> None:
    """Measure a transfer after its forward, as a hook of it.

    Args:
        name (str): Tap and level.
        scalars (dict): Where the measurements are written.
        transfer (Transfer): The transfer.
        args (tuple): Source, target and number of steps.
        output (Any): Its output.
    """
    if args[1] is not None:
        for key, value in look(transfer, *args).scalars().items():
            scalars[f'{name}/{key}'] = value
