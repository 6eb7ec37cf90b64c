"""What the methods of a table cost: deployed, and in training."""

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
    """Measure all methods in turn, on noise and with random weights.

    Args:
        table (Table): The table; its first distillation's student is what
            latencies are divided by.

    Returns:
        dict: By method, ``latency`` (ratio and its quartiles by K),
        ``parameters``, ``flops`` and ``activations`` (MiB that autograd
        keeps of a training step of one image).
    """
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    built: Dict[str, Optional[nn.Module]] = {}
    for method in table.methods:
        try:
            built[method.name] = distiller_of(method, device)
        except ConfigError as error:
            timing.console.print(f'{method.name} is not measured: {error}')
    methods = [x for x in table.methods if x.name in built]
    plain = next(x for x in built.values() if x is not None).student
    any_distiller = next(x for x in built.values() if x is not None)
    size = tuple(table.image_size)
    batch = networks.noise(any_distiller, 1, size)
    # Batch norm of a map of one place wants two images.
    two = networks.noise(any_distiller, 2, size)
    found: Dict[str, dict] = {}
    for method in methods:
        distiller = built[method.name]
        trained = (distiller or plain).train()
        forward = networks.stepper(trained, two)
        kept = timing.activation_bytes(
            forward, [*trained.parameters(), two[0]]
        )
        found[method.name] = dict(
            latency={}, activations=round(kept / 2 / 2**20, 3)
        )
    deployed: Dict[Tuple[str, str], nn.Module] = {}
    for method in methods:
        model, own = built[method.name], found[method.name]
        network = plain
        if model is not None:
            model.eval()
            network = model if model.deploys_flow else model.student
        for k in method.steps:
            if k != '-':
                network.inference_steps = int(k)
                deployed[method.name, k] = network
            else:
                # The plain student itself, by construction.
                own['latency'][k] = latency.SAME
            own['parameters'], flops = size_and_flops(
                network.eval(), tuple(table.image_size)
            )
            own.setdefault('flops', {})[k] = flops
    data = dict(zip(('inputs', 'data_samples'), batch))
    rows = latency.latencies(plain.eval(), deployed, data)
    for (name, k), row in rows.items():
        found[name]['latency'][k] = row
    return found


def distiller_of(method: Method, device: torch.device) -> Optional[nn.Module]:
    """The distiller of a method, None for a plain student."""
    config = Config.fromfile(ROOT / method.config)
    if 'student' not in config.model:
        return None
    config.merge_from_dict(method.options)
    # Accuracy at other K beside its own is not what is deployed.
    config.model.pop('report_steps', None)
    return networks.build(config, config.model.variant, None, device)
