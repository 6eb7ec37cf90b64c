"""ClassificationDistiller: any MMPretrain classifier under any other."""

from contextlib import ExitStack
from copy import deepcopy
from functools import partial
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import torch
from mmengine.config import ConfigDict
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmfmkt.registry import MODELS
from mmfmkt.utils import ConfigError

from .base import BaseDistiller, diagnosing
from .builder import HEAD_DEFAULTS
from .feature_transfer import TapFlow
from .head_transfer import HeadFlow
from .probing import in_eval_mode, reason_of, run_blank
from .taps import as_levels, find_module, listening

HEAD = 'head'


@MODELS.register_module()
class ClassificationDistiller(BaseDistiller):
    """Trains a classifier under a bigger one by flow matching (FM-KT).

    At the tap ``'head'`` the student's last feature flows, a map or a class
    token, and T is the student's own neck and head: what is compared are
    logits, and labels, soft or not, go through the head's own loss. What is
    deployed is the mean of the logits of K steps. Any other tap compares
    feature maps, as in detection.

    Args:
        student (str | dict): Student: a config file, a packaged config
            (``'mmpretrain::...'``) or a ``model`` dict.
        teacher (dict, optional): ``config`` (as ``student``),
            ``checkpoint`` (path, URL, or None for random weights) and,
            optionally, ``cfg_options``, ``tap`` and ``inherit`` as
            `DetectionDistiller`. None is enough for inference, and
            for the variant ``'online'``.
        variant (str): As `DetectionDistiller`. Without a teacher and
            with a ``loss_weight`` of 0, ``'online'`` is the student with a
            flow that nothing teaches.
        tap (str): ``'head'``, or the path of a module in both networks that
            gives feature maps.
        levels (Sequence[int], optional): Indices of the tapped levels, where
            the tap is not ``'head'``.
        flow (dict, optional): As `DetectionDistiller`; the defaults
            for ``'head'`` are KD, N = K = 8 and a weight of 1.
        taps (Sequence[dict], optional): Several taps in the place of one.
        report_steps (Sequence[int]): Numbers of steps of which predictions
            carry the scores as well, for StepAccuracy; the backbone runs
            once.
        data_preprocessor (dict, optional): The student's, where its config
            has none; MMPretrain's configs have it beside the model.

    Raises:
        ConfigError: If settings do not fit; the message names the config key
            to change.
        ImportError: If mmpretrain is missing.
    """

    library = 'mmpretrain'
    packages = ('mmpretrain',)
    report_steps: Sequence[int] = ()

    def __init__(
        self,
        student: Union[str, dict],
        teacher: Optional[dict] = None,
        variant: str = 'fmkt',
        tap: str = HEAD,
        levels: Optional[Sequence[int]] = None,
        flow: Optional[dict] = None,
        taps: Optional[Sequence[dict]] = None,
        report_steps: Sequence[int] = (),
        data_preprocessor: Optional[dict] = None,
    ) -> None:
        super().__init__(
            student,
            teacher,
            variant,
            tap,
            levels,
            {**HEAD_DEFAULTS, **(flow or {})},
            taps,
            data_preprocessor,
        )
        if any(not isinstance(k, int) or k < 1 for k in report_steps):
            raise ConfigError(
                'model.report_steps must be positive integers, '
                f'but is {report_steps!r}.'
            )
        self.report_steps = tuple(report_steps)

    def _build_flow(
        self,
        tap: str,
        levels: Optional[Sequence[int]],
        flow: ConfigDict,
        teacher_tap: str,
    ) -> Union[TapFlow, HeadFlow]:
        if tap != HEAD:
            return super()._build_flow(tap, levels, flow, teacher_tap)
        feature, logits = probe_classifier(self.student, 'student')
        check_trainable(self.student, feature)
        if self.teacher is not None:
            _, theirs = probe_classifier(self.teacher, 'teacher')
            if theirs.shape != logits.shape:
                raise ConfigError(
                    f'The student has {logits.shape[1]} classes and the '
                    f'teacher {theirs.shape[1]}; give model.teacher.config '
                    'one of the same classes, or tap feature maps.'
                )
        return HeadFlow(
            tap,
            feature.shape[1],
            feature.dim() == 2,
            logits.shape[1],
            self.variant,
            flow,
        )

    @property
    def head_flow(self) -> Optional[HeadFlow]:
        """The flow of the last feature, or None where none is tapped."""
        return self.flows[HEAD] if HEAD in self.flows else None

    @property
    def tap_flows(self) -> List[TapFlow]:
        """The flows between feature maps."""
        return [flow for flow in self.flows.values() if flow.tap != HEAD]

    def forward(
        self,
        inputs: Tensor,
        data_samples: Optional[List[BaseDataElement]] = None,
        mode: str = 'tensor',
    ) -> Any:
        """Run the student with the flow; arguments as the base class.

        Returns:
            Losses, data samples with predictions, or logits.
        """
        if self.head_flow is None or mode == 'loss' or not self.deploys_flow:
            return super().forward(inputs, data_samples, mode)
        with ExitStack() as tapped:
            for flow in self.tap_flows:
                self._listen(tapped, flow.tap, flow.transport)
            features = self.student.extract_feat(inputs, stage='backbone')
        head = partial(self._logits, features)
        counts = self.report_steps if mode == 'predict' else ()
        found = self.head_flow.logits(features[-1], head, counts)
        logits = found[self.head_flow.inference_steps]
        if mode == 'tensor':
            return logits
        predictions = self._predict(features, logits, data_samples)
        for k in counts:
            for sample, score in zip(predictions, found[k].softmax(1)):
                sample.set_field(score, f'pred_score_k{k}')
        return predictions

    def _after_backbone(self, features: Sequence[Tensor], last: Tensor) -> Any:
        """What the student's head reads, with another last feature."""
        features = (*features[:-1], last.to(features[-1].dtype))
        return self.student.neck(features) if self.student.neck else features

    def _logits(self, features: Sequence[Tensor], last: Tensor) -> Tensor:
        return self.student.head(self._after_backbone(features, last))

    def _predict(
        self,
        features: Sequence[Tensor],
        logits: Tensor,
        data_samples: Optional[List[BaseDataElement]],
    ) -> List[BaseDataElement]:
        """The head's own predictions from given logits."""
        with listening(self.student.head, lambda output: logits):
            return self.student.head.predict(
                self._after_backbone(features, features[-1]), data_samples
            )

    def _classify(
        self,
        features: Sequence[Tensor],
        data_samples: List[BaseDataElement],
        last: Tensor,
    ) -> Tuple[Tensor, Dict[str, Tensor]]:
        """Logits of a last feature, and the head's own losses on it."""
        head, feats = self.student.head, self._after_backbone(features, last)
        seen: List[Tensor] = []

        def listen(_module: nn.Module, args: tuple, output: Tensor) -> None:
            # What depends on the labels is not what is deployed, as the
            # logits with a margin of ArcFace are not.
            if len(args) == 1:
                seen.append(output)

        handle = head.register_forward_hook(listen)
        try:
            losses = head.loss(feats, data_samples)
        finally:
            handle.remove()
        return seen[0] if seen else head(feats), {
            # A list, such as that of the accuracy, as MMEngine reduces it.
            'loss_task' if name == 'loss' else f'task_{name}': loss
            if isinstance(loss, Tensor)
            else sum(x.mean() for x in loss)
            for name, loss in losses.items()
        }

    def _loss(
        self, inputs: Tensor, data_samples: List[BaseDataElement]
    ) -> Dict[str, Tensor]:
        if self.head_flow is None:
            return super()._loss(inputs, data_samples)
        losses: Dict[str, Tensor] = {}
        targets = self._read_teacher(inputs, data_samples)
        with self._transferring(targets, losses):
            features = self.student.extract_feat(inputs, stage='backbone')
        with self.random_stream:
            num_steps, order = self.head_flow.draw(features[-1])
        losses.update(
            self.head_flow.transfer(
                features[-1],
                targets.get(HEAD),
                labels_of(data_samples),
                partial(self._classify, features, data_samples),
                self.transfer_weight,
                num_steps,
                order,
                diagnosing(),
            )
        )
        return losses

    def _run_teacher(
        self, inputs: Tensor, data_samples: List[BaseDataElement]
    ) -> Dict[str, Any]:
        if self.head_flow is None:
            return super()._run_teacher(inputs, data_samples)
        found: Dict[str, Any] = {}
        taps = {
            flow.tap: self.teacher_taps[flow.tap][0] for flow in self.tap_flows
        }
        with ExitStack() as tapped:
            for tap, theirs in taps.items():
                module = find_module(self.teacher, theirs, 'teacher')
                tapped.enter_context(
                    listening(module, partial(found.__setitem__, tap))
                )
            logits = self.teacher(inputs, mode='tensor')
        targets = {
            tap: self._paired(tap, as_levels(x, taps[tap]))
            for tap, x in found.items()
        }
        return {**targets, HEAD: logits}


def labels_of(data_samples: List[BaseDataElement]) -> Tensor:
    """Labels of a batch: ``(B, classes)`` where they are soft, else ``(B)``.

    Args:
        data_samples (list): MMPretrain's data samples.
    """
    if 'gt_score' in data_samples[0]:
        return torch.stack([sample.gt_score for sample in data_samples])
    return torch.cat([sample.gt_label for sample in data_samples])


@torch.no_grad()
def probe_classifier(network: nn.Module, role: str) -> Tuple[Tensor, Tensor]:
    """Run a blank image: the last feature, and the logits.

    Args:
        network (nn.Module): The classifier; it is left as it was.
        role (str): What the network is, for errors.

    Raises:
        ConfigError: If it is none with a backbone and a head of one label,
            or if its own parts do not fit each other.
    """
    parts = (getattr(network, name, None) for name in ('backbone', 'head'))
    if not all(isinstance(part, nn.Module) for part in parts):
        raise ConfigError(
            f'The {role} ({type(network).__name__}) has no backbone and head '
            "that tap 'head' could part; give an ImageClassifier."
        )

    def run(image: Tensor) -> Tuple[Any, Any]:
        features = network.extract_feat(image, stage='backbone')
        logits = network.head(
            network.neck(features) if network.neck else features
        )
        if isinstance(logits, Tensor) and logits.dim() != 2:
            # Made for smaller images.
            raise ValueError(f'its head gives {tuple(logits.shape)}')
        return features[-1], logits

    try:
        (last, logits), _ = run_blank(network, run)
    except Exception as error:
        raise ConfigError(
            f'The {role} does not run as it is configured: '
            f'{reason_of(error)}. Check the channels in its config '
            '(in_channels of the head against what backbone and neck give).'
        ) from error
    check_head(network.head, logits, role)
    if not isinstance(last, Tensor) or last.dim() not in (2, 4):
        what = (
            f'{len(last)} tensors at once'
            if isinstance(last, (list, tuple))
            else f'of shape {tuple(last.shape)}'
        )
        cure = (
            'set out_type of its backbone accordingly'
            if hasattr(network.backbone, 'out_type')
            and isinstance(last, Tensor)
            else 'tap a module that gives maps, or give another network'
        )
        raise ConfigError(
            f'The last feature of the {role} must be a map (B, C, H, W) or a '
            f"class token (B, C) for the tap 'head', but is {what}; {cure}."
        )
    return last, logits


def check_head(head: nn.Module, logits: Any, role: str) -> None:
    """Insist on a head that gives the logits of one label an image.

    Args:
        head (nn.Module): The head.
        logits (Any): What it gave for a batch.
        role (str): What the network is, for errors.

    Raises:
        ConfigError: If it gives something else.
    """
    from mmpretrain.models import MultiLabelClsHead

    name = type(head).__name__
    why = ''
    if isinstance(head, MultiLabelClsHead):
        why = 'decides on each class by itself'
    elif not isinstance(logits, Tensor):
        why = f'gives a {type(logits).__name__}'
        if isinstance(logits, (list, tuple, dict)):
            why += f' of {len(logits)}'
    if why:
        raise ConfigError(
            f"The tap 'head' compares logits (B, classes) of one label an "
            f'image, but the {name} of the {role} {why}; tap a module that '
            "gives feature maps, such as tap='backbone'."
        )


def check_trainable(network: nn.Module, feature: Tensor) -> None:
    """Try the student's loss, which some heads of MMPretrain refuse.

    Args:
        network (nn.Module): The student; a copy of its head is tried.
        feature (Tensor): A last feature of one image.

    Raises:
        ConfigError: If there is no loss to train by.
    """
    from mmpretrain.structures import DataSample

    head = deepcopy(network.head).train()
    features = (feature.new_zeros(2, *feature.shape[1:]),)
    samples = [DataSample().set_gt_label(0) for _ in range(2)]
    try:
        with in_eval_mode(network):
            head.loss(
                network.neck(features) if network.neck else features, samples
            )
    except NotImplementedError as error:
        raise ConfigError(
            f'The student cannot be trained with its '
            f'{type(head).__name__}: {str(error).rstrip(".")}; set its '
            'option of distillation to False, or give another '
            'student.'
        ) from error
    except Exception:
        # Some losses want soft labels, or more than there is of a batch
        # here: what is wrong with these, if anything, training says.
        return
