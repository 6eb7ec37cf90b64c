"""Costs of the methods of a benchmark table, in deployment and training."""

from typing import Dict, Tuple

import interleaved_timing as timing
import networks
import torch
from mmengine.config import Config
from torch import nn

from mmfmkt.apis.compare import latency
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
        ``parameters``, ``flops`` (by K) and ``activations`` (MiB per image
        that autograd saves in a training step).
    """
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    distillers = build_distillers(table, device)
    first_distiller = next(iter(distillers.values()))
    student, size = first_distiller.student, tuple(table.image_size)
    # In training mode, batch norm of a 1x1 map needs at least two images.
    batch_of_two = networks.noise(first_distiller, 2, size)
    costs: Dict[str, dict] = {}
    deployed: Dict[Tuple[str, str], nn.Module] = {}
    for method in table.methods:
        model = distillers.get(method.name, student).train()
        forward = networks.training_forward(model, batch_of_two)
        saved_bytes = timing.activation_bytes(
            forward, [*model.parameters(), batch_of_two[0]]
        )
        cost = dict(latency={}, activations=round(saved_bytes / 2 / 2**20, 3))
        costs[method.name] = cost
        model.eval()
        deploys_flow = getattr(model, 'deploys_flow', False)
        network = model if deploys_flow else student
        for k in method.steps:
            if k != '-':
                network.inference_steps = int(k)
                deployed[method.name, k] = network
            else:
                # Without a flow, the deployed network is the student: its
                # ratio is 1 and is not timed.
                cost['latency'][k] = latency.STUDENT_LATENCY
            cost['parameters'], flops = size_and_flops(network.eval(), size)
            cost.setdefault('flops', {})[k] = flops
    batch = networks.noise(first_distiller, 1, size)
    data = dict(zip(('inputs', 'data_samples'), batch))
    ratios = latency.latencies(student.eval(), deployed, data)
    for (name, k), ratio in ratios.items():
        costs[name]['latency'][k] = ratio
    return costs


def build_distillers(
    table: Table, device: torch.device
) -> Dict[str, nn.Module]:
    """Return the distiller of each method that is not a baseline student."""
    distillers = {}
    for method in table.methods:
        config = Config.fromfile(ROOT / method.config)
        if 'student' in config.model:
            config.merge_from_dict(method.options)
            # `report_steps` also predicts at other K; only the deployed K is
            # timed.
            config.model.pop('report_steps', None)
            distillers[method.name] = networks.build(
                config, config.model.variant, None, device
            )
    return distillers
