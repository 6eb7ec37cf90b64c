"""Detections of several networks on the same images."""

import base64
import io
from typing import Any, Dict, List, Optional, Sequence, Tuple

import matplotlib
import mmcv
import torch
from mmdet.structures.bbox import bbox_overlaps
from mmengine.dataset import pseudo_collate
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmfmkt.models.distillers.teacher_input import TeacherInputAdapter

from .loading import LoadedRun

matplotlib.use('Agg')

import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.patches import Rectangle  # noqa: E402

# Kinds of boxes, compared with the detections of the first run.
COLORS = dict(
    found='#2ca02c', gained='#1f77b4', lost='#d62728', false='#ff7f0e'
)


def compare(
    loaded: List[LoadedRun], index: int, threshold: float
) -> Tuple[str, str]:
    """Draw ground truth, teacher and all runs on one validation image.

    Args:
        loaded (list[LoadedRun]): The runs; the first is the reference.
        index (int): Of the image in the first run's data set.
        threshold (float): Lowest score that is shown.

    Returns:
        tuple[str, str]: The picture for HTML, and the path of the image.
    """
    data = loaded[0].data
    found = {}
    for _, model, _ in loaded:
        if getattr(model, 'teacher', None) is not None:
            view = model.teacher_holder.raw_input_adapter(data)
            found['teacher'] = detect(
                model.teacher, data, index, threshold, view
            )
            break
    for run, model, own in loaded:
        found[run.name] = detect(model, own, index, threshold)
    path = data.get_data_info(index)['img_path']
    objects, classes = ground_truth(data, index), data.metainfo['classes']
    return draw(path, objects, found, loaded[0].run.name, classes), path


def ground_truth(dataset: Any, index: int) -> InstanceData:
    """Return ``bboxes`` and ``labels`` of the objects in an image."""
    instances = [
        x
        for x in dataset.get_data_info(index)['instances']
        if not x.get('ignore_flag')
    ]
    return InstanceData(
        bboxes=torch.tensor([x['bbox'] for x in instances]).reshape(-1, 4),
        labels=torch.tensor([x['bbox_label'] for x in instances]).long(),
    )


@torch.no_grad()
def detect(
    model: nn.Module,
    dataset: Any,
    index: int,
    threshold: float,
    view: Optional[TeacherInputAdapter] = None,
) -> InstanceData:
    """Detect objects in an image of a data set, the highest score first.

    Args:
        model (nn.Module): The detector.
        dataset (Any): The data set.
        index (int): Of the image.
        threshold (float): Lowest score that counts.
        view (TeacherInputAdapter, optional): Of a teacher, on batches of the
            data set.
    """
    batch = pseudo_collate([dataset[index]])
    sample = model.test_step(view.adapt_batch(batch) if view else batch)[0]
    found = sample.pred_instances.cpu()
    found = found[found.scores >= threshold]
    return found[found.scores.argsort(descending=True)]


def match(
    found: InstanceData, objects: InstanceData, overlap: float = 0.5
) -> List[int]:
    """Return the object of each detection, or -1; each object once.

    Args:
        found (InstanceData): Detections, the highest score first.
        objects (InstanceData): The objects.
        overlap (float): Least intersection over union.
    """
    overlaps = bbox_overlaps(found.bboxes.float(), objects.bboxes.float())
    overlaps[found.labels[:, None] != objects.labels] = 0
    matches = []
    for row in overlaps:
        best = int(row.argmax()) if len(row) else -1
        if best >= 0 and row[best] < overlap:
            best = -1
        if best >= 0:
            overlaps[:, best] = 0
        matches.append(best)
    return matches


def draw(
    path: str,
    objects: InstanceData,
    found: Dict[str, InstanceData],
    reference: str,
    classes: Sequence[str],
) -> str:
    """Draw one image with the detections of each detector.

    Args:
        path (str): Of the image.
        objects (InstanceData): The objects.
        found (dict): Detections by detector.
        reference (str): The detector that others are compared with.
        classes (Sequence[str]): Names of the classes.

    Returns:
        str: The picture, for HTML.
    """
    image = mmcv.imread(path, channel_order='rgb')
    height, width = image.shape[:2]
    known = set(match(found[reference], objects)) - {-1}
    columns = 2 if len(found) < 4 else 3
    rows = -(-(len(found) + 1) // columns)
    side = 12 / columns
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(12, rows * (side * height / width + 0.4)),
        squeeze=False,
        layout='constrained',
    )
    for panel in axes.flat:
        panel.axis('off')
    panel, *panels = axes.flat
    boxes = [
        (box, 'found', classes[label])
        for box, label in zip(objects.bboxes, objects.labels)
    ]
    draw_boxes(panel, image, 'ground truth', boxes)
    for panel, (name, detections) in zip(panels, found.items()):
        matches = match(detections, objects)
        boxes = []
        for box, label, score, index in zip(
            detections.bboxes, detections.labels, detections.scores, matches
        ):
            kind = 'found' if index in known else 'gained'
            kind = 'false' if index < 0 else kind
            # Labels of what all detectors find would only cover the image.
            text = '' if kind == 'found' else f'{classes[label]} {score:.2f}'
            boxes.append((box, kind, text))
        for index in sorted(known - set(matches)):
            label = classes[objects.labels[index]]
            boxes.append((objects.bboxes[index], 'lost', label))
        kinds = [kind for _, kind, _ in boxes]
        counts = [f'{kinds.count(x)} {x}' for x in COLORS if x in kinds]
        title = f'{name}: {", ".join(counts) or "nothing"}'
        draw_boxes(panel, image, title, boxes)
    return embed(figure)


def draw_boxes(
    axes: Any, image: Any, title: str, boxes: List[Tuple[Tensor, str, str]]
) -> None:
    """Draw an image with boxes, whose labels do not cover each other.

    Args:
        axes (Axes): The panel.
        image (ndarray): The image.
        title (str): Title of the panel.
        boxes (list[tuple]): Corners, kind and label of each box.
    """
    axes.imshow(image)
    axes.set_title(title, fontsize=10)
    axes.figure.draw_without_rendering()
    labels: List[Any] = []
    for box, kind, text in boxes:
        x, y, right, bottom = box.tolist()
        style = dict(edgecolor=COLORS[kind], linewidth=1.6, fill=False)
        style['linestyle'] = '--' if kind == 'lost' else '-'
        axes.add_patch(Rectangle((x, y), right - x, bottom - y, **style))
        if not text:
            continue
        label = axes.text(
            x,
            y,
            text,
            fontsize=8,
            color='white',
            verticalalignment='top',
            bbox=dict(facecolor=COLORS[kind], pad=0.8, edgecolor='none'),
        )
        extent = label.get_window_extent()
        while extent.count_overlaps(labels):
            y += len(image) / 100
            label.set_y(y)
            extent = label.get_window_extent()
        labels.append(extent)


def embed(figure: Any) -> str:
    """Return a matplotlib figure as the source of an HTML image."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format='jpg', dpi=100, pil_kwargs=dict(quality=85))
    plt.close(figure)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'data:image/jpeg;base64,{data}'
