"""Classification of crops of the drawn shapes, which trains in seconds."""

import json
from functools import partial

import cv2
import torch
from flow_parts import build, run
from torch import nn

SIDE, CLASSES = 24, 6


def crops(root, split):
    """Return images ``(N, 3, 24, 24)`` of single shapes, and their classes."""
    annotations = json.loads(
        (root / f'annotations/instances_{split}.json').read_text()
    )
    files = {x['id']: x['file_name'] for x in annotations['images']}
    images, labels = [], []
    for item in annotations['annotations']:
        left, top, width, height = (round(x) for x in item['bbox'])
        if min(width, height) < 8:
            continue
        image = cv2.imread(str(root / split / files[item['image_id']]))
        crop = image[top : top + height, left : left + width]
        crop = cv2.resize(crop, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        images.append(torch.from_numpy(crop).permute(2, 0, 1))
        labels.append(item['category_id'] - 1)
    return torch.stack(images).float() / 64 - 2, torch.tensor(labels)


class Features(nn.Sequential):
    """Three convolutions: ``(B, 3, 24, 24)`` to ``(B, widths[-1], 6, 6)``."""

    def __init__(self, widths):
        layers, in_channels = [], 3
        for i, channels in enumerate(widths):
            layers += [
                nn.Conv2d(
                    in_channels, channels, 3, 1 + (i > 0), 1, bias=False
                ),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            ]
            in_channels = channels
        super().__init__(*layers)
        self.channels = in_channels


class Head(nn.Linear):
    """Pooling, a linear layer and cross entropy."""

    def __init__(self, channels, smoothing):
        super().__init__(channels, CLASSES)
        self.smoothing = smoothing

    def forward(self, feature):
        return super().forward(feature.mean((2, 3)))

    def with_losses(self, feature, labels):
        logits = self(feature)
        return logits, dict(
            loss_task=nn.functional.cross_entropy(
                logits, labels, label_smoothing=self.smoothing
            )
        )


def train(
    widths,
    variant,
    data,
    teacher=None,
    num_steps=4,
    epochs=12,
    seed=0,
    maps=False,
    **flow,
):
    """Train features, flow and head together.

    Args:
        widths (Sequence[int]): Channels of the layers.
        variant (str): Variant of the transfer.
        data (tuple): Images and labels.
        teacher (Callable, optional): Function from images to targets.
        num_steps (int): Number of steps N.
        epochs (int): Number of epochs.
        seed (int): Seed of weights and batches.
        maps (bool): Whether targets are feature maps, without a head.
        flow: Further arguments of ``flow_parts.build``.

    Returns:
        tuple: Features, flow, head, and the mean losses of the last epoch.
    """
    torch.manual_seed(seed)
    features = Features(widths)
    channels = features.channels
    flow = build(
        variant,
        channels,
        channels,
        **{'zero_init': True, 'metric': 'KDLoss', **flow},
    )
    head = Head(channels, 0.1 if variant == 'online' else 0.0)
    parameters = [
        *features.parameters(),
        *flow.parameters(),
        *head.parameters(),
    ]
    images, labels = data
    steps = epochs * (len(images) // 64)
    optimizer = torch.optim.AdamW(parameters, lr=3e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 3e-3, total_steps=steps
    )
    for _ in range(epochs):
        values_by_name = {}
        for index in torch.randperm(len(images)).split(64)[
            : len(images) // 64
        ]:
            batch = images[index]
            target = None
            if teacher is not None:
                with torch.no_grad():
                    target = teacher(batch)
            batch_labels = labels[index]
            losses, _ = run(
                flow,
                features(batch),
                target,
                num_steps,
                batch_labels,
                None
                if maps
                else partial(head.with_losses, labels=batch_labels),
            )
            optimizer.zero_grad()
            sum(x for name, x in losses.items() if 'loss' in name).backward()
            optimizer.step()
            schedule.step()
            for name, x in losses.items():
                values_by_name.setdefault(name, []).append(x.item())
    features.eval()
    means = {name: sum(x) / len(x) for name, x in values_by_name.items()}
    return features, flow, head, means


@torch.no_grad()
def score(features, flow, head, data, num_steps):
    """Return accuracy and negative log-likelihood of the averaged output."""
    logits = flow.logits(features(data[0]), [num_steps], head)[num_steps]
    nll = nn.functional.cross_entropy(logits, data[1]).item()
    return (logits.argmax(1) == data[1]).float().mean().item(), nll
