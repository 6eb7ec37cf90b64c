"""A look at trained detectors: what they find, and what their maps are."""

from copy import deepcopy
from typing import Any, Dict, List, NamedTuple, Optional

import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, DefaultScope
from torch import Tensor, nn

from mmfmkt.models.distillers.networks import without_weights
from mmfmkt.models.distillers.taps import read_taps
from mmfmkt.models.distillers.teacher_view import TeacherInputAdapter
from mmfmkt.models.flows import Transfer, Walk
from mmfmkt.models.flows.inspection import look
from mmfmkt.registry import MODELS
from mmfmkt.utils.checkpoints import load_checkpoint

from .runs import WorkDir

PLACES = 4096
SHOWN_PLACES = 40


class Found(NamedTuple):
    """Detections of an image, the surest first, in its own pixels.

    Attributes:
        boxes (Tensor): ``(N, 4)``, corners.
        labels (Tensor): ``(N, )``.
        scores (Tensor): ``(N, )``.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor


class Levels(NamedTuple):
    """Maps of one level of a tap, of some images.

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


def load_model(run: WorkDir, teacher: bool = True) -> nn.Module:
    """Build what a run trains, with its latest weights.

    Args:
        run (WorkDir): The run; it has a checkpoint.
        teacher (bool): Whether a distiller is to have its teacher.
    """
    model = deepcopy(run.config.model)
    if 'student' in model and not teacher:
        model.teacher = None
    if 'data_preprocessor' in run.config:
        model.setdefault('data_preprocessor', run.config.data_preprocessor)
    if model.get('teacher') is not None:
        model.teacher.pop('cache', None)
    scope = run.config.get('default_scope')
    with DefaultScope.overwrite_default_scope(scope):
        built = MODELS.build(
            model if 'student' in model else without_weights(model)
        )
    state = load_checkpoint(str(run.checkpoint))
    built.load_state_dict(state.get('state_dict', state), strict=False)
    return built.eval()


def validation_data(run: WorkDir) -> Any:
    """The data set that a run is evaluated on."""
    loader = run.config.get('test_dataloader') or run.config.val_dataloader
    scope = run.config.get('default_scope')
    with DefaultScope.overwrite_default_scope(scope):
        dataset = DATASETS.build(deepcopy(loader.dataset))
    dataset.full_init()
    return dataset


def spread(count: int, wanted: int) -> List[int]:
    """Indices of some of many, evenly spread."""
    wanted = min(count, wanted)
    return [i * count // wanted for i in range(wanted)]


def truth(dataset: Any, index: int) -> Found:
    """What is to be found in an image."""
    instances = [
        x
        for x in dataset.get_data_info(index)['instances']
        if not x.get('ignore_flag')
    ]
    boxes = torch.tensor([x['bbox'] for x in instances]).reshape(-1, 4)
    labels = torch.tensor([x['bbox_label'] for x in instances])
    return Found(boxes, labels.long(), torch.ones(len(instances)))


@torch.no_grad()
def detect(
    model: nn.Module,
    dataset: Any,
    index: int,
    least: float,
    view: Optional[TeacherInputAdapter] = None,
) -> Found:
    """What a detector finds in an image of a data set.

    Args:
        model (nn.Module): The detector.
        dataset (Any): The data set.
        index (int): Of the image.
        least (float): Lowest score that counts.
        view (TeacherInputAdapter, optional): Of a teacher, on batches of the
            data set.
    """
    batch = pseudo_collate([dataset[index]])
    sample = model.test_step(view.adapt_batch(batch) if view else batch)[0]
    found = sample.pred_instances
    kept = found.scores >= least
    order = found.scores[kept].argsort(descending=True)
    return Found(
        *(
            x[kept][order].cpu()
            for x in (found.bboxes, found.labels, found.scores)
        )
    )


def matched(found: Found, wanted: Found, overlap: float = 0.5) -> List[int]:
    """For each detection the object that it is, or -1; each object once.

    Args:
        found (Found): Detections, the surest first.
        wanted (Found): The objects.
        overlap (float): Least intersection over union.
    """
    if not len(found.boxes) or not len(wanted.boxes):
        return [-1] * len(found.boxes)
    shares = overlaps(found.boxes, wanted.boxes)
    shares[found.labels[:, None] != wanted.labels[None]] = 0
    matches = []
    for row in shares:
        best = int(row.argmax())
        if row[best] >= overlap:
            shares[:, best] = 0
            matches.append(best)
        else:
            matches.append(-1)
    return matches


def overlaps(ours: Tensor, theirs: Tensor) -> Tensor:
    """Intersection over union of boxes, ``(N, M)``."""
    low = torch.maximum(ours[:, None, :2], theirs[None, :, :2])
    high = torch.minimum(ours[:, None, 2:], theirs[None, :, 2:])
    inner = (high - low).clamp(min=0).prod(-1)
    areas = [
        (x[:, 2:] - x[:, :2]).clamp(min=0).prod(-1) for x in (ours, theirs)
    ]
    return inner / (areas[0][:, None] + areas[1][None] - inner).clamp(min=1e-9)


@torch.no_grad()
def levels_of(
    distiller: nn.Module, dataset: Any, indices: List[int]
) -> List[Levels]:
    """The maps of a distiller's taps, of both networks, level by level.

    Args:
        distiller (nn.Module): With its teacher, in eval mode.
        dataset (Any): The data set.
        indices (list[int]): Of the images; those of other sizes than the
            first's are left out.
    """
    data = pseudo_collate([dataset[i] for i in indices])
    shapes = [tuple(x.shape) for x in data['inputs']]
    same = [i for i, shape in enumerate(shapes) if shape == shapes[0]]
    data = {key: [x[i] for i in same] for key, x in data.items()}
    data = distiller.data_preprocessor(data, False)
    distiller.set_teacher_dataset(dataset)
    inputs, samples = data['inputs'], data['data_samples']
    targets = distiller.read_teacher(inputs, samples)
    found: Dict[str, Any] = {}

    for flow in distiller.feature_transfers:
        (found[flow.tap],) = read_taps(
            distiller.student, [flow.tap], inputs, 'student', samples
        )
    levels = []
    for flow in distiller.feature_transfers:
        for level, transfer in flow.items():
            source = found[flow.tap][int(level)].float()
            target = targets[flow.tap][int(level)].float()
            height, width = source.shape[-2:]
            levels.append(
                Levels(
                    f'{flow.tap}.{level}',
                    transfer,
                    source,
                    target[..., :height, :width],
                    flow.inference_steps,
                )
            )
    return levels


@torch.no_grad()
def along(level: Levels) -> Dict[str, List[float]]:
    """Distance and CKA to the teacher: student, each step, deployed."""
    transfer, target = level.transfer, level.target
    seen = look(transfer, level.source, target, level.num_steps)
    features = [level.source, *seen.estimates]
    if seen.estimates:
        features.append(sum(seen.estimates) / len(seen.estimates))
    outputs = [transfer.transform(x, target) for x in features]
    return dict(
        distance=[seen.before, *seen.each, seen.after]
        if seen.estimates
        else [seen.before, seen.before],
        cka=[linear_cka(x, target) for x in outputs]
        * (1 if seen.estimates else 2),
    )


def places(maps: Tensor, most: int = PLACES) -> Tensor:
    """Features by place, ``(P, C)``, of very many some, evenly spread."""
    flat = maps.movedim(1, -1).flatten(0, -2)
    return flat[torch.tensor(spread(len(flat), most))]


def linear_cka(ours: Tensor, theirs: Tensor) -> float:
    """Linear centred kernel alignment of maps (arXiv 1905.00414, Sec. 3).

    Args:
        ours (Tensor): ``(B, C, H, W)``.
        theirs (Tensor): ``(B, C', H, W)``.
    """
    x, y = (places(z).double() for z in (ours, theirs))
    x, y = x - x.mean(0), y - y.mean(0)
    norms = (x.T @ x).norm() * (y.T @ y).norm()
    return float((y.T @ x).norm() ** 2 / norms.clamp(min=1e-12))


@torch.no_grad()
def paths(level: Levels) -> Optional[dict]:
    """Features of some places on their way to the teacher's, in a plane.

    The plane is that of the first two principal components of the teacher's
    features, into whose space T brings the states.

    Args:
        level (Levels): A level with a flow.
    """
    transfer = level.transfer
    if transfer.field is None:
        return None
    states, state = [level.source], level.source
    for step in Walk(transfer.field, level.source, level.num_steps):
        state = state - step.velocity / level.num_steps
        states.append(state)
    theirs = places(level.target).double()
    mean = theirs.mean(0)
    _, values, axes = torch.linalg.svd(theirs - mean, full_matrices=False)
    plane = axes[:2].T
    brought = [transfer.transform(x, level.target) for x in states]
    few = [places(x, SHOWN_PLACES).double() for x in (*brought, level.target)]
    flat = [((x - mean) @ plane).tolist() for x in few]
    share = (values**2 / (values**2).sum())[:2]
    return dict(states=flat[:-1], targets=flat[-1], share=share.tolist())
