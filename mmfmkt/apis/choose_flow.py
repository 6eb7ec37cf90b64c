"""Selection of a classifier's flow by its FLOPs in deployment."""

from functools import lru_cache
from itertools import takewhile
from typing import Any, Dict, List, Optional

from mmengine.config import Config
from mmengine.hub import get_config

from mmfmkt.models.distillers.classification import probe_classifier
from mmfmkt.models.distillers.networks import (
    build_network,
    load_model_config,
    without_weights,
)
from mmfmkt.models.flows import VARIANTS

from .describe import MAX_COST, count_flops

# Widths of BottleneckEncoder and numbers of sampling steps K to choose from.
# A width is at most half the channels of the feature.
WIDTHS = (16, 32, 64, 128, 256, 512)
STEP_COUNTS = (1, 2, 4, 8)


def choose_flow(
    config: Config, preset: str, variant: str, flow: Dict[str, Any]
) -> List[str]:
    """Choose encoder and number of steps K of a classifier's flow.

    The encoder is the most expensive one that costs at most ``MAX_COST`` with
    K = 1 sampling step. K is the largest number of steps that costs at most
    ``MAX_COST`` with this encoder. The cost is the relative increase of the
    student's FLOPs, counted on built networks.

    Args:
        config (Config): Student config.
        preset (str): Name of a config in ``_base_`` that defines a
            ``distiller``.
        variant (str): A key of ``VARIANTS``.
        flow (dict): Keys of ``model.flow``, changed in place. ``encoder`` and
            ``inference_steps`` are chosen if they are missing.

    Returns:
        list[str]: Description of the choice by line.
    """
    model = without_weights(load_model_config(config, 'the student'))
    student = build_network(model, 'mmpretrain')
    feature = probe_classifier(student, 'student')[0]
    is_vector = feature.dim() == 2
    lines = []
    if is_vector and 'encoder' not in flow:
        flow['encoder'] = dict(type='MLPEncoder')
        lines.append('encoder   MLPEncoder, since the feature is a vector')
    if not VARIANTS[variant].deploys_flow:
        return lines
    side, flops = count_flops(student)
    if not side:
        return [
            *lines,
            'cost      unknown (FLOPs cannot be counted): flow of the preset',
        ]
    distiller = get_config(f'mmfmkt::_base_/{preset}.py').distiller

    @lru_cache(None)
    def cost(index: int, num_steps: int) -> float:
        """Return the cost of ``encoders[index]``, relative to the student."""
        deployed = dict(
            distiller, student=model, variant=variant, teacher=None
        )
        deployed['flow'] = dict(
            distiller.flow, encoder=encoders[index], inference_steps=num_steps
        )
        network = build_network(deployed, 'mmpretrain')
        _, with_flow = count_flops(network, sides=[side])
        return with_flow[0] / flops[0] - 1

    encoders = candidates(flow.get('encoder'), feature.shape[1])
    chosen = len(encoders) - 1
    while chosen and cost(chosen, 1) > MAX_COST:
        chosen -= 1
    allowed = takewhile(lambda k: cost(chosen, k) <= MAX_COST, STEP_COUNTS)
    steps = flow.get('inference_steps') or max(allowed, default=1)
    flow.update(encoder=encoders[chosen], inference_steps=steps)
    name = encoder_text(encoders[chosen])
    larger_flows = [
        f'K = {2 * steps}: {cost(chosen, 2 * steps):+.1%} '
        f'(--inference-steps {2 * steps})'
    ]
    if chosen + 1 < len(encoders):
        larger = encoders[chosen + 1]
        option = f'--encoder {larger["type"]}'
        if 'width' in larger:
            width = larger['width']
            option = f'--cfg-options model.flow.encoder.width={width}'
        larger_flows.append(
            f'{encoder_text(larger)}, K = 1: {cost(chosen + 1, 1):+.1%} '
            f'({option})'
        )
    relation = 'above' if cost(chosen, steps) > MAX_COST else 'within'
    return [
        *lines,
        f'cost      {name}, K = {steps}: {cost(chosen, steps):+.1%} FLOPs '
        f'({side}x{side} pixels), {relation} the default limit of '
        f'{MAX_COST:+.0%}',
        f'          larger: {"; ".join(larger_flows)}',
    ]


def candidates(encoder: Optional[dict], channels: int) -> List[dict]:
    """Return the encoders to choose from, the cheapest first.

    Args:
        encoder (dict, optional): If given, all candidates have its ``type``.
        channels (int): Channels of the feature.
    """
    encoder_type = (encoder or {}).get('type')
    if encoder_type not in (None, 'BottleneckEncoder'):
        return [dict(type=encoder_type)]
    widths = [x for x in WIDTHS if x <= channels // 2] or [channels]
    encoders = [dict(type='BottleneckEncoder', width=x) for x in widths]
    return encoders if encoder_type else [*encoders, dict(type='ConvEncoder')]


def encoder_text(encoder: dict) -> str:
    """Return type and width of an encoder as text."""
    width = encoder.get('width')
    return encoder['type'] + (f'(width={width})' if width else '')
