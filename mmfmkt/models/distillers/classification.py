"""Distiller for any pair of MMPretrain classifiers."""

from functools import partial
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import torch
from mmengine.config import ConfigDict
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmfmkt.registry import MODELS
from mmfmkt.utils import ConfigError
from mmfmkt.utils.schema import PositiveInt, check_value

from .base import BaseDistiller
from .builder import HEAD_DEFAULTS, FeaturePair
from .feature_transfer import FeatureTransfer, should_diagnose
from .head_transfer import HeadTransfer
from .probing import run_on_dummy_inputs
from .shared_classes import ClassOutputs
from .taps import HEAD, output_hooks


@MODELS.register_module()
class ClassificationDistiller(BaseDistiller):
    """Distillation of a classifier by flow matching (FM-KT).

    The tap ``'head'`` is the feature before neck and head: the last output of
    the backbone, a map or a class token. The flow starts from this feature,
    and T is the student's neck and head. The distillation loss compares
    logits, and the head computes the task loss of hard or soft labels. The
    deployed prediction is the mean of the logits of K steps. At any other
    tap, feature maps are compared, as in detection.

    Args:
        student (str | dict): A config file, a packaged config
            (``'mmpretrain::...'``) or a ``model`` dict.
        teacher (dict, optional): See `DetectionDistiller`.
        variant (str): See `DetectionDistiller`. ``'online'`` with a
            ``loss_weight`` of 0 trains student and flow by the task loss
            alone.
        tap (str): ``'head'`` (the feature before neck and head), or the path
            of a module in both networks that outputs feature maps.
        levels (Sequence[int], optional): Indices of the tapped levels, if
            the tap is not ``'head'``.
        flow (dict, optional): See `DetectionDistiller`. The defaults differ
            for the tap ``'head'``: KD, N = K = 8 and a weight of 1.
        taps (Sequence[dict], optional): Several taps instead of one.
        task_loss (bool): See `DetectionDistiller`; not for the tap
            ``'head'``.
        report_steps (Sequence[int]): Further values of K for which
            predictions contain scores, which StepAccuracy evaluates. The
            backbone runs once for all K.
        data_preprocessor (dict, optional): Preprocessor of the student, if
            its config has none. MMPretrain's configs have it at the top
            level.

    Raises:
        ConfigError: If a setting is invalid; the message names its key.
        ImportError: If mmpretrain is missing.
    """

    library = 'mmpretrain'
    packages = ('mmpretrain',)
    default_tap = HEAD
    head_defaults = HEAD_DEFAULTS
    report_steps: Sequence[int] = ()

    def __init__(
        self, *args: Any, report_steps: Sequence[int] = (), **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        check_value(report_steps, Sequence[PositiveInt], 'model.report_steps')
        self.report_steps = tuple(report_steps)
        taps = [transfer.tap for transfer in self.feature_transfers]
        late = [tap for tap in taps if not tap.startswith('backbone')]
        if self.head_transfer is not None and late:
            raise ConfigError(
                "model.taps: with the tap 'head', which runs neck and head "
                'once for each step, other taps must be in the backbone, got '
                f'{late[0]!r}.'
            )

    def _build_transfer(
        self,
        tap: str,
        levels: Optional[Sequence[int]],
        flow: ConfigDict,
        teacher_tap: str,
    ) -> Union[FeatureTransfer, HeadTransfer]:
        if tap != HEAD:
            return super()._build_transfer(tap, levels, flow, teacher_tap)
        feature, logits = probe_classifier(self.student, 'student')
        class_outputs = None
        if self.teacher is not None:
            _, teacher_logits = probe_classifier(self.teacher, 'teacher')
            counts = logits.shape[1], teacher_logits.shape[1]
            class_outputs = tuple(ClassOutputs(x, x) for x in counts)
            self.teacher_holder.taps[tap] = (HEAD, {})
        pair = FeaturePair(
            feature.shape[1],
            logits.shape[1],
            is_vector=feature.dim() == 2,
            space='logits',
        )
        transfer = HeadTransfer(tap, pair, self.variant, flow)
        transfer.class_outputs = class_outputs
        return transfer

    @property
    def head_transfer(self) -> Optional[HeadTransfer]:
        """The transfer of the feature before neck and head, or None."""
        return self.flows[HEAD] if HEAD in self.flows else None

    def forward(
        self,
        inputs: Tensor,
        data_samples: Optional[List[BaseDataElement]] = None,
        mode: str = 'tensor',
    ) -> Any:
        """Run the student with the flow; see the base class.

        Returns:
            Losses, data samples with predictions, or logits.
        """
        if mode == 'loss' or not self._deploys_head_flow:
            return super().forward(inputs, data_samples, mode)
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        steps = self.head_transfer.inference_steps
        return self._deployed_logits(inputs)[1][steps]

    @property
    def _deploys_head_flow(self) -> bool:
        """Whether the deployed logits are the mean over the flow's steps."""
        return self.head_transfer is not None and self.deploys_flow

    def _deployed_logits(
        self, inputs: Tensor, counts: Sequence[int] = ()
    ) -> Tuple[Sequence[Tensor], Dict[int, Tensor]]:
        """Return the outputs of the backbone, and the logits by K.

        Args:
            inputs (Tensor): Normalized images ``(B, C, H, W)``.
            counts (Sequence[int]): Values of K besides ``inference_steps``.
        """
        with self._deployed_flows():
            features = self.student.extract_feat(inputs, stage='backbone')
        counts = self.head_transfer.inference_steps, *counts
        classify = partial(self._logits, features)
        logits = self.head_transfer.flow.logits(features[-1], counts, classify)
        return features, logits

    def predict(
        self,
        inputs: Tensor,
        data_samples: Optional[List[BaseDataElement]] = None,
        **kwargs: Any,
    ) -> Any:
        if not self._deploys_head_flow:
            return super().predict(inputs, data_samples, **kwargs)
        counts = self.report_steps
        features, logits_by_steps = self._deployed_logits(inputs, counts)
        logits = logits_by_steps[self.head_transfer.inference_steps]
        # The student's head predicts from the mean of the logits.
        with output_hooks(self.student, [(HEAD, lambda _: logits)]):
            predictions = self.student.head.predict(
                self._after_backbone(features, features[-1]),
                data_samples,
                **kwargs,
            )
        for k in counts:
            scores = logits_by_steps[k].softmax(1)
            for sample, score in zip(predictions, scores):
                sample.set_field(score, f'pred_score_k{k}')
        return predictions

    def read_taps(
        self,
        taps: Sequence[str],
        inputs: Tensor,
        data_samples: List[BaseDataElement],
    ) -> List[Any]:
        if not (self._deploys_head_flow and HEAD in taps):
            return super().read_taps(taps, inputs, data_samples)
        others = [tap for tap in taps if tap != HEAD]
        outputs: Dict[str, Any] = {HEAD: self(inputs)}
        if others:
            read = super().read_taps(others, inputs, data_samples)
            outputs.update(zip(others, read))
        return [outputs[tap] for tap in taps]

    def _after_backbone(self, features: Sequence[Tensor], last: Tensor) -> Any:
        """Return the input of the student's head.

        Args:
            features (Sequence[Tensor]): Outputs of the backbone.
            last (Tensor): Feature that replaces the last output.
        """
        features = (*features[:-1], last.to(features[-1].dtype))
        return after_neck(self.student, features)

    def _logits(self, features: Sequence[Tensor], last: Tensor) -> Tensor:
        """Return the student's logits; arguments as `_after_backbone`."""
        return self.student.head(self._after_backbone(features, last))

    def _classify(
        self,
        features: Sequence[Tensor],
        data_samples: List[BaseDataElement],
        last: Tensor,
    ) -> Tuple[Tensor, Dict[str, Tensor]]:
        """Return the student's logits and task losses.

        Args:
            features, last: As `_after_backbone`.
            data_samples (list): Data samples with labels.
        """
        head, feats = self.student.head, self._after_backbone(features, last)
        recorded: List[Tensor] = []

        def record(_module: nn.Module, args: tuple, output: Tensor) -> None:
            # With further arguments, the head returns logits that depend on
            # the labels, such as those with the margin of ArcFace. They are
            # not deployed.
            if len(args) == 1:
                recorded.append(output)

        handle = head.register_forward_hook(record)
        try:
            losses = head.loss(feats, data_samples)
        finally:
            handle.remove()
        return recorded[0] if recorded else head(feats), {
            # Lists of tensors are reduced as by MMEngine's parse_losses.
            'loss_task' if name == 'loss' else f'task_{name}': loss
            if isinstance(loss, Tensor)
            else sum(x.mean() for x in loss)
            for name, loss in losses.items()
        }

    def loss(
        self, inputs: Tensor, data_samples: List[BaseDataElement]
    ) -> Dict[str, Tensor]:
        transfer = self.head_transfer
        if transfer is None:
            losses = super().loss(inputs, data_samples)
            if 'loss' in losses:  # MMEngine's name of the sum of all losses
                losses['loss_task'] = losses.pop('loss')
            return losses
        losses: Dict[str, Tensor] = {}
        targets = self.read_teacher(inputs, data_samples)
        with self._training_flows(targets, losses):
            features = self.student.extract_feat(inputs, stage='backbone')
        with self.random_stream:
            num_steps, permutation = transfer.draw(features[-1])
        head_losses = transfer(
            features[-1],
            targets.get(HEAD),
            labels_of(data_samples),
            partial(self._classify, features, data_samples),
            self.transfer_weight,
            num_steps,
            permutation,
            should_diagnose(),
        )
        return {**losses, **head_losses}


def labels_of(data_samples: List[BaseDataElement]) -> Tensor:
    """Return labels ``(B, )``, or soft labels ``(B, classes)``.

    Args:
        data_samples (list): Data samples of MMPretrain.
    """
    if 'gt_score' in data_samples[0]:
        return torch.stack([sample.gt_score for sample in data_samples])
    return torch.cat([sample.gt_label for sample in data_samples])


def after_neck(classifier: nn.Module, features: Sequence[Tensor]) -> Any:
    """Return the input of a classifier's head: the output of its neck, or
    the features of the backbone if it has no neck."""
    return classifier.neck(features) if classifier.neck else features


def probe_classifier(network: nn.Module, role: str) -> Tuple[Tensor, Tensor]:
    """Return the last backbone feature and the logits of a dummy input.

    Args:
        network (nn.Module): The classifier; it is left unchanged.
        role (str): ``'student'`` or ``'teacher'``, for errors.

    Raises:
        ConfigError: If the network has no single-label head or fails on all
            dummy inputs.
    """
    from mmpretrain.models import MultiLabelClsHead

    def run(images: Tensor) -> Tuple[Any, Any]:
        features = network.extract_feat(images, stage='backbone')
        logits = None
        if network.head is not None:
            logits = network.head(after_neck(network, features))
        if isinstance(logits, Tensor) and logits.dim() != 2:
            # The head accepts only smaller images: another dummy input
            # follows.
            raise ValueError(f'its head outputs {tuple(logits.shape)}')
        return features[-1], logits

    remedy = "tap a module that outputs feature maps, such as tap='backbone'"
    (last, logits), _ = run_on_dummy_inputs(
        network, run, role, f'{remedy}, or '
    )
    if not isinstance(logits, Tensor) or isinstance(
        network.head, MultiLabelClsHead
    ):
        head = 'missing head'
        if network.head is not None:
            head = type(network.head).__name__
        raise ConfigError(
            "The tap 'head' (the feature before neck and head) needs "
            f'single-label logits (B, classes), which the {head} of the '
            f'{role} does not output; {remedy}.'
        )
    # Of a teacher, only the logits are used.
    if role == 'student' and (
        not isinstance(last, Tensor) or last.dim() not in (2, 4)
    ):
        shape = getattr(last, 'shape', f'{len(last)} tensors')
        raise ConfigError(
            'The last feature of the student must be a map (B, C, H, W) or a '
            "class token (B, C) for the tap 'head' (the feature before neck "
            f'and head), but is {shape}; tap a module that outputs maps, or '
            'set out_type of the backbone if it has this key.'
        )
    return last, logits
