"""A look inside the flows while they train."""

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

from .progress import unwrapped


@HOOKS.register_module()
class FlowMonitorHook(Hook):
    """Writes what the flows do into whatever visualizer is configured.

    Every so many iterations, for each tap and level of feature maps, under
    ``flow/<tap>.<level>/``: ``velocity`` (its root mean square in units of
    the feature's), ``distance_before`` and ``distance_after`` (the metric to
    the teacher without the flow, and of what it deploys, unweighted), and
    ``jensen_gap`` (by how much the loss bounds the latter); and
    ``flow/grad_norm_student`` and ``flow/grad_norm_flow``, as the optimizer
    sees them. It costs N passes of the encoders in those iterations, without
    gradients. In each iteration the teacher's time is logged as
    ``teacher_time``. It rests where no distillation is trained.

    Args:
        interval (int): Every so many iterations.
    """

    # Before the logger, which writes the teacher's time.
    priority = 'HIGH'

    def __init__(self, interval: Count = 50) -> None:
        self.interval = interval
        self._handles: List[Any] = []
        self._seen: Dict[str, float] = {}
        self._flows: Sequence[nn.Parameter] = ()

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Listen, if it is time."""
        model = unwrapped(runner.model)
        if not hasattr(model, 'flows') or not self._due(runner):
            return
        self._seen = {}
        self._flows = list(model.flows.parameters())
        for tap in model.feature_transfers:
            for level, transfer in tap.items():
                if transfer.metric is None:
                    continue
                handle = transfer.register_forward_hook(
                    Listener(f'{tap.tap}.{level}', self._seen),
                    with_kwargs=True,
                )
                self._handles.append(handle)
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
        """Write what was seen."""
        model = unwrapped(runner.model)
        if not hasattr(model, 'flows'):
            return
        runner.message_hub.update_scalar(
            'train/teacher_time', model.teacher_watch.seconds()
        )
        for handle in self._handles:
            handle.remove()
        self._handles = []
        if self._seen and self._due(runner):
            scalars = {f'flow/{key}': x for key, x in self._seen.items()}
            runner.visualizer.add_scalars(scalars, step=runner.iter + 1)
            self._seen = {}

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
                self._seen[f'grad_norm_{name}'] = float(norms.norm())


class Listener:
    """Looks at a transfer once it has run.

    Args:
        name (str): Tap and level.
        seen (dict): Where to write what it sees.
    """

    def __init__(self, name: str, seen: Dict[str, float]) -> None:
        self.name, self.seen = name, seen

    def __call__(
        self, transfer: Transfer, args: tuple, kwargs: dict, output: Any
    ) -> None:
        source, target, num_steps = args
        if target is None:
            return
        for key, value in (
            look(transfer, source, target, num_steps).scalars().items()
        ):
            self.seen[f'{self.name}/{key}'] = value
