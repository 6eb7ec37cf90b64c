"""Feature maps of student and teacher, and the flow between them."""

from typing import Any, Dict, List, NamedTuple, Optional

import mmcv
import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from torch import Tensor, nn

from mmfmkt.models.distillers.taps import read_taps
from mmfmkt.models.flows import EulerSampler, Transfer
from mmfmkt.models.flows.inspection import measure_flow

from .detections import embed, plt

# Most places of a map that enter CKA and principal components; shown ones.
PLACES = 4096
SHOWN_PLACES = 40


class Level(NamedTuple):
    """Feature maps of one level of a tap, of some images.

    Attributes:
        name (str): Tap and level.
        transfer (Transfer): Its flow.
        source (Tensor): The student's, ``(B, C, H, W)``.
        target (Tensor): The teacher's, ``(B, C', H, W)``.
        num_steps (int): K.
    """

    name: str
    transfer: Transfer
    source: Tensor
    target: Tensor
    num_steps: int


def spread(count: int, wanted: int) -> List[int]:
    """Return indices of some of many, evenly spread."""
    wanted = min(count, wanted)
    return [i * count // wanted for i in range(wanted)]


@torch.no_grad()
def levels_of(
    distiller: nn.Module, dataset: Any, indices: List[int]
) -> List[Level]:
    """Read the feature maps of a distiller's taps, of both networks.

    Args:
        distiller (nn.Module): With its teacher, in eval mode.
        dataset (Any): The data set.
        indices (list[int]): Of the images; those of other sizes than the
            first's are left out.
    """
    samples = [dataset[i] for i in indices]
    shape = samples[0]['inputs'].shape
    batch = pseudo_collate([x for x in samples if x['inputs'].shape == shape])
    batch = distiller.data_preprocessor(batch, False)
    distiller.set_teacher_dataset(dataset)
    inputs, samples = batch['inputs'], batch['data_samples']
    targets = distiller.read_teacher(inputs, samples)
    levels = []
    for flow in distiller.feature_transfers:
        (sources,) = read_taps(
            distiller.student, [flow.tap], inputs, 'student', samples
        )
        for level, transfer in flow.items():
            source = sources[int(level)].float()
            height, width = source.shape[-2:]
            target = targets[flow.tap][int(level)].float()
            target = target[..., :height, :width]
            name = f'{flow.tap}.{level}'
            levels.append(
                Level(name, transfer, source, target, flow.inference_steps)
            )
    return levels


@torch.no_grad()
def along(level: Level) -> Dict[str, List[float]]:
    """Measure distance and CKA to the teacher: student, steps, deployed."""
    transfer, target = level.transfer, level.target
    stats = measure_flow(transfer, level.source, target, level.num_steps)
    estimates = stats.estimates or [level.source]
    features = [level.source, *stats.estimates]
    features.append(sum(estimates) / len(estimates))
    return dict(
        distance=[stats.before, *stats.per_step, stats.after],
        cka=[
            linear_cka(transfer.transform(x, target), target) for x in features
        ],
    )


def places(maps: Tensor, most: int = PLACES) -> Tensor:
    """Return features by place, ``(P, C)``, evenly spread if too many."""
    flat = maps.movedim(1, -1).flatten(0, -2)
    return flat[torch.tensor(spread(len(flat), most))].double()


def linear_cka(student: Tensor, teacher: Tensor) -> float:
    """Return linear centered kernel alignment (arXiv 1905.00414, Sec. 3).

    Args:
        student (Tensor): ``(B, C, H, W)``.
        teacher (Tensor): ``(B, C', H, W)``.
    """
    x, y = (places(z) - places(z).mean(0) for z in (student, teacher))
    norms = (x.T @ x).norm() * (y.T @ y).norm()
    return float((y.T @ x).norm() ** 2 / norms.clamp(min=1e-12))


@torch.no_grad()
def paths(level: Level) -> Optional[dict]:
    """Return features of some places during sampling, in a plane.

    The plane is that of the first two principal components of the teacher's
    features, into whose space T brings the states.

    Args:
        level (Level): A level; without a flow there is no path.

    Returns:
        dict, optional: ``states`` ``(K + 1, P, 2)`` and ``targets``
        ``(P, 2)`` as nested lists, and each axis' ``share`` of the variance.
    """
    transfer = level.transfer
    if transfer.field is None:
        return None
    states = [level.source]
    for step in EulerSampler(transfer.field, level.source, level.num_steps):
        states.append(states[-1] - step.velocity / level.num_steps)
    teacher = places(level.target)
    mean = teacher.mean(0)
    _, values, axes = torch.linalg.svd(teacher - mean, full_matrices=False)
    brought = [transfer.transform(x, level.target) for x in states]
    *states, targets = [
        ((places(x, SHOWN_PLACES) - mean) @ axes[:2].T).tolist()
        for x in (*brought, level.target)
    ]
    share = values.square() / values.square().sum()
    return dict(states=states, targets=targets, share=share[:2].tolist())


@torch.no_grad()
def draw_maps(levels: List[Level], path: str) -> str:
    """Draw maps of the first image: before, after, teacher; a row per level.

    Brightness is the root mean square over channels, each map standardized
    as in PKD, on one scale per level.

    Args:
        levels (list[Level]): Levels of a run.
        path (str): Of the image.

    Returns:
        str: The picture, for HTML.
    """
    image = mmcv.imread(path, channel_order='rgb')
    figure, axes = plt.subplots(
        len(levels),
        4,
        figsize=(12, 2.6 * len(levels)),
        squeeze=False,
        layout='constrained',
    )
    for row, level in zip(axes, levels):
        transfer, target = level.transfer, level.target
        after, title = level.source, 'no flow'
        if transfer.field is not None:
            after = transfer.sample(level.source, level.num_steps)
            title = 'after the flow'
        brought = [
            transfer.transform(x, target) for x in (level.source, after)
        ]
        maps = [intensity(x) for x in (*brought, target)]
        scale = dict(vmin=np.min(maps), vmax=np.max(maps), cmap='magma')
        row[0].imshow(image)
        for panel, map_ in zip(row[1:], maps):
            panel.imshow(map_, **scale)
        titles = (level.name, 'student', title, 'teacher')
        for panel, text in zip(row, titles):
            panel.set_title(text, fontsize=9)
            panel.axis('off')
    return embed(figure)


def intensity(maps: Tensor) -> np.ndarray:
    """Return the root mean square over channels of the first map."""
    std, mean = torch.std_mean(maps, (0, 2, 3), keepdim=True)
    standard = (maps - mean) / (std + 1e-6)
    return standard[0].square().mean(0).sqrt().cpu().numpy()
