"""Results against float64 on the CPU, and synchronization."""

import math
import traceback
from copy import deepcopy
from functools import partial
from typing import Any, Callable, ContextManager, Dict, Iterator, List, Tuple

import torch
from report import Part, Report, describe
from torch import Tensor, nn

from mmfmkt.models import flows, losses

CHANNELS, CLASSES, BATCH = 32, 10, 4
MAPS, VECTORS = (BATCH, CHANNELS, 12, 18), (BATCH, CHANNELS)
LOGITS = (BATCH, CLASSES)
TOLERANCES = {False: 1e-4, True: 5e-2}
# Gradients of means are too small for float16.
LOSS_SCALE = 64.0
# From module, source and target to loss and output.
Forward = Callable[[nn.Module, Tensor, Tensor], Tuple[Tensor, Tensor]]
# Name, builder, forward, shapes of source and target.
Case = Tuple[str, Callable[[], nn.Module], Forward, tuple, tuple]


def half_of(device: torch.device) -> torch.dtype:
    """Return the half precision of autocast on a device."""
    return torch.float16 if device.type == 'cuda' else torch.bfloat16


def autocast(device: torch.device, amp: bool) -> ContextManager:
    """Return autocast in half precision, without effect unless ``amp``."""
    return torch.autocast(device.type, half_of(device), enabled=amp)


def build_transfer(
    variant: str, encoder: str = 'BottleneckEncoder', **kwargs: Any
) -> nn.Module:
    """Build a transfer between maps with PKD."""
    if variant != 'direct':
        kwargs['field'] = flows.VelocityField(
            getattr(flows, encoder)(CHANNELS, zero_init=False),
            flows.RectifiedFlow(),
        )
    return flows.VARIANTS[variant](metric=losses.PKDLoss(), **kwargs)


def build_head_transfer() -> nn.Module:
    """Build a transfer between vectors, with a head and DIST."""
    transfer = build_transfer('fmkt', 'MLPEncoder')
    transfer.metric = losses.DISTLoss()
    transfer.head = nn.Linear(CHANNELS, CLASSES)
    return transfer


def run_transfer(
    transfer: nn.Module, source: Tensor, target: Tensor
) -> Tuple[Tensor, Tensor]:
    """Return total loss and output of a transfer."""
    head = getattr(transfer, 'head', None)
    if head:
        found, _, output = transfer.forward_head(
            source, target, 4, None, lambda x: (head(x), {})
        )
    else:
        found, output = transfer(source, target, 4)
    return sum(x for name, x in found.items() if 'loss' in name), output


def run_loss(
    loss: nn.Module, source: Tensor, target: Tensor
) -> Tuple[Tensor, Tensor]:
    """Return a distillation loss, also, detached, as the output."""
    if loss.needs_teacher_head:
        loss.teacher_head = read_boxes
    labels = torch.arange(len(source), device=source.device) % CLASSES
    found = loss(source, target, labels if loss.needs_labels else None)
    return found, found.detach()


def build_sum() -> nn.Module:
    """Build a weighted sum of two losses of maps."""
    parts = [losses.CosineLoss(), losses.MSELoss()]
    return losses.WeightedSumLoss(parts, [0.9, 0.1])


def read_boxes(maps: Tensor) -> Tuple[Tensor, Tensor]:
    """Return logits and boxes of maps, as a teacher's dense head."""
    cells = maps.flatten(2).mT
    center, size = cells[..., :2], cells[..., 2:4].exp()
    return cells[..., 4:], torch.cat([center - size, center + size], -1)


def cases() -> Iterator[Case]:
    """Yield variants, encoders, distillation losses and a head."""

    def maps(name: str, *args: Any, **kwargs: Any) -> Case:
        build = partial(build_transfer, *args, **kwargs)
        return name, build, run_transfer, MAPS, MAPS

    for variant in flows.VARIANTS:
        yield maps(f'variant {variant}', variant)
    yield maps('variant fmkt, with_cp', 'fmkt', with_cp=True)
    for encoder in flows.__all__:
        if encoder.endswith('Encoder') and encoder != 'MetaEncoder':
            yield maps(f'encoder {encoder}', 'fmkt', encoder)
    for name in losses.__all__:
        kind = getattr(losses, name)
        if name.endswith('Loss') and not name.startswith('Base'):
            shape = MAPS if 'maps' in kind.spaces else LOGITS
            build = build_sum if kind is losses.WeightedSumLoss else kind
            yield f'loss {name}', build, run_loss, shape, shape
    yield 'head', build_head_transfer, run_transfer, VECTORS, LOGITS


def evaluate(
    module: nn.Module,
    forward: Forward,
    inputs: List[Tensor],
    device: torch.device,
    dtype: torch.dtype,
    amp: bool = False,
    compiled: bool = False,
) -> Dict[str, Tensor]:
    """Return loss, output and gradients on a device, as float64."""
    module = deepcopy(module).to(device, dtype)
    if compiled:
        module.compile()
    # Under autocast, inputs stay in half precision.
    inputs = [x.to(device, None if amp else dtype) for x in inputs]
    source = inputs[0].requires_grad_()
    with autocast(device, amp):
        loss, output = forward(module, *inputs)
    total = loss.to(torch.promote_types(loss.dtype, torch.float32))
    total = total + output.to(total.dtype).square().mean()
    (total * LOSS_SCALE).backward()
    found = dict(loss=loss, output=output, gradient=source.grad)
    grads = [
        x.grad.flatten() for x in module.parameters() if x.grad is not None
    ]
    if grads:
        found['weights'] = torch.cat(grads)
    return {k: v.detach().double().cpu() for k, v in found.items()}


def relative_errors(
    case: Case, device: torch.device, amp: bool, compiled: bool
) -> Dict[str, float]:
    """Return relative errors against float64 on the CPU."""
    _, build, forward, *shapes = case
    torch.manual_seed(0)
    module = build()
    inputs = [torch.randn(shape) for shape in shapes]
    if amp:
        inputs = [x.to(half_of(device)) for x in inputs]
    run = partial(evaluate, module, forward)
    truth = run(inputs, torch.device('cpu'), torch.float64)
    found = run(inputs, device, torch.float32, amp, compiled)
    return {
        key: ((found[key] - x).norm() / x.norm()).item()
        for key, x in truth.items()
        if x.norm() > 0
    }


def check_correctness(
    report: Report, device: torch.device, amp: bool, compiled: bool = False
) -> None:
    """Compare a device with the CPU in float64, case by case."""
    torch.backends.cudnn.allow_tf32 = False
    rows, bad, worst = [], [], (0.0, '')
    for case in cases():
        name = case[0]
        if compiled and name != 'variant fmkt':
            continue
        try:
            errors = relative_errors(case, device, amp, compiled)
        except Exception as error:
            report.log(f'correctness, {name}', traceback.format_exc())
            errors = {describe(error): math.inf}
        rows.append(dict(name=name, **errors))
        worst = max(worst, *((v, f'{name}, {k}') for k, v in errors.items()))
        # NaN is an error, too.
        if not all(x <= TOLERANCES[amp] for x in errors.values()):
            bad.append(f'{name}: {errors}')
    report.add(
        f'correctness, {"AMP" if amp else "float32"}{", compiled" * compiled}',
        f'{len(rows) - len(bad)} of {len(rows)} within {TOLERANCES[amp]:g} of '
        f'CPU float64, largest error {worst[0]:.1e} ({worst[1]})'
        + ''.join(f'\n    DIFFERS: {x}' for x in bad),
        status='failed' if bad else 'ok',
        rows=rows,
    )


def check_synchronization(report: Report, device: torch.device) -> None:
    """Check that no training step of a transfer waits for the GPU."""
    if device.type != 'cuda':
        return report.add('synchronization', 'skipped: needs a GPU')
    steps, bad = 0, []
    for name, build, forward, *shapes in cases():
        if not name.startswith(('variant', 'encoder')):
            continue
        for amp in (False, True):
            module = build().to(device)
            source, target = (torch.randn(x, device=device) for x in shapes)
            source.requires_grad_()

            def step(args=(module, source, target), amp=amp, run=forward):
                with autocast(device, amp):
                    loss, output = run(*args)
                (loss + output.float().mean()).backward()

            steps += 1
            step()
            torch.cuda.synchronize()
            torch.cuda.set_sync_debug_mode('error')
            try:
                step()
            except Exception as error:
                report.log(f'synchronization, {name}', traceback.format_exc())
                bad.append(f'{name}, amp={amp}: {describe(error)}')
            finally:
                torch.cuda.set_sync_debug_mode('default')
    report.add(
        'synchronization',
        f'{steps - len(bad)} of {steps} training steps of a transfer never '
        'wait for the GPU' + ''.join(f'\n    WAITS: {x}' for x in bad),
        status='failed' if bad else 'ok',
    )


def parts(report: Report, device: torch.device, until: float) -> List[Part]:
    correctness = partial(check_correctness, report, device)
    synchronization = partial(check_synchronization, report, device)
    return [
        ('correctness, float32', 40, partial(correctness, False)),
        ('correctness, AMP', 40, partial(correctness, True)),
        ('synchronization', 30, synchronization),
    ]
