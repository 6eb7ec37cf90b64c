"""Distillers with random weights, and batches of noise for them."""

from copy import deepcopy
from typing import Any, Callable, ContextManager, Dict, Optional, Tuple

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from mmfmkt.models.distillers.networks import (
    init_random_weights,
    load_model_config,
    without_weights,
)
from mmfmkt.models.distillers.taps import dummy_samples
from mmfmkt.models.flows import VARIANTS, MetaEncoder
from mmfmkt.registry import MODELS


def build(
    config: Config,
    variant: str,
    encoder: Optional[str],
    device: torch.device,
    **flow: Any,
) -> nn.Module:
    """Build a config's distiller with another variant and flow.

    Args:
        config (Config): Distillation config. Pretrained weights are not
            downloaded.
        variant (str): A key of ``VARIANTS``.
        encoder (str, optional): Name of the encoder. None, or the name of the
            config's encoder, keeps the config's encoder and its settings.
        device (torch.device): Device of the distiller.
        flow: Further settings of ``model.flow``.
    """
    model = deepcopy(config.model)
    model.variant = variant
    model.student = without_weights(load_model_config(model.student, 'x'))
    if not VARIANTS[variant].needs_teacher:
        model.teacher = None
    if model.get('teacher') is not None:
        model.teacher.checkpoint = None
    if encoder is not None and encoder != encoder_name(model.flow.encoder):
        model.flow.encoder = dict(type=encoder)
    if variant == 'direct':
        model.flow.direct_weight = 0.0
    if variant != 'theta':
        model.flow.pop('ensemble_weight', None)
    model.flow.update(flow)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        distiller = MODELS.build(model)
    # Without it, detectors predict boxes everywhere, whose NMS would take most
    # of the time of a prediction.
    init_random_weights(distiller.student)
    # With a zero-initialized last layer, the layers before it would have no
    # gradient.
    for module in distiller.flows.modules():
        if isinstance(module, MetaEncoder):
            for p in module.layers[-1].parameters():
                nn.init.normal_(p, std=0.01)
    return distiller.to(device)


def encoder_name(encoder: Any) -> Optional[str]:
    """Return the name of an encoder config; None for a list of configs."""
    return encoder.get('type') if isinstance(encoder, dict) else None


def half_precision(device: torch.device) -> torch.dtype:
    """Return the data type of autocast on a device."""
    return torch.float16 if device.type == 'cuda' else torch.bfloat16


def autocast(device: torch.device, enabled: bool) -> ContextManager:
    """Return the context of autocast in half precision."""
    return torch.autocast(device.type, half_precision(device), enabled=enabled)


def noise(
    distiller: nn.Module, batch_size: int, image_size: Tuple[int, int]
) -> Tuple[Tensor, list]:
    """Return random normalized images ``(B, 3, H, W)`` and annotations.

    Args:
        distiller (nn.Module): Distiller of detectors or classifiers.
        batch_size (int): Number of images B.
        image_size (tuple[int, int]): W and H in pixels.
    """
    width, height = image_size
    device = next(distiller.parameters()).device
    images = torch.randn(batch_size, 3, height, width, device=device)
    if distiller.library == 'mmpretrain':
        from mmpretrain.structures import DataSample

        return images, [
            DataSample().set_gt_label(i % 10).to(device)
            for i in range(batch_size)
        ]
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    samples = []
    for dummy_sample in dummy_samples(images):
        sample = DetDataSample(metainfo=dummy_sample.metainfo)
        corners = [[0.1, 0.1, 0.5, 0.7], [0.4, 0.3, 0.9, 0.9]]
        boxes = torch.tensor(corners) * torch.tensor([width, height] * 2)
        sample.gt_instances = InstanceData(
            bboxes=boxes.to(device),
            labels=torch.tensor([0, 1], device=device),
        )
        samples.append(sample)
    return images, samples


def training_forward(model: nn.Module, batch: tuple) -> Callable[[], Tensor]:
    """Return a function that computes the training loss of a batch."""

    def forward() -> Tensor:
        images, samples = batch
        losses = model(images, deepcopy(samples), mode='loss')
        return model.parse_losses(losses)[0]

    return forward


def backward(model: nn.Module, loss: Tensor) -> None:
    """Run backward, and discard the gradients."""
    loss.backward()
    model.zero_grad()


def encoder_passes(
    distiller: nn.Module, batch: tuple, num_steps: int, amp: bool
) -> Callable[[], None]:
    """Return a function that runs the encoders alone, forward and backward.

    Its time is the lower bound of a flow's cost: N passes of each encoder on
    the feature maps of the batch.

    Args:
        distiller (nn.Module): Distiller with the encoders.
        batch (tuple): Images and annotations.
        num_steps (int): Number of passes N.
        amp (bool): Whether to run them under autocast.
    """
    inputs: Dict[MetaEncoder, Tensor] = {}
    encoders = [
        x for x in distiller.flows.modules() if isinstance(x, MetaEncoder)
    ]
    for encoder in encoders:

        def proj_in(x, encoder=encoder, proj_in=encoder.proj_in):
            inputs[encoder] = x.detach().clone()
            return proj_in(x)

        encoder.proj_in = proj_in
    with torch.no_grad():
        distiller(batch[0], deepcopy(batch[1]), mode='loss')
    for encoder in encoders:
        del encoder.proj_in

    def run_passes() -> None:
        with autocast(batch[0].device, amp):
            for encoder, x in inputs.items():
                encoder_step(encoder, x, num_steps)

    return run_passes


def encoder_step(encoder: nn.Module, inputs: Tensor, num_steps: int) -> None:
    """Run N passes of an encoder, each forward and backward."""
    state = inputs.detach().requires_grad_()
    for i in range(num_steps, 0, -1):
        out = encoder(state, i / num_steps)
        out.backward(torch.ones_like(out))
    encoder.zero_grad()
