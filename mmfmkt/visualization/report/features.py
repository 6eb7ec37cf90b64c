"""Feature maps of student and teacher, and sampling of the flow."""

from typing import Any, Dict, List, NamedTuple, Optional

import mmcv
import numpy as np
import torch
from matplotlib.figure import Figure
from mmengine.dataset import pseudo_collate
from torch import Tensor, nn

from mmfmkt.models.distillers.taps import as_levels, read_taps
from mmfmkt.models.flows import EulerSampler, Transfer
from mmfmkt.models.flows.inspection import measure_flow

from .detections import to_data_url

# Maximum number of spatial positions in CKA (centered kernel alignment) and
# PCA, and in the plot of trajectories.
MAX_POSITIONS = 4096
MAX_SHOWN_POSITIONS = 40


class LevelFeatures(NamedTuple):
    """Feature maps of one level of a tap for a batch of images.

    Attributes:
        name (str): ``<tap>.<level>``.
        transfer (Transfer): Transfer module of the level, with its flow.
        source (Tensor): Student's feature maps, ``(B, C, H, W)``.
        target (Tensor): Teacher's feature maps, ``(B, C', H, W)``.
        num_steps (int): Number of sampling steps K.
    """

    name: str
    transfer: Transfer
    source: Tensor
    target: Tensor
    num_steps: int


def spaced_indices(length: int, count: int) -> List[int]:
    """Return up to ``count`` evenly spaced indices of a sequence."""
    count = min(length, count)
    return [i * length // count for i in range(count)]


@torch.no_grad()
def read_features(
    distiller: nn.Module, dataset: Any, indices: List[int]
) -> List[LevelFeatures]:
    """Read the tapped feature maps of student and teacher.

    Args:
        distiller (nn.Module): Distiller with its teacher, in eval mode.
        dataset (Any): The dataset.
        indices (list[int]): Indices of the images. Images of another size
            than the first one are skipped.
    """
    samples = [dataset[i] for i in indices]
    shape = samples[0]['inputs'].shape
    batch = pseudo_collate([x for x in samples if x['inputs'].shape == shape])
    batch = distiller.data_preprocessor(batch, False)
    distiller.set_teacher_dataset(dataset)
    inputs, samples = batch['inputs'], batch['data_samples']
    targets = distiller.read_teacher(inputs, samples)
    levels = []
    for transfers in distiller.feature_transfers:
        tap, num_steps = transfers.tap, transfers.inference_steps
        (output,) = read_taps(
            distiller.student, [tap], inputs, 'student', samples
        )
        sources = as_levels(output, tap)
        for level, transfer in transfers.items():
            source = sources[int(level)].float()
            target = targets[tap][int(level)].float()
            target = transfers.crop(target, source, level)
            levels.append(
                LevelFeatures(
                    f'{tap}.{level}', transfer, source, target, num_steps
                )
            )
    return levels


@torch.no_grad()
def measure_steps(level: LevelFeatures) -> Dict[str, List[float]]:
    """Return distillation loss and CKA with the teacher's feature.

    The keys are those of `curves.STEP_STATS`. Each list has K + 2 values: for
    the student's feature, the K estimates, and their mean, which is deployed.
    """
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


def sample_positions(maps: Tensor, count: int = MAX_POSITIONS) -> Tensor:
    """Return the features at up to ``count`` positions, shape ``(P, C)``."""
    flat = maps.movedim(1, -1).flatten(0, -2)
    return flat[torch.tensor(spaced_indices(len(flat), count))].double()


def linear_cka(student: Tensor, teacher: Tensor) -> float:
    """Return linear centered kernel alignment (arXiv 1905.00414, Sec. 3).

    Args:
        student (Tensor): Feature maps ``(B, C, H, W)``.
        teacher (Tensor): Feature maps ``(B, C', H, W)``.
    """
    features = (sample_positions(maps) for maps in (student, teacher))
    x, y = (x - x.mean(0) for x in features)
    norms = (x.T @ x).norm() * (y.T @ y).norm()
    return float((y.T @ x).norm() ** 2 / norms.clamp(min=1e-12))


@torch.no_grad()
def sampling_trajectories(level: LevelFeatures) -> Optional[dict]:
    """Project the sampler's states at some positions onto a plane.

    The transform T maps the states into the teacher's space. The plane has
    the first two principal components of the teacher's features.

    Args:
        level (LevelFeatures): Features of the level.

    Returns:
        dict, optional: ``states`` ``(K + 1, P, 2)`` and ``targets``
        ``(P, 2)`` as nested lists, and ``explained_variance`` of the two
        components; None for a level without a flow.
    """
    transfer = level.transfer
    if transfer.field is None:
        return None
    states = [level.source]
    for step in EulerSampler(transfer.field, level.source, level.num_steps):
        states.append(states[-1] - step.velocity / level.num_steps)
    teacher = sample_positions(level.target)
    mean = teacher.mean(0)
    _, values, axes = torch.linalg.svd(teacher - mean, full_matrices=False)
    transformed = [transfer.transform(x, level.target) for x in states]
    *states, targets = [
        (sample_positions(x, MAX_SHOWN_POSITIONS) - mean) @ axes[:2].T
        for x in (*transformed, level.target)
    ]
    variance = values.square() / values.square().sum()
    return dict(
        states=[x.tolist() for x in states],
        targets=targets.tolist(),
        explained_variance=variance[:2].tolist(),
    )


@torch.no_grad()
def draw_maps(levels: List[LevelFeatures], path: str) -> str:
    """Draw the feature maps of the first image, one row per level.

    The columns are the image, the student's feature, the feature after the
    flow and the teacher's feature. Intensity is the root mean square over
    the channels of the standardized map, on one scale per level.

    Args:
        levels (list[LevelFeatures]): Levels of a run.
        path (str): Path of the image.

    Returns:
        str: The figure as a data URL.
    """
    image = mmcv.imread(path, channel_order='rgb')
    figure = Figure((12, 2.6 * len(levels)), layout='constrained')
    axes = figure.subplots(len(levels), 4, squeeze=False)
    for row, level in zip(axes, levels):
        transfer, target = level.transfer, level.target
        output, title = level.source, 'no flow'
        if transfer.field is not None:
            output = transfer.sample(level.source, level.num_steps)
            title = 'after the flow'
        transformed = [
            transfer.transform(x, target) for x in (level.source, output)
        ]
        maps = [intensity(x) for x in (*transformed, target)]
        scale = dict(vmin=np.min(maps), vmax=np.max(maps), cmap='magma')
        row[0].imshow(image)
        for panel, map_ in zip(row[1:], maps):
            panel.imshow(map_, **scale)
        titles = (level.name, 'student', title, 'teacher')
        for panel, text in zip(row, titles):
            panel.set_title(text, fontsize=9)
            panel.axis('off')
    return to_data_url(figure)


def intensity(maps: Tensor) -> np.ndarray:
    """Return the intensity of the first image's map, shape ``(H, W)``.

    It is the root mean square over the standardized channels.
    """
    std, mean = torch.std_mean(maps, (0, 2, 3), keepdim=True)
    standardized = (maps - mean) / (std + 1e-6)
    return standardized[0].square().mean(0).sqrt().cpu().numpy()
