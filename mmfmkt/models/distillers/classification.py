"""ClassificationDistiller: any MMPretrain classifier under any other."""

from contextlib import ExitStack
from functools import partial
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import torch
from mmengine.config import ConfigDict
from mmengine.model import BaseDataPreprocessor
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmfmkt.registry import MODELS
from mmfmkt.utils import ConfigError

from .base import BaseDistiller
from .data_preprocessor import RenormalisedPair
from .head_flow import HeadFlow
from .networks import load_model_config
from .tap_flow import TapFlow
from .taps import as_levels, find_module, listening

HEAD = 'head'
FLOW_DEFAULTS = dict(
    metric=dict(type='KDLoss'),
    num_steps=8,
    inference_steps=8,
    loss_weight=1.0)


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
            :class:`DetectionDistiller`. None is enough for inference, and
            for the variant ``'online'``.
        variant (str): As :class:`DetectionDistiller`. Without a teacher and
            with a ``loss_weight`` of 0, ``'online'`` is the student with a
            flow that nothing teaches.
        tap (str): ``'head'``, or the path of a module in both networks that
            gives feature maps.
        levels (Sequence[int], optional): Indices of the tapped levels, where
            the tap is not ``'head'``.
        flow (dict, optional): As :class:`DetectionDistiller`; the defaults
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
    packages = ('mmpretrain', )

    def __init__(self,
                 student: Union[str, dict],
                 teacher: Optional[dict] = None,
                 variant: str = 'fmkt',
                 tap: str = HEAD,
                 levels: Optional[Sequence[int]] = None,
                 flow: Optional[dict] = None,
                 taps: Optional[Sequence[dict]] = None,
                 report_steps: Sequence[int] = (),
                 data_preprocessor: Optional[dict] = None) -> None:
        student = load_model_config(student, 'model.student')
        if data_preprocessor is not None:
            student.setdefault('data_preprocessor', data_preprocessor)
        super().__init__(student, teacher, variant, tap, levels,
                         {**FLOW_DEFAULTS, **(flow or {})}, taps, None)
        if any(not isinstance(k, int) or k < 1 for k in report_steps):
            raise ConfigError('model.report_steps must be positive integers, '
                              f'but is {report_steps!r}.')
        self.report_steps = tuple(report_steps)

    def pair_preprocessors(self, student: nn.Module, teacher: nn.Module,
                           student_cfg: ConfigDict,
                           teacher_cfg: ConfigDict) -> BaseDataPreprocessor:
        return RenormalisedPair.of(student.data_preprocessor,
                                   teacher.data_preprocessor)

    def _build_flow(self, tap: str, levels: Optional[Sequence[int]],
                    flow: ConfigDict,
                    teacher_tap: str) -> Union[TapFlow, HeadFlow]:
        if tap != HEAD:
            return super()._build_flow(tap, levels, flow, teacher_tap)
        feature, logits = probe_classifier(self.student, 'student')
        if self.teacher is not None:
            _, theirs = probe_classifier(self.teacher, 'teacher')
            if theirs.shape != logits.shape:
                raise ConfigError(
                    f'The student has {logits.shape[1]} classes and the '
                    f'teacher {theirs.shape[1]}; give model.teacher.config '
                    'one of the same classes, or tap feature maps.')
        return HeadFlow(tap, feature.shape[1], feature.dim() == 2,
                        logits.shape[1], self.variant, flow)

    @property
    def head_flow(self) -> Optional[HeadFlow]:
        """The flow of the last feature, or None where none is tapped."""
        return self.flows[HEAD] if HEAD in self.flows else None

    @property
    def tap_flows(self) -> List[TapFlow]:
        """The flows between feature maps."""
        return [flow for flow in self.flows.values() if flow.tap != HEAD]

    def forward(self,
                inputs: Tensor,
                data_samples: Optional[List[BaseDataElement]] = None,
                mode: str = 'tensor',
                teacher_inputs: Optional[Tensor] = None) -> Any:
        """Run the student with the flow; arguments as the base class.

        Returns:
            Losses, data samples with predictions, or logits.
        """
        if self.head_flow is None or mode == 'loss' or not self.deploys_flow:
            return super().forward(inputs, data_samples, mode, teacher_inputs)
        with ExitStack() as tapped:
            for flow in self.tap_flows:
                self._listen(tapped, flow.tap, flow.transport)
            features = self.student.extract_feat(inputs, stage='backbone')
        head = partial(self._logits, features)
        logits = self.head_flow.logits(features[-1], head)
        if mode == 'tensor':
            return logits
        predictions = self._predict(features, logits, data_samples)
        scores = {
            k: self.head_flow.logits(features[-1], head, k).softmax(1)
            for k in self.report_steps
        }
        for i, sample in enumerate(predictions):
            for k, score in scores.items():
                sample.set_field(score[i], f'pred_score_k{k}')
        return predictions

    def _after_backbone(self, features: Sequence[Tensor],
                        last: Tensor) -> Any:
        """What the student's head reads, with another last feature."""
        features = (*features[:-1], last.to(features[-1].dtype))
        return self.student.neck(features) if self.student.neck else features

    def _logits(self, features: Sequence[Tensor], last: Tensor) -> Tensor:
        return self.student.head(self._after_backbone(features, last))

    def _predict(self, features: Sequence[Tensor], logits: Tensor,
                 data_samples: Optional[List[BaseDataElement]]
                 ) -> List[BaseDataElement]:
        """The head's own predictions from given logits."""
        with listening(self.student.head, lambda output: logits):
            return self.student.head.predict(
                self._after_backbone(features, features[-1]), data_samples)

    def _classify(self, features: Sequence[Tensor],
                  data_samples: List[BaseDataElement],
                  last: Tensor) -> Tuple[Tensor, Dict[str, Tensor]]:
        """Logits of a last feature, and the head's own losses on it."""
        seen: List[Tensor] = []
        with listening(self.student.head, seen.append):
            losses = self.student.head.loss(
                self._after_backbone(features, last), data_samples)
        return seen[0], {
            'loss_task' if name == 'loss' else f'task_{name}': loss
            for name, loss in losses.items()
        }

    def _loss(self, inputs: Tensor, data_samples: List[BaseDataElement],
              teacher_inputs: Tensor) -> Dict[str, Tensor]:
        if self.head_flow is None:
            return super()._loss(inputs, data_samples, teacher_inputs)
        losses: Dict[str, Tensor] = {}
        targets = self._read_teacher(teacher_inputs)
        with self._transferring(targets, losses):
            features = self.student.extract_feat(inputs, stage='backbone')
        losses.update(
            self.head_flow.transfer(
                features[-1],
                targets.get(HEAD),
                labels_of(data_samples),
                partial(self._classify, features, data_samples),
                weight=self.transfer_weight))
        return losses

    def _run_teacher(self, inputs: Tensor) -> Dict[str, Any]:
        if self.head_flow is None:
            return super()._run_teacher(inputs)
        found: Dict[str, Any] = {}
        taps = {flow.tap: self.teacher_taps[flow.tap][0]
                for flow in self.tap_flows}
        with ExitStack() as tapped:
            for tap, theirs in taps.items():
                module = find_module(self.teacher, theirs, 'teacher')
                tapped.enter_context(
                    listening(module, partial(found.__setitem__, tap)))
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
        network (nn.Module): The classifier; its mode is left as it was.
        role (str): What the network is, for errors.

    Raises:
        ConfigError: If it is none with a backbone and a head, or if its own
            parts do not fit each other.
    """
    if getattr(network, 'head', None) is None or not hasattr(
            network, 'extract_feat'):
        raise ConfigError(
            f"The {role} ({type(network).__name__}) has no backbone and head "
            "that tap 'head' could part; give an ImageClassifier.")
    training = network.training
    network.eval()
    try:
        size = image_size(network)
        features = network.extract_feat(
            torch.zeros(1, 3, *size), stage='backbone')
        last = features[-1]
        logits = network.head(
            network.neck(features) if network.neck else features)
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).splitlines() or ['an assertion'])[0]
        raise ConfigError(
            f'The {role} does not run as it is configured: '
            f'{reason.rstrip(".")}. Check '
            'the channels in its config (in_channels of the head against '
            'what backbone and neck give).') from error
    finally:
        network.train(training)
    if not isinstance(last, Tensor) or last.dim() not in (2, 4):
        raise ConfigError(
            f"The last feature of the {role} must be a map (B, C, H, W) or a "
            'class token (B, C) for the tap \'head\'; set out_type of its '
            'backbone accordingly.')
    return last, logits


def image_size(network: nn.Module) -> Tuple[int, int]:
    """The size of images that a network takes; 64 where any will do.

    Args:
        network (nn.Module): The classifier.
    """
    backbone = network.backbone
    size = getattr(backbone, 'img_size', None)
    if size is None:
        patches = getattr(backbone, 'patch_embed', None)
        size = getattr(patches, 'init_input_size', None) or 64
    return (size, size) if isinstance(size, int) else tuple(size)
