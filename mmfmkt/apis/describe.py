"""Summary of a composed distillation: flow, images and deployment cost."""

import json
from math import ceil
from pathlib import Path
from typing import Any, List, Tuple

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import nn

from mmfmkt.models.distillers.data_pipeline import dataset_of
from mmfmkt.models.distillers.feature_transfer import FeatureTransfer
from mmfmkt.models.distillers.networks import without_weights
from mmfmkt.models.distillers.taps import output_hooks
from mmfmkt.models.flows import Transfer
from mmfmkt.registry import MODELS
from mmfmkt.utils.complexity import size_and_flops

# Sides of square images, in pixels, that are tried in turn.
SIDES = (256, 512, 384, 224, 32)


@torch.no_grad()
def describe(path: Path) -> List[str]:
    """Build the distillation with random weights and say what it costs."""
    config = Config.fromfile(path)
    section = config.model
    without_weights(section.student)
    if section.get('teacher'):
        section.teacher.checkpoint = None
    with DefaultScope.overwrite_default_scope(config.get('default_scope')):
        model = MODELS.build(section)
    flow = section.flow
    direct = flow.loss_weight * flow.get('direct_weight', 0)
    beside = f' beside a direct term of {direct:g}' if direct else ''
    lines = [
        f'flow      variant {section.variant}, {encoder_names(flow)}, '
        f'{flow.schedule.type}, {flow.metric.type} of weight '
        f'{flow.loss_weight:g}{beside}, N = {json.dumps(flow.num_steps)}, '
        f'K = {flow.inference_steps}',
    ]
    if model.teacher is not None:
        model.set_teacher_dataset(dataset_of(config))
        lines.append(
            'images    '
            + (
                'the same for both'
                if model.teacher_holder.input_adapter.is_identity
                else 'the same pixels, each network in its own normalization'
            )
        )
        lines += training_cost(model)
    return lines + [cost(model)]


def training_cost(model: Any) -> List[str]:
    """Say what the teacher's forward pass costs beside the student's.

    Nothing where they cannot be counted, as in `flops_beside`.
    """
    holder = model.teacher_holder
    scale = holder.view.get('scale', 1.0)
    multiple = holder.view.get('multiple_of', 1)
    networks = (UpToNeck(model.student, []), UpToNeck(holder.network, []))
    for side in SIDES:
        larger = ceil(side * scale / multiple) * multiple
        try:
            student, teacher = (
                flops_of(network, (pixels, pixels))
                for network, pixels in zip(networks, (side, larger))
            )
        except Exception:
            continue
        return [
            f'training  a forward pass up to the neck takes the student '
            f'{student} FLOPs for {side}x{side} pixels, and the teacher '
            f'{teacher} for {larger}x{larger}'
        ]
    return []


def encoder_names(flow: dict) -> str:
    """Name the encoder, or the encoders of the levels."""
    encoder = flow['encoder']
    several = isinstance(encoder, (list, tuple))
    names = [x['type'] for x in (encoder if several else [encoder])]
    return ' and '.join(dict.fromkeys(names))


def cost(model: Any) -> str:
    """Say what the flow adds to the deployed student."""
    if not model.deploys_flow:
        return 'deployed  the plain student: nothing is added'
    deployed = nn.ModuleList(
        part
        for flow in model.flows.modules()
        if isinstance(flow, Transfer)
        for part in flow.deployed_modules
    )
    added = sum(p.numel() for p in deployed.parameters())
    own = sum(p.numel() for p in model.student.parameters())
    return (
        f'deployed  student and flow: {own / 1e6:.2f} M parameters and '
        f'{added / 1e6:.2f} M{flops_beside(model)}'
    )


def flops_beside(model: Any) -> str:
    """Return the FLOPs without and with the flow, as a part of a sentence.

    Empty where they cannot be counted: tracing fails in many ways in heads of
    two stages, and not every network takes images of every size.
    """
    up_to_neck = (
        UpToNeck(model.student, []),
        UpToNeck(model.student, model.feature_transfers),
    )
    for side in SIDES:
        for what, networks in (
            ('FLOPs', (model.student, model)),
            ('FLOPs up to the neck', up_to_neck),
        ):
            try:
                plain, with_flow = (
                    flops_of(x, (side, side)) for x in networks
                )
            except Exception:
                continue
            return f', {what} of a {side}x{side} image {plain} to {with_flow}'
    return ''


class UpToNeck(nn.Module):
    """A detector without its heads, with some flows.

    Args:
        network (nn.Module): A detector.
        flows (list[FeatureTransfer]): Flows at its taps.
    """

    def __init__(self, network: Any, flows: List[FeatureTransfer]) -> None:
        super().__init__()
        self.network: Any = network
        self.flows = nn.ModuleList(flows)

    def forward(self, inputs: torch.Tensor) -> Any:
        hooks = [(flow.tap, flow.sample) for flow in self.flows]
        with output_hooks(self.network, hooks):
            return self.network.extract_feat(inputs)


def flops_of(network: nn.Module, size: Tuple[int, int]) -> str:
    """Count FLOPs for a sentence."""
    return f'{size_and_flops(network.eval(), size)[1] / 1e9:.2f} G'
