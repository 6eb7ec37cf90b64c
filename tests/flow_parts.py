"""Builders of small transfers for the tests of the variants."""

import torch
from torch import nn

from mmfmkt.models import flows, losses
from mmfmkt.models.flows import (
    VARIANTS,
    MapTransform,
    PooledHead,
    VelocityField,
)

LABELS = torch.tensor([1, 0, 2])


def build(variant, channels=4, target_channels=4, zero_init=False, **kwargs):
    """Build a transfer between maps from the class names of its parts.

    With ``classes``, the transform of Theta's branch returns logits.
    """
    kind = VARIANTS[variant]
    encoder = getattr(flows, kwargs.pop('encoder', 'ConvEncoder'))
    schedule = getattr(flows, kwargs.pop('schedule', 'RectifiedFlow'))()
    metric = getattr(losses, kwargs.pop('metric', 'PKDLoss'))()
    prediction = kwargs.pop('prediction', 'velocity')
    classes = kwargs.pop('classes', None)
    parts = {'transform': MapTransform(channels, target_channels)}
    if variant == 'theta':
        student_transform = MapTransform(channels, target_channels)
        parts = {'student_transform': student_transform, **parts}
    if classes:
        parts['transform'] = PooledHead(channels, classes)
    if variant != 'direct':
        parts['field'] = VelocityField(
            encoder(channels, zero_init=zero_init), schedule, prediction
        )
    return kind(metric=metric, **parts, **kwargs)


class CountingHead(nn.Module):
    """Student head that counts its calls, with label smoothing."""

    def __init__(self, channels=6, classes=3, smoothing=0.0):
        super().__init__()
        self.fc = nn.Linear(channels, classes)
        self.smoothing, self.calls = smoothing, 0
        self.labels = LABELS

    def logits(self, feature):
        self.calls += 1
        vectors = feature.dim() == 2
        return self.fc(feature if vectors else feature.mean((2, 3)))

    def forward(self, feature):
        logits = self.logits(feature)
        return logits, dict(
            loss_task=nn.functional.cross_entropy(
                logits, self.labels, label_smoothing=self.smoothing
            )
        )


def run(flow, source, target, num_steps, labels=None, head=None, **kwargs):
    """Return all losses and the output, with or without a head."""
    if head is None:
        return flow(source, target, num_steps, labels, **kwargs)
    losses, task, output = flow.forward_head(
        source, target, num_steps, labels, head, **kwargs
    )
    return {**task, **losses}, output


def total_of(losses, output):
    """Return a scalar that depends on all losses and the output."""
    return output.square().mean() + sum(
        x for name, x in losses.items() if 'loss' in name
    )
