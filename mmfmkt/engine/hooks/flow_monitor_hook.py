"""Statistics of flows during training."""

from functools import partial
from typing import Any, Dict, List, Set

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.optim import Optimizer

from mmfmkt.models.flows import Transfer
from mmfmkt.models.flows.inspection import measure_flow
from mmfmkt.registry import HOOKS
from mmfmkt.utils.schema import PositiveInt

from .progress import unwrap_model


@HOOKS.register_module()
class FlowMonitorHook(Hook):
    """Writes statistics of flows to the visualizers.

    Scalars of each tap and level of feature maps, ``flow/<tap>.<level>/...``:

    - ``velocity``: root mean square (RMS) of the velocity, averaged over the
      N sampling steps, divided by the RMS of the student's feature.
    - ``distance_before``: unweighted distillation loss of the student's
      feature, without the flow.
    - ``distance_after``: unweighted distillation loss of the mean of the
      estimates.
    - ``jensen_gap``: mean distillation loss of the estimates minus the loss
      of their mean (``distance_after``).

    ``flow/grad_norm_student`` and ``flow/grad_norm_flow`` are the gradient
    norms before the optimizer step. Each record costs N forward passes of the
    encoders. The teacher's time is logged as ``teacher_time`` in each
    iteration. The hook has no effect on models that are not distillers.

    Args:
        interval (int): Number of iterations between two records.
    """

    # Runs before LoggerHook, which writes the teacher's time.
    priority = 'HIGH'

    def __init__(self, interval: PositiveInt = 50) -> None:
        self.interval = interval
        self._handles: List[Any] = []
        self._scalars: Dict[str, float] = {}

    def before_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Register forward and optimizer hooks for this iteration."""
        model = unwrap_model(runner.model)
        if not hasattr(model, 'flows') or not self.every_n_train_iters(
            runner, self.interval
        ):
            return
        for transfers in model.feature_transfers:
            for level, transfer in transfers.items():
                if transfer.metric is None:
                    continue
                name = f'{transfers.log_name}.{level}'
                hook = partial(self._record_flow, name)
                self._handles.append(transfer.register_forward_hook(hook))
        optimizer = getattr(runner.optim_wrapper, 'optimizer', None)
        if isinstance(optimizer, Optimizer):
            flow_ids = {id(p) for p in model.flows.parameters()}
            hook = partial(self._record_grad_norms, flow_ids)
            self._handles.append(optimizer.register_step_pre_hook(hook))

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Write the statistics and remove the hooks."""
        model = unwrap_model(runner.model)
        if not hasattr(model, 'flows'):
            return
        runner.message_hub.update_scalar(
            'train/teacher_time', model.teacher_stopwatch.seconds()
        )
        for handle in self._handles:
            handle.remove()
        if self._scalars:
            scalars = {f'flow/{key}': x for key, x in self._scalars.items()}
            runner.visualizer.add_scalars(scalars, step=runner.iter + 1)
        self._handles, self._scalars = [], {}

    def _record_flow(
        self, name: str, transfer: Transfer, args: tuple, output: Any
    ) -> None:
        """Record the statistics of a transfer, as a forward hook.

        Args:
            name (str): ``<tap>.<level>``.
            transfer (Transfer): The transfer.
            args (tuple): Source, target and number of steps.
            output (Any): Output of the transfer.
        """
        if args[1] is not None:
            for key, value in measure_flow(transfer, *args).scalars().items():
                self._scalars[f'{name}/{key}'] = value

    def _record_grad_norms(
        self, flow_ids: Set[int], optimizer: Optimizer, *args: Any
    ) -> None:
        """Record the gradient norms before an optimizer step."""
        grads: Dict[str, List[torch.Tensor]] = {'flow': [], 'student': []}
        for group in optimizer.param_groups:
            for p in group['params']:
                if p.grad is not None:
                    name = 'flow' if id(p) in flow_ids else 'student'
                    grads[name].append(p.grad)
        # Fused optimizers divide by the loss scale of float16 themselves.
        scale = getattr(optimizer, 'grad_scale', None) or 1
        for name, tensors in grads.items():
            if tensors:
                norm = torch.stack(torch._foreach_norm(tensors)).norm()
                self._scalars[f'grad_norm_{name}'] = float(norm / scale)
