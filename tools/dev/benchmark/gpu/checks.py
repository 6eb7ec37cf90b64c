"""Checks of results against the CPU in float64, and of synchronization."""

import math
import traceback
from copy import deepcopy
from functools import partial
from typing import Any, Callable, Dict, Iterator, List, Tuple

import run
import torch
from report import Part, Report, describe
from torch import Tensor, nn

from mmfmkt.models import flows, losses

CHANNELS, CLASSES, BATCH = 32, 10, 4
# Shapes of inputs.
MAPS, VECTORS = (BATCH, CHANNELS, 12, 18), (BATCH, CHANNELS)
LOGITS = (BATCH, CLASSES)
# Accepted relative errors, without (False) and with autocast (True).
TOLERANCES = {False: 1e-4, True: 5e-2}
# Gradients of means are too small for float16.
WEIGHT = 'gradient of '  # prefix of the gradients of weights
LOSS_SCALE = 64.0
# Function from module, source and target to loss and output.
Forward = Callable[[nn.Module, Tensor, Tensor], Tuple[Tensor, Tensor]]
# Name, builder, forward, shapes of source and target.
Case = Tuple[str, Callable[[], nn.Module], Forward, tuple, tuple]


def build_transfer(
    variant: str, encoder: str = 'BottleneckEncoder', **kwargs: Any
) -> nn.Module:
    """Build a transfer between feature maps with the PKD loss."""
    if variant != 'direct':
        kwargs['field'] = flows.VelocityField(
            getattr(flows, encoder)(CHANNELS, zero_init=False),
            flows.RectifiedFlow(),
        )
    return flows.VARIANTS[variant](metric=losses.PKDLoss(), **kwargs)


def build_head_transfer() -> nn.Module:
    """Build a transfer between vectors with a head and the DIST loss."""
    transfer = build_transfer('fmkt', 'MLPEncoder')
    transfer.metric = losses.DISTLoss()
    transfer.head = nn.Linear(CHANNELS, CLASSES)
    return transfer


def run_transfer(
    transfer: nn.Module, source: Tensor, target: Tensor
) -> Tuple[Tensor, Tensor]:
    """Return total loss and output of a transfer with N = 4 steps."""
    head = getattr(transfer, 'head', None)
    if head:
        loss_dict, _, output = transfer.forward_head(
            source, target, 4, None, lambda x: (head(x), {})
        )
    else:
        loss_dict, output = transfer(source, target, 4)
    return sum(x for name, x in loss_dict.items() if 'loss' in name), output


def run_loss(
    loss: nn.Module, source: Tensor, target: Tensor
) -> Tuple[Tensor, Tensor]:
    """Return the value of a distillation loss, twice: as loss and, detached,
    as output."""
    if loss.needs_teacher_head:
        loss.teacher_head = dense_head
    labels = torch.arange(len(source), device=source.device) % CLASSES
    value = loss(source, target, labels if loss.needs_labels else None)
    return value, value.detach()


def build_weighted_sum() -> nn.Module:
    """Build a weighted sum of two losses of feature maps."""
    parts = [losses.CosineLoss(), losses.MSELoss()]
    return losses.WeightedSumLoss(parts, [0.9, 0.1])


def dense_head(maps: Tensor) -> Tuple[Tensor, Tensor]:
    """Return logits and boxes at each position of feature maps."""
    cells = maps.flatten(2).mT
    center, size = cells[..., :2], cells[..., 2:4].exp()
    return cells[..., 4:], torch.cat([center - size, center + size], -1)


def cases() -> Iterator[Case]:
    """Yield variants, encoders, distillation losses and a head."""

    def transfer_case(name: str, *args: Any, **kwargs: Any) -> Case:
        build = partial(build_transfer, *args, **kwargs)
        return name, build, run_transfer, MAPS, MAPS

    for variant in flows.VARIANTS:
        yield transfer_case(f'variant {variant}', variant)
    yield transfer_case('variant fmkt, with_cp', 'fmkt', with_cp=True)
    for encoder in run.ENCODERS:
        yield transfer_case(f'encoder {encoder}', 'fmkt', encoder)
    for name in losses.__all__:
        loss_class = getattr(losses, name)
        if name.endswith('Loss') and not name.startswith('Base'):
            shape = MAPS if 'maps' in loss_class.spaces else LOGITS
            build = (
                build_weighted_sum
                if loss_class is losses.WeightedSumLoss
                else loss_class
            )
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
    with run.networks.autocast(device, amp):
        loss, output = forward(module, *inputs)
    total = loss.to(torch.promote_types(loss.dtype, torch.float32))
    total = total + output.to(total.dtype).square().mean()
    (total * LOSS_SCALE).backward()
    values = dict(loss=loss, output=output, gradient=source.grad)
    for name, x in module.named_parameters():
        if x.grad is not None:
            values[f'{WEIGHT}{name}'] = x.grad
    return {k: v.detach().double().cpu() for k, v in values.items()}


def relative_errors(
    case: Case, device: torch.device, amp: bool, compiled: bool
) -> Dict[str, float]:
    """Return relative errors of loss, output and gradients, by name.

    The reference is the CPU in float64.
    """
    _, build, forward, *shapes = case
    torch.manual_seed(0)
    module = build()
    inputs = [torch.randn(shape) for shape in shapes]
    if amp:
        inputs = [x.to(run.networks.half_precision(device)) for x in inputs]
    evaluate_on = partial(evaluate, module, forward, inputs)
    expected = evaluate_on(torch.device('cpu'), torch.float64)
    actual = evaluate_on(device, torch.float32, amp, compiled)
    # The gradient of a weight that is almost 0 has rounding errors only.
    weights = [x.norm() for k, x in expected.items() if k.startswith(WEIGHT)]
    total = torch.stack(weights).norm() if weights else torch.zeros(())
    errors = {}
    for key, x in expected.items():
        floor = 0.1 * total if key.startswith(WEIGHT) else 0.0
        scale = x.norm().clamp(min=floor)
        if scale > 0:
            errors[key] = ((actual[key] - x).norm() / scale).item()
    return errors


def check_correctness(
    report: Report, device: torch.device, amp: bool, compiled: bool = False
) -> None:
    """Compare a device with the CPU in float64, case by case."""
    torch.backends.cudnn.allow_tf32 = False
    rows, failures, largest_error = [], [], (0.0, '')
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
        largest_error = max(
            largest_error,
            *((x, f'{name}, {key}') for key, x in errors.items()),
        )
        # NaN counts as a failure, too.
        if not all(x <= TOLERANCES[amp] for x in errors.values()):
            failures.append(f'{name}: {errors}')
    report.add_check(
        f'correctness, {"AMP" if amp else "float32"}{", compiled" * compiled}',
        len(rows),
        f'within {TOLERANCES[amp]:g} of CPU float64, largest error '
        f'{largest_error[0]:.1e} ({largest_error[1]})',
        failures,
        rows=rows,
    )


def check_synchronization(report: Report, device: torch.device) -> None:
    """Check that no training step of a transfer waits for the GPU."""
    if device.type != 'cuda':
        return report.add('synchronization', 'skipped: needs a GPU')
    num_checked, failures = 0, []
    for name, build, forward, *shapes in cases():
        for amp in (False, True):
            module = build().to(device)
            source, target = (torch.randn(x, device=device) for x in shapes)
            source.requires_grad_()

            def step(args=(module, source, target), amp=amp, forward=forward):
                with run.networks.autocast(device, amp):
                    loss, output = forward(*args)
                (loss + output.float().mean()).backward()

            num_checked += 1
            try:
                run.check_synchronization(step)
            except Exception as error:
                report.log(f'synchronization, {name}', traceback.format_exc())
                failures.append(f'{name}, amp={amp}: {describe(error)}')
    report.add_check(
        'synchronization',
        num_checked,
        'training steps of a transfer never wait for the GPU',
        failures,
    )


def parts(report: Report, device: torch.device, deadline: float) -> List[Part]:
    """Return the parts of this group; none uses the deadline."""
    correctness = partial(check_correctness, report, device)
    synchronization = partial(check_synchronization, report, device)
    return [
        ('correctness, float32', 60, partial(correctness, False)),
        ('correctness, AMP', 60, partial(correctness, True)),
        ('synchronization', 30, synchronization),
    ]
