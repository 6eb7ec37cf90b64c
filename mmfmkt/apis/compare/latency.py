"""Latency of deployed students, as a ratio to the student without a flow."""

from copy import deepcopy
from functools import partial
from typing import Any, Callable, Dict, Optional, Tuple

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.registry import DATASETS, DefaultScope
from torch import nn

from mmfmkt.engine.export import student_config
from mmfmkt.utils.interleaved_timing import ratio_to, time_interleaved

from ..inference import load_network
from .executor import Executor
from .plan import CONFIG, Method, Run

# Number of timed predictions of each network.
REPEATS = 40
# Latency of the student, relative to itself.
STUDENT_LATENCY = dict.fromkeys(('ratio', 'low', 'high'), 1.0)


def is_measured(method: Method, cost: Dict[str, dict]) -> bool:
    """Return whether the latency of a method was measured at each K.

    Args:
        method (Method): The method.
        cost (dict): Measured costs by method.
    """
    latency = cost.get(method.name, {}).get('latency', {})
    return all(k in latency for k in method.steps)


def measure_latency(executor: Executor) -> Dict[str, dict]:
    """Measure the latency of all methods on the first test image.

    The network of a method is that of its first finished run.

    Args:
        executor (Executor): Executor of a comparison with finished runs.

    Returns:
        dict: ``{method: {'latency': {K: row}}}``. ``row`` has the keys of
        `latencies`, or is empty if the student is not that of the first
        method.
    """
    costs: Dict[str, dict] = {}
    deployed: Dict[Tuple[str, str], nn.Module] = {}
    student: Optional[nn.Module] = None
    student_model: Optional[dict] = None
    batch: Any = None
    for method in executor.comparison.methods:
        runs = [Run(method, seed) for seed in method.seeds]
        finished = [x for x in runs if executor.state(x) == 'done']
        if not finished:
            continue
        cfg = Config.fromfile(executor.folder / finished[0].folder / CONFIG)
        costs[method.name] = dict(latency={k: {} for k in method.steps})
        model = (
            student_config(cfg).model if 'student' in cfg.model else cfg.model
        )
        student_model = student_model or model
        if model != student_model:
            continue
        if not method.inference_steps:
            costs[method.name]['latency']['-'] = STUDENT_LATENCY
            continue
        # Only the deployed K is timed.
        cfg.model.pop('report_steps', None)
        checkpoint = executor.result(finished[0])['checkpoint']
        network: Any = load_network(cfg, checkpoint).to(get_device())
        if batch is None:
            student, batch = network.student, first_batch(cfg, network)
        for k in method.steps:
            deployed[method.name, k] = network
    if student is not None:
        for (name, k), row in latencies(student, deployed, batch).items():
            costs[name]['latency'][k] = row
    return costs


def first_batch(cfg: Config, network: Any) -> dict:
    """Return the first test image as a preprocessed batch."""
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        data = DATASETS.build(deepcopy(cfg.test_dataloader.dataset))
        return network.data_preprocessor(pseudo_collate([data[0]]), False)


def latencies(
    student: nn.Module, deployed: Dict[Tuple[str, str], nn.Module], batch: dict
) -> Dict[Tuple[str, str], dict]:
    """Measure latencies of networks in turn with that of the student.

    Args:
        student (nn.Module): The student without a flow.
        deployed (dict): Students with a flow by method and K.
        batch (dict): ``inputs`` and ``data_samples``.

    Returns:
        dict: ``ratio`` to the student (median), ``low`` and ``high``
        (quartiles), by method and K.
    """
    reference = ('', '')  # key of the student
    functions: Dict[Tuple[str, str], Callable[[], Any]] = {
        reference: partial(predict, student, None, batch)
    }
    for (name, k), network in deployed.items():
        functions[name, k] = partial(predict, network, int(k), batch)
    times = time_interleaved(functions, REPEATS)
    return {
        key: {
            name: round(x, 4)
            for name, x in ratio_to(times[key], times[reference]).items()
        }
        for key in deployed
    }


@torch.no_grad()
def predict(network: Any, k: Optional[int], batch: dict) -> None:
    """Run inference on a batch; a flow takes K sampling steps."""
    if k is not None:
        network.inference_steps = k
    samples = deepcopy(batch['data_samples'])
    network(batch['inputs'], samples, mode='predict')
