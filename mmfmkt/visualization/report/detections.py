"""Figures of the detections of several networks on the same images."""

import base64
import io
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import mmcv
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from mmdet.structures.bbox import bbox_overlaps
from mmengine.dataset import pseudo_collate
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmfmkt.models.distillers.shared_classes import ClassOutputs
from mmfmkt.models.distillers.teacher import TeacherHolder
from mmfmkt.models.distillers.teacher_input import TeacherInputAdapter
from mmfmkt.utils import ConfigError

from .loading import LoadedRun

# Colors of boxes. correct: detected by this and the first run; gained: missed
# by the first run; lost: detected only by the first run; wrong: false
# positive.
COLORS = dict(
    correct='#2ca02c', gained='#1f77b4', lost='#d62728', wrong='#ff7f0e'
)
COLUMNS = 2  # panels of a figure side by side
WIDTH = 14  # width of a figure in inches


class Box(NamedTuple):
    """A box in a figure.

    Attributes:
        corners (Tensor): ``(4, )``, x1, y1, x2, y2 in pixels.
        kind (str): A key of ``COLORS``.
        label (str): Text beside the box; may be empty.
    """

    corners: Tensor
    kind: str
    label: str


def draw_detections(
    loaded: List[LoadedRun], index: int, threshold: float
) -> Tuple[str, str]:
    """Draw ground truth and detections of teacher and runs on one image.

    Args:
        loaded (list[LoadedRun]): Runs; the first is the reference.
        index (int): Index of the image in the first run's dataset.
        threshold (float): Minimum score.

    Returns:
        tuple[str, str]: The figure as a data URL, and the path of the image.
    """
    dataset = loaded[0].dataset
    detections = {}
    for _, model, _ in loaded:
        holder = getattr(model, 'teacher_holder', None)
        if holder is not None and (labels := shared_labels(holder, dataset)):
            # Raw input is not yet processed by the data preprocessor.
            adapter = holder.raw_input_adapter(dataset)
            detected = detect(
                holder.network, dataset, index, threshold, adapter
            )
            is_shared = [int(x) in labels for x in detected.labels]
            detected = detected[torch.tensor(is_shared, dtype=torch.bool)]
            detected.labels.apply_(labels.__getitem__)
            detections['teacher'] = detected
            break
    for run, model, run_dataset in loaded:
        detections[run.name] = detect(model, run_dataset, index, threshold)
    path = dataset.get_data_info(index)['img_path']
    objects = ground_truth(dataset, index)
    classes = dataset.metainfo['classes']
    reference = set(match(detections[loaded[0].run.name], objects)) - {-1}
    panels = {
        'ground truth': [
            Box(box, 'correct', classes[label])
            for box, label in zip(objects.bboxes, objects.labels)
        ]
    }
    for name, detected in detections.items():
        boxes = boxes_to_draw(detected, objects, reference, classes)
        kinds = [box.kind for box in boxes]
        counts = [f'{kinds.count(x)} {x}' for x in COLORS if x in kinds]
        panels[f'{name}: {", ".join(counts) or "no detections"}'] = boxes
    return draw_panels(mmcv.imread(path, channel_order='rgb'), panels), path


def shared_labels(holder: TeacherHolder, dataset: Any) -> Dict[int, int]:
    """Return the student's labels by the teacher's, for shared classes.

    The dict is empty if the teacher has no classes, or if they
    cannot be matched to those of the data set.
    """
    network: Any = holder.network
    head = getattr(getattr(network, 'roi_head', network), 'bbox_head', None)
    if isinstance(head, nn.ModuleList):  # of a cascade
        head = head[-1]
    classes = getattr(head, 'num_classes', 0) or max(
        (
            module.num_classes
            for module in network.modules()
            if isinstance(getattr(module, 'num_classes', None), int)
        ),
        default=0,
    )
    if holder.is_backbone or not classes:
        return {}
    counts = len(dataset.metainfo['classes']), classes
    student, teacher = (ClassOutputs(x, x) for x in counts)
    try:
        matched, _ = holder.match_classes((student, teacher), dataset)
    except ConfigError:
        return {}
    return {x: label for label, x in enumerate(matched) if x is not None}


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
    adapter: Optional[TeacherInputAdapter] = None,
) -> InstanceData:
    """Return a detector's detections on an image, sorted by score.

    Args:
        model (nn.Module): The detector.
        dataset (Any): The dataset.
        index (int): Index of the image.
        threshold (float): Minimum score.
        adapter (TeacherInputAdapter, optional): Converts the batch for a
            teacher.
    """
    batch = pseudo_collate([dataset[index]])
    if adapter is not None:
        batch = adapter.adapt_batch(batch)
    # Panoptic segmentation may output no boxes.
    none = InstanceData(
        bboxes=torch.zeros(0, 4),
        labels=torch.zeros(0, dtype=torch.long),
        scores=torch.zeros(0),
    )
    detected = model.test_step(batch)[0].get('pred_instances', none).cpu()
    detected = detected[detected.scores >= threshold]
    return detected[detected.scores.argsort(descending=True)]


def match(
    detected: InstanceData, objects: InstanceData, min_iou: float = 0.5
) -> List[int]:
    """Match each detection with the object of its class that overlaps most.

    Each object is matched once, with the detection of the highest score.

    Args:
        detected (InstanceData): Detections, sorted by score.
        objects (InstanceData): Ground truth.
        min_iou (float): Minimum intersection over union.

    Returns:
        list[int]: Index of the object of each detection, or -1.
    """
    overlaps = bbox_overlaps(detected.bboxes.float(), objects.bboxes.float())
    overlaps[detected.labels[:, None] != objects.labels] = 0
    matches = []
    for row in overlaps:
        best = int(row.argmax()) if len(row) else -1
        if best >= 0 and row[best] < min_iou:
            best = -1
        if best >= 0:
            overlaps[:, best] = 0
        matches.append(best)
    return matches


def boxes_to_draw(
    detected: InstanceData,
    objects: InstanceData,
    reference: set,
    classes: Sequence[str],
) -> List[Box]:
    """Return boxes that compare detections with a reference detector.

    Args:
        detected (InstanceData): Detections, sorted by score.
        objects (InstanceData): Ground truth.
        reference (set[int]): Indices of the objects that the reference
            detects.
        classes (Sequence[str]): Names of the classes.
    """
    matches = match(detected, objects)
    boxes = []
    for corners, label, score, index in zip(
        detected.bboxes, detected.labels, detected.scores, matches
    ):
        if index in reference:
            # No label, since it would hide a part of the image.
            boxes.append(Box(corners, 'correct', ''))
            continue
        kind = 'wrong' if index < 0 else 'gained'
        boxes.append(Box(corners, kind, f'{classes[label]} {score:.2f}'))
    for index in sorted(reference - set(matches)):
        label = classes[objects.labels[index]]
        boxes.append(Box(objects.bboxes[index], 'lost', label))
    return boxes


def draw_panels(image: Any, panels: Dict[str, List[Box]]) -> str:
    """Draw an image once for each set of boxes.

    Args:
        image (ndarray): RGB image.
        panels (dict): Boxes by title.

    Returns:
        str: The figure as a data URL.
    """
    height, width = image.shape[:2]
    rows = -(-len(panels) // COLUMNS)
    panel_height = WIDTH / COLUMNS * height / width + 0.5
    figure = Figure((WIDTH, rows * panel_height), layout='constrained')
    axes = figure.subplots(rows, COLUMNS, squeeze=False)
    for panel in axes.flat:
        panel.axis('off')
    for panel, (title, boxes) in zip(axes.flat, panels.items()):
        panel.imshow(image)
        # Labels of boxes at the top are above the image.
        panel.set_title(title, fontsize=11, pad=16)
        for box in boxes:
            draw_box(panel, box)
    return to_data_url(figure)


def draw_box(axes: Any, box: Box) -> None:
    """Draw a box with its label.

    Args:
        axes (Axes): The panel, with its image.
        box (Box): The box.
    """
    x, y, x2, y2 = box.corners.tolist()
    axes.add_patch(
        Rectangle(
            (x, y),
            x2 - x,
            y2 - y,
            edgecolor=COLORS[box.kind],
            linestyle='--' if box.kind == 'lost' else '-',
            linewidth=1.8,
            fill=False,
        )
    )
    if box.label:
        # Labels of boxes on the right side end at their right edge.
        is_right = x + x2 > sum(axes.get_xlim())
        axes.text(
            x2 if is_right else x,
            y,
            box.label,
            horizontalalignment='right' if is_right else 'left',
            fontsize=8,
            color='white',
            verticalalignment='bottom',
            bbox=dict(facecolor=COLORS[box.kind], pad=1, edgecolor='none'),
            in_layout=False,
        )


def to_data_url(figure: Figure) -> str:
    """Return a figure as a data URL."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format='jpg', dpi=100, pil_kwargs=dict(quality=85))
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'data:image/jpeg;base64,{data}'
