"""Pictures of a report: detections side by side, and feature maps."""

import base64
import io
from typing import Any, Dict, List, Sequence

import matplotlib
import mmcv
import numpy as np
import torch
from torch import Tensor

from .looks import Found, Levels, matched

matplotlib.use('Agg')

import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.patches import Rectangle  # noqa: E402

# What a box is, seen against what the first detector finds.
COLOURS = dict(
    found='#2ca02c', gained='#1f77b4', lost='#d62728', false='#ff7f0e'
)


def embedded(figure: Any, quality: int = 85) -> str:
    """A matplotlib figure as a picture inside HTML."""
    buffer = io.BytesIO()
    figure.savefig(
        buffer,
        format='jpg',
        dpi=100,
        bbox_inches='tight',
        pil_kwargs=dict(quality=quality),
    )
    plt.close(figure)
    return (
        'data:image/jpeg;base64,'
        + base64.b64encode(buffer.getvalue()).decode()
    )


def side_by_side(
    path: str,
    wanted: Found,
    found: Dict[str, Found],
    reference: str,
    classes: Sequence[str],
) -> str:
    """One image with what each detector finds, as HTML's picture.

    Args:
        path (str): Of the image.
        wanted (Found): The objects.
        found (dict): Detections by detector.
        reference (str): The detector that others are compared with.
        classes (Sequence[str]): Names of the classes.
    """
    image = mmcv.imread(path, channel_order='rgb')
    height, width = image.shape[:2]
    known = {x for x in matched(found[reference], wanted) if x >= 0}
    panels = len(found) + 1
    columns = panels if panels <= 4 else 3
    rows = -(-panels // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(4.2 * columns, 4.2 * rows * height / width + 0.5 * rows),
        squeeze=False,
    )
    for place in axes.flat:
        place.axis('off')
    show(axes.flat[0], image, 'ground truth')
    for box, label in zip(wanted.boxes, wanted.labels):
        draw(axes.flat[0], box, COLOURS['found'], classes[label])
    for place, (name, detections) in zip(axes.flat[1:], found.items()):
        matches = matched(detections, wanted)
        counts = dict.fromkeys(COLOURS, 0)
        show(place, image, name)
        for box, label, score, match in zip(
            detections.boxes, detections.labels, detections.scores, matches
        ):
            kind = 'false' if match < 0 else 'found'
            if match >= 0 and match not in known:
                kind = 'gained'
            counts[kind] += 1
            # Of what all find, a name on each box would only cover it.
            text = '' if kind == 'found' else f'{classes[label]} {score:.2f}'
            draw(place, box, COLOURS[kind], text)
        for index in sorted(known - set(matches)):
            counts['lost'] += 1
            label = classes[wanted.labels[index]]
            draw(place, wanted.boxes[index], COLOURS['lost'], label, '--')
        said = ', '.join(
            f'{count} {kind}' for kind, count in counts.items() if count
        )
        place.set_title(f'{name}: {said or "nothing"}', fontsize=9)
    return embedded(figure)


def show(axes: Any, image: np.ndarray, title: str) -> None:
    """Put an image into a panel."""
    axes.imshow(image)
    axes.set_title(title, fontsize=9)


def draw(
    axes: Any, box: Tensor, colour: str, text: str, style: str = '-'
) -> None:
    """Draw a box, with a name inside its upper edge."""
    x, y, right, bottom = box.tolist()
    axes.add_patch(
        Rectangle(
            (x, y),
            right - x,
            bottom - y,
            fill=False,
            edgecolor=colour,
            linewidth=1.4,
            linestyle=style,
        )
    )
    if text:
        axes.text(
            x + 1,
            y + 1,
            text,
            fontsize=5.5,
            color='white',
            verticalalignment='top',
            clip_on=True,
            bbox=dict(facecolor=colour, alpha=0.75, pad=0.6, edgecolor='none'),
        )


@torch.no_grad()
def maps(levels: List[Levels], path: str) -> str:
    """Maps of the first image: before, after, teacher's; a row a level.

    Brightness is the root mean square over channels, each map standardised
    as PKD sees it, on one scale for a level.

    Args:
        levels (list[Levels]): Levels of a run.
        path (str): Of the image.
    """
    image = mmcv.imread(path, channel_order='rgb')
    figure, axes = plt.subplots(
        len(levels), 4, figsize=(13, 2.6 * len(levels)), squeeze=False
    )
    for row, level in zip(axes, levels):
        transfer, target = level.transfer, level.target
        after, there = level.source, transfer.field is not None
        if there:
            after = transfer.transport(level.source, level.num_steps)
        brought = [
            transfer.transform(x, target) for x in (level.source, after)
        ]
        seen = [intensity(x) for x in (*brought, target)]
        low, high = min(x.min() for x in seen), max(x.max() for x in seen)
        show(row[0], image, level.name)
        for place, map_, title in zip(
            row[1:],
            seen,
            ('student', 'after the flow' if there else 'no flow', 'teacher'),
        ):
            place.imshow(map_, cmap='magma', vmin=low, vmax=high)
            place.set_title(title, fontsize=9)
        for place in row:
            place.axis('off')
    return embedded(figure)


def intensity(maps: Tensor) -> np.ndarray:
    """Root mean square over channels of the first map, standardised."""
    mean = maps.mean((0, 2, 3), keepdim=True)
    std = maps.std((0, 2, 3), keepdim=True)
    standard = (maps - mean) / (std + 1e-6)
    return standard[0].square().mean(0).sqrt().cpu().numpy()
