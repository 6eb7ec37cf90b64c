"""Summary of a distillation config: flow, images and cost."""

import json
from pathlib import Path
from typing import Any, List, Optional, Sequence, Tuple

import torch
from mmengine.registry import DefaultScope
from torch import nn

from mmfmkt.models.distillers.data_pipeline import dataset_of
from mmfmkt.models.distillers.networks import (
    load_model_config,
    without_weights,
)
from mmfmkt.registry import MODELS
from mmfmkt.utils.complexity import count_parameters, size_and_flops
from mmfmkt.utils.configs import read_config

from .train import checkpoint_guard

# Sides of square images in pixels; FLOPs are counted for the first side that
# the networks accept.
IMAGE_SIZES = (256, 512, 384, 224, 32)
# Maximum FLOPs of a classifier's flow by default, relative to those of the
# student. For a more expensive flow, the summary names cheaper choices.
MAX_COST = 0.05


@torch.no_grad()
def describe(path: Path, cfg_options: Optional[dict] = None) -> List[str]:
    """Return the summary of a distillation config by line.

    Args:
        path (Path): The config.
        cfg_options (dict, optional): Overrides by dotted keys.
    """
    config = read_config(str(path), cfg_options)
    model_cfg = load_model_config(config, 'model')
    without_weights(model_cfg.student)
    teacher = model_cfg.get('teacher') or {}
    checkpoint = teacher.pop('checkpoint', None)
    teacher.pop('cache', None)
    teacher.pop('compile', None)
    model_cfg.flow.pop('compile', None)
    scope = config.get('default_scope')
    with (
        checkpoint_guard(config),
        DefaultScope.overwrite_default_scope(scope),
    ):
        model = MODELS.build(model_cfg)
        if model.teacher is not None:
            model.teacher_holder.checkpoint = checkpoint
            model.set_teacher_dataset(dataset_of(config))
    flow = model_cfg.flow
    weight = flow.loss_weight
    if isinstance(weight, (int, float)):
        weight = f'{weight:g}'
    direct_loss = ''
    if direct_weight := flow.get('direct_weight'):
        direct_loss = f' + direct loss, {direct_weight:g} times this weight'
    settings = [f'{flow.metric.type} of weight {weight}{direct_loss}']
    if model_cfg.variant != 'direct':
        settings = [
            encoder_names(flow),
            flow.schedule.type,
            *settings,
            f'N = {json.dumps(flow.num_steps)}',
        ]
    if model.deploys_flow:
        settings.append(f'K = {flow.inference_steps}')
    lines = [f'flow      variant {model_cfg.variant}, {", ".join(settings)}']
    if model.teacher is not None:
        lines += [f'classes   {x}' for x in model.class_summary]
        images = 'normalized for each network'
        if model.teacher_holder.input_adapter.is_identity:
            images = 'normalized alike for student and teacher'
        lines.append(f'images    {images}')
    return lines + [describe_cost(model)]


def encoder_names(flow: dict) -> str:
    """Return the types of the encoders as text."""
    encoder = flow['encoder']
    per_level = isinstance(encoder, (list, tuple))
    names = [x['type'] for x in (encoder if per_level else [encoder])]
    return ' and '.join(dict.fromkeys(names))


def describe_cost(model: Any) -> str:
    """Describe the parameters and FLOPs of the deployed model."""
    if not model.deploys_flow:
        return 'deployed  the student without a flow: no additional cost'
    student_size = count_parameters(model.student)
    flow_size = count_parameters(model) - student_size
    return (
        f'deployed  student with flow: {student_size / 1e6:.2f} M + '
        f'{flow_size / 1e6:.2f} M parameters{describe_flops(model)}'
    )


def describe_flops(model: Any) -> str:
    """Describe the FLOPs of the student without and with the flow.

    The text is empty if the networks cannot be traced.
    """
    side, flops = count_flops(model.student, model)
    if not side:
        return ''
    student_flops, deployed_flops = flops
    cost = deployed_flops / student_flops - 1
    text = (
        f', FLOPs of a {side}x{side} image: '
        f'{student_flops / 1e9:.2f} G to {deployed_flops / 1e9:.2f} G '
        f'({cost:+.1%})'
    )
    if cost > MAX_COST:
        text += '; K = 1 has the lowest cost of a flow, the variant theta none'
    return text


def count_flops(
    *networks: nn.Module, sides: Sequence[int] = IMAGE_SIZES
) -> Tuple[int, List[int]]:
    """Count the FLOPs of networks for the first side that all accept.

    Args:
        networks (nn.Module): The networks.
        sides (Sequence[int]): Sides of square images in pixels.

    Returns:
        tuple[int, list[int]]: The side and the FLOPs of each network; 0 and
        an empty list if there is no such side.
    """
    for side in sides:
        try:
            return side, [
                size_and_flops(x.eval(), (side, side))[1] for x in networks
            ]
        except Exception:  # tracing failed, or the side is not accepted
            continue
    return 0, []
