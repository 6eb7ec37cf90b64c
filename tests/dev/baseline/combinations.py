"""Losses, gradients and outputs of every legal combination, in float64.

Each combination is a ``ClassificationDistiller`` of two tiny networks. With
``zero_init``, weights are those of the constructor. Otherwise, they are values
of a sine wave, so that names and the order of random draws do not matter.
"""

import itertools
import logging
import zlib
from typing import Any, Dict, Iterator, Tuple

import backbone  # noqa: F401 (registers BaselineBackbone)
import torch
from adapter import build_model, recorded_name
from digests import digest, to_hex, wave
from mmengine.logging import MessageHub, MMLogger
from mmpretrain.structures import DataSample
from torch import Tensor, nn

VARIANTS = ('fmkt', 'theta', 'online', 'parallel', 'direct')
SCHEDULES = ('RectifiedFlow', 'VPODE', 'SubVPODE', 'VEODE')
ENCODERS = (
    'BottleneckEncoder',
    'ConvEncoder',
    'DepthwiseConvEncoder',
    'MLPEncoder',
    'TransformerEncoder',
    'ConvNeXtEncoder',
)
METRICS = ('KDLoss', 'DKDLoss', 'DISTLoss', 'PKDLoss', 'MSELoss', 'CWDLoss')
PREDICTIONS = ('velocity', 'target')
COMPARED = ('targets', 'velocities')
SPACES = ('maps', 'unlike maps', 'logits of maps', 'logits of vectors')
# Without a flow, schedule, encoder and prediction have no effect.
NO_FLOW = (SCHEDULES[0], 'MLPEncoder', PREDICTIONS[0])
BATCH, CHANNELS, TEACHER_CHANNELS, CLASSES = 4, 6, 5, 4
SIZE = (40, 32)
NUM_STEPS = 3
Settings = Dict[str, Any]


def network(channels: int, vectors: bool = False, **kwargs: Any) -> dict:
    """Return the config of a tiny classifier."""
    return dict(
        type='ImageClassifier',
        backbone=dict(
            type='BaselineBackbone',
            channels=channels,
            vectors=vectors,
            **kwargs,
        ),
        neck=None if vectors else dict(type='GlobalAveragePooling'),
        head=dict(
            type='LinearClsHead', num_classes=CLASSES, in_channels=channels
        ),
    )


def is_legal(
    space, variant, schedule, encoder, metric, prediction, compare
) -> bool:
    """Return whether mmfmkt accepts a combination."""
    logits = space.startswith('logits')
    if variant == 'online' and space == 'unlike maps':
        return False  # that is 'maps': there is no teacher
    if space == 'logits of vectors' and encoder != 'MLPEncoder':
        return False
    if metric in ('KDLoss', 'DKDLoss', 'DISTLoss') and not logits:
        return False
    if metric in ('PKDLoss', 'CWDLoss') and logits:
        return False
    if variant == 'parallel' and space != 'maps':
        return False
    if compare == 'velocities':
        return (
            variant in ('fmkt', 'theta', 'parallel')
            and metric != 'PKDLoss'
            and space == 'maps'
        )
    return True


def combinations() -> Iterator[Tuple[str, Settings]]:
    """Yield name and settings of all legal combinations."""
    for parts in itertools.product(
        SPACES, VARIANTS, SCHEDULES, ENCODERS, METRICS, PREDICTIONS, COMPARED
    ):
        space, variant, schedule, encoder, metric, prediction, compare = parts
        direct = variant == 'direct'
        if direct and (schedule, encoder, prediction) != NO_FLOW:
            continue
        if not is_legal(*parts):
            continue
        for zero_init in (True,) if direct else (True, False):
            flow = dict(
                encoder=encoder_of(encoder, zero_init),
                schedule=dict(type=schedule),
                metric=dict(type=metric),
                prediction=prediction,
                compare=compare,
            )
            if not zero_init and variant in ('fmkt', 'theta', 'parallel'):
                flow.update(direct_weight=0.5, dirac_ratio=0.5)
            name = ' '.join(x for x in parts if not direct or x not in NO_FLOW)
            name += '' if direct else f' zero_init={zero_init}'
            yield name, settings(space, variant, flow, waves=not zero_init)


def encoder_of(name: str, zero_init: bool) -> dict:
    narrow = {}
    if name == 'TransformerEncoder':
        narrow = dict(num_heads=2, head_dim=4)
    return dict(type=name, zero_init=zero_init, **narrow)


def settings(
    space: str, variant: str, flow: dict, waves: bool = True, **model: Any
) -> Settings:
    """Return the config of a distiller, and whether weights are waves."""
    logits, vectors = space.startswith('logits'), space.endswith('vectors')
    levels = dict(levels=model.pop('num_levels', 1))
    teacher = network(CHANNELS, vectors, **({} if vectors else levels))
    if space == 'unlike maps':
        teacher = network(TEACHER_CHANNELS, crops=True, **levels)
    teacher = dict(config=teacher, checkpoint=None)
    if variant == 'online':
        teacher = None
    return dict(
        waves=waves,
        model=dict(
            type='mmfmkt.ClassificationDistiller',
            student=network(CHANNELS, vectors, **({} if vectors else levels)),
            teacher=teacher,
            variant=variant,
            tap='head' if logits else 'backbone',
            flow=dict(
                dict(
                    num_steps=NUM_STEPS,
                    inference_steps=NUM_STEPS,
                    loss_weight=2.0,
                ),
                **flow,
            ),
            **model,
        ),
    )


def options() -> Iterator[Tuple[str, Settings]]:
    """Yield name and settings of options that are not combined."""
    pkd, kd = dict(type='PKDLoss'), dict(type='KDLoss')
    conv = encoder_of('ConvEncoder', False)
    for variant in ('fmkt', 'theta', 'parallel', 'online'):
        for encoder in ENCODERS:
            flow = dict(encoder=encoder_of(encoder, False), metric=pkd)
            yield (
                f'option with_cp {variant} {encoder}',
                settings('maps', variant, dict(flow, with_cp=True)),
            )
    two = dict(num_levels=2)
    for variant in VARIANTS:
        for key, flow in dict(
            share_encoder=dict(encoder=conv, share_encoder=True),
            encoders=dict(encoder=[conv, encoder_of('MLPEncoder', False)]),
            loss_weights=dict(encoder=conv, loss_weight=[1.0, 3.0]),
            drawn_steps=dict(encoder=conv, num_steps=(1, 2, 4, 8)),
            many_steps=dict(encoder=conv, num_steps=16),
            one_step=dict(encoder=conv, num_steps=1),
        ).items():
            for space in ('maps', 'unlike maps'):
                if variant in ('parallel', 'online') and space != 'maps':
                    continue
                yield (
                    f'option {key} {space} {variant}',
                    settings(space, variant, dict(flow, metric=pkd), **two),
                )
        for key, flow in dict(
            drawn_steps=dict(num_steps=(1, 2, 4, 8)),
            soft_ensemble=dict(ensemble_weight=0.3),
            no_ensemble=dict(ensemble_weight=0.0, direct_weight=0.5),
        ).items():
            if 'ensemble_weight' in flow and variant != 'theta':
                continue
            for space in ('maps', 'logits of maps', 'logits of vectors'):
                if variant == 'parallel' and space != 'maps':
                    continue
                metric = pkd if space == 'maps' else kd
                encoder = encoder_of('MLPEncoder', False)
                flow = dict(flow, metric=metric, encoder=encoder)
                yield (
                    f'option {key} {space} {variant}',
                    settings(space, variant, flow),
                )
    for metric in (
        dict(type='KDLoss', temperature=2.0),
        dict(type='KDLoss', standardise=True),
        dict(type='DKDLoss', alpha=0.5, beta=2.0, temperature=2.0),
        dict(type='DKDLoss', standardise=True),
        dict(type='DISTLoss', beta=1.0, gamma=3.0, temperature=1.0),
        dict(type='PKDLoss', eps=1e-3),
        dict(type='CWDLoss', temperature=3.0),
    ):
        maps = metric['type'] in ('PKDLoss', 'CWDLoss')
        for variant in ('fmkt', 'theta', 'direct'):
            yield (
                f'option {metric} {variant}',
                settings(
                    'unlike maps' if maps else 'logits of maps',
                    variant,
                    dict(metric=metric, encoder=conv),
                ),
            )
    for schedule in (
        dict(type='VPODE', a=5.0, b=0.5),
        dict(type='SubVPODE', a=5.0, b=0.5),
        dict(type='VEODE', sigma_min=0.05, sigma_max=2.0),
    ):
        for space, metric in (('maps', pkd), ('logits of maps', kd)):
            flow = dict(metric=metric, schedule=schedule, encoder=conv)
            yield (
                f'option {schedule} {space}',
                settings(space, 'fmkt', flow),
            )
    for encoder in (
        dict(type='BottleneckEncoder', width=3),
        dict(type='BottleneckEncoder', width=3, kernel_size=3),
        dict(type='BottleneckEncoder', width=3, kernel_size=3, stride=2),
        dict(type='MLPEncoder', num_blocks=3, expansion=2),
        dict(type='ConvNeXtEncoder', num_blocks=2, expansion=2),
        dict(type='TransformerEncoder', num_heads=2, head_dim=4, window=3),
    ):
        for schedule in ('RectifiedFlow', 'VPODE'):
            flow = dict(
                metric=pkd, encoder=encoder, schedule=dict(type=schedule)
            )
            yield (
                f'option {encoder} {schedule}',
                settings('maps', 'fmkt', flow),
            )
    taps = [dict(tap='backbone', flow=dict(metric=pkd)), dict(tap='head')]
    for variant in ('fmkt', 'theta', 'online'):
        yield (
            f'option taps {variant}',
            settings('logits of maps', variant, dict(metric=kd), taps=taps),
        )


def batch() -> Tuple[Tensor, list]:
    """Return fixed images and labels."""
    images = wave(BATCH * 3 * SIZE[0] * SIZE[1], 1) + 0.3 * wave(
        BATCH * 3 * SIZE[0] * SIZE[1], 4
    )
    labels = (1, 0, 3, 2)
    samples = [DataSample().set_gt_label(x) for x in labels]
    return images.view(BATCH, 3, *SIZE), samples


def set_to_waves(module: nn.Module, phase: int = 0) -> None:
    """Set parameters to waves that depend on their size alone."""
    for p in module.parameters():
        values = wave(p.numel(), p.numel() % 7 + phase)
        p.data.copy_(0.3 * values.view_as(p))


def measure(setting: Settings) -> Dict[str, Any]:
    """Run a distiller once in training and twice deployed.

    Args:
        setting (dict): As ``settings`` returns it.

    Returns:
        dict: Digests of initial parameters, losses, gradients, and outputs
        after K = 1 and 3 steps.
    """
    torch.manual_seed(0)
    model = build_model(setting['model']).double()
    flows = {id(p) for p in model.flows.parameters()}
    found: Dict[str, Any] = dict(start=digest(model.parameters()))
    if setting['waves']:
        set_to_waves(model)
        if model.teacher is not None:
            set_to_waves(model.teacher, phase=3)
    images, samples = batch()
    model.train()
    torch.manual_seed(1)
    losses = model(images, samples, mode='loss')
    model.parse_losses(losses)[0].backward()
    found['losses'] = {
        recorded_name(name): to_hex(x) for name, x in sorted(losses.items())
    }
    for part in ('student', 'flow'):
        found[f'grad of {part}'] = digest(
            p.grad
            for p in model.parameters()
            if p.grad is not None and (id(p) in flows) == (part == 'flow')
        )
    model.eval()
    for k in (NUM_STEPS, 1):
        model.inference_steps = k
        with torch.no_grad():
            output = model(images, mode='tensor')
        found[f'K={k}'] = digest(
            [output] if isinstance(output, Tensor) else output
        )
    return found


def run(word: str, every: int) -> Dict[str, Any]:
    """Measure combinations.

    Args:
        word (str): Word in their names.
        every (int): Measure one of so many combinations.

    Returns:
        dict: Results of ``measure`` by name.
    """
    torch.set_num_threads(1)
    MMLogger.get_current_instance().setLevel(logging.ERROR)
    # The flow is monitored in each tenth iteration.
    MessageHub.get_current_instance().update_info('iter', 9)
    found: Dict[str, Any] = {}
    for name, setting in itertools.chain(combinations(), options()):
        if word in name and zlib.crc32(name.encode()) % every == 0:
            try:
                found[name] = measure(setting)
            except Exception as error:
                found[name] = dict(error=f'{type(error).__name__}: {error}')
    return found
