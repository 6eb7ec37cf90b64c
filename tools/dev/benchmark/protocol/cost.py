"""Costs of the methods of a benchmark table, in deployment and training."""

from typing import Dict, Optional, Tuple

import interleaved_timing as timing
import networks
import torch
from mmengine.config import Config
from torch import nn

from mmfmkt.apis.compare import Method, latency
from mmfmkt.utils import ConfigError
from mmfmkt.utils.complexity import size_and_flops

from .plan import ROOT, Table


def measure(table: Table) -> Dict[str, dict]:
    """Measure the methods of a benchmark table (`tables/*.yml`).

    Inputs are noise and weights are random.

    Args:
        table (Table): The table. Latencies are relative to the student of its
            first distillation method.

    Returns:
        dict: By method, ``latency`` (ratio and its quartiles by K),
        ``parameters``, ``flops`` and ``activations`` (MiB that autograd saves
        in a training step, per image).
    """
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    built: Dict[str, Optional[nn.Module]] = {}
    for method in table.methods:
        try:
            built[method.name] = distiller_of(method, device)
        except ConfigError as error:
            timing.console.print(f'{method.name} is not measured: {error}')
    methods = [x for x in table.methods if x.name in built]
    first_distiller = next(x for x in built.values() if x is not None)
    student = first_distiller.student
    size = tuple(table.image_size)
    batch = networks.noise(first_distiller, 1, size)
    # In training mode, batch norm of a 1x1 map needs at least two images.
    two_images = networks.noise(first_distiller, 2, size)
    costs: Dict[str, dict] = {}
    for method in methods:
        trained = (built[method.name] or student).train()
        forward = networks.training_forward(trained, two_images)
        saved = timing.activation_bytes(
            forward, [*trained.parameters(), two_images[0]]
        )
        costs[method.name] = dict(
            latency={}, activations=round(saved / 2 / 2**20, 3)
        )
    deployed: Dict[Tuple[str, str], nn.Module] = {}
    for method in methods:
        model, cost = built[method.name], costs[method.name]
        network = student
        if model is not None:
            model.eval()
            network = model if model.deploys_flow else model.student
        for k in method.steps:
            if k != '-':
                network.inference_steps = int(k)
                deployed[method.name, k] = network
            else:
                # Without a flow, the deployed network is the student: its
                # ratio is 1 and is not timed.
                cost['latency'][k] = latency.SAME
            cost['parameters'], flops = size_and_flops(
                network.eval(), tuple(table.image_size)
            )
            cost.setdefault('flops', {})[k] = flops
    data = dict(zip(('inputs', 'data_samples'), batch))
    ratios = latency.latencies(student.eval(), deployed, data)
    for (name, k), ratio in ratios.items():
        costs[name]['latency'][k] = ratio
    return costs


def distiller_of(method: Method, device: torch.device) -> Optional[nn.Module]:
    """Return the distiller of a method; None for a baseline student."""
    config = Config.fromfile(ROOT / method.config)
    if 'student' not in config.model:
        return None
    config.merge_from_dict(method.options)
    # `report_steps` also predicts at other K; only the deployed K is timed.
    config.model.pop('report_steps', None)
    return networks.build(config, config.model.variant, None, device)
