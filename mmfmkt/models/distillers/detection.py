"""DetectionDistiller: any MMDetection detector under any other."""

from functools import partial
from typing import Any, Optional

from mmfmkt.registry import MODELS

from .base import BaseDistiller
from .builder import TeacherHeadFactory
from .teacher_head import TeacherHeadReader


@MODELS.register_module()
class DetectionDistiller(BaseDistiller):
    """Distillation of a detector by flow matching (FM-KT).

    Training transfers the levels of the tap to the teacher's; the losses are
    the student's own and, for each level, ``<tap>.<level>.loss_flow`` and
    further terms of the variant. Every tenth iteration of a Runner logs
    ``<tap>.<level>.metric_of_mean``, the distillation loss of the mean of the
    estimates, which is deployed. Prediction is the student's own, with the
    flow in front of its head if the variant deploys it.

    Args:
        student (str | dict): Student: a config file, a packaged config
            (``'mmdet::...'``) or a ``model`` dict.
        teacher (dict, optional): ``config`` (as ``student``),
            ``checkpoint`` (path, URL, or None for random weights) and,
            optionally, ``cfg_options``, which override the teacher's model
            config by dotted keys, ``tap``, if it differs from the
            student's, and ``inherit``, paths of modules that start with the
            teacher's weights, such as ``['bbox_head']``. Faster teachers:
            ``dtype`` (``'bfloat16'``, ``'float16'``, or ``'float32'`` if the
            student trains in a lower precision), ``channels_last``,
            ``compile`` (True, or options of ``torch.compile``) for backbone
            and neck unless they are tapped, and ``cache``, a file (or
            ``path`` and ``max_gb``) of the teacher's outputs, keyed by its
            input. None suffices for inference, and for the variant
            ``'online'``.
        variant (str): ``'fmkt'``: the student's head reads the transferred
            feature, in training and deployment. ``'theta'``: the flow only
            trains the student, which is deployed without it. ``'online'``:
            as fmkt, without a teacher. ``'parallel'``: fmkt trained on
            interpolated states, an ablation. ``'direct'``: the distillation
            loss of the student's feature, without a flow.
        tap (str): Path of the tapped module in both networks.
        levels (Sequence[int], optional): Indices of the student's tapped
            levels; None: all. The teacher's are found by their strides.
        flow (dict, optional): ``encoder`` (a config, or a list with one for
            each level), ``schedule``, ``metric`` (configs), ``num_steps``
            (N, or values to draw N from), ``inference_steps`` (K),
            ``loss_weight`` (one number, or one for each level),
            ``dirac_ratio`` (beta_d, the share of a batch that keeps its own
            teacher sample), ``prediction``, ``compare``,
            ``direct_weight`` and ``with_cp`` (see `Transfer`),
            ``ensemble_weight`` (see `FMKTTheta`),
            ``share_encoder`` (one encoder for all levels), and ``compile``
            (True, or options of ``torch.compile``).
        taps (Sequence[dict], optional): Several taps instead of one, each
            with ``tap``, ``levels``, ``flow`` and ``teacher_tap``; the
            defaults of its flow are those of ``flow`` above.
        data_preprocessor (dict, optional): The student's, if its config has
            none; some of MMDetection's configs have it beside the model.
        backbone (dict, optional): Overrides of ``student.backbone``;
            ``mmdet.apis.init_detector`` writes ``init_cfg`` there.

    Attributes:
        transfer_weight (float): Factor of the transfer's losses, set by
            TransferWeightHook. At 0 the teacher does not run.

    Raises:
        ConfigError: If tap, levels, strides, checkpoint or settings do not
            fit; the message names the config key.
        ImportError: If mmdet or mmcv is missing.
    """

    library = 'mmdet'
    packages = ('mmcv', 'mmdet')
    default_tap = 'neck'

    def __init__(
        self, *args: Any, backbone: Optional[dict] = None, **kwargs: Any
    ) -> None:
        overrides = dict(backbone=backbone) if backbone else None
        super().__init__(*args, overrides=overrides, **kwargs)

    def _teacher_head(
        self, teacher_tap: str, level: int, num_levels: int
    ) -> Optional[TeacherHeadFactory]:
        if teacher_tap != 'neck':
            return None
        return partial(TeacherHeadReader, self.teacher, level, num_levels)
