"""What the methods of a table cost: deployed, and in training."""

from copy import deepcopy
from functools import partial
from typing import Any, Dict, Optional

import interleaved_timing as timing
import networks
import torch
from mmengine.config import Config
from torch import nn

from mmfmkt.utils import ConfigError
from mmfmkt.utils.complexity import size_and_flops

from .plan import ROOT, Method, Table

TURNS = 40


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
    rivals = {'plain': partial(predict, plain.eval(), None, batch)}
    places = {}
    for method in methods:
        model, own = built[method.name], found[method.name]
        deployed = plain
        if model is not None:
            model.eval()
            deployed = model if model.deploys_flow else model.student
        for k in method.inference_steps or [None]:
            if k is not None:
                deployed.inference_steps = k
            own['parameters'], flops = size_and_flops(
                deployed.eval(), tuple(table.image_size)
            )
            label = '-' if k is None else str(k)
            own.setdefault('flops', {})[label] = flops
            if k is None:
                # The plain student itself, by construction.
                same = dict.fromkeys(('ratio', 'low', 'high'), 1.0)
                own['latency'][label] = same
                continue
            name = f'{method.name} {label}'
            places[name] = (method.name, label)
            rivals[name] = partial(predict, deployed, k, batch)
    times = timing.time_interleaved(rivals, TURNS)
    for name, (method, label) in places.items():
        row = timing.timing_row(name, times, ['plain'])
        found[method]['latency'][label] = {
            key: round(row[key], 4) for key in ('ratio', 'low', 'high')
        }
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


@torch.no_grad()
def predict(model: nn.Module, k: Optional[int], batch: Any) -> None:
    """A prediction in K steps."""
    if k is not None:
        model.inference_steps = k
    model(batch[0], deepcopy(batch[1]), mode='predict')
