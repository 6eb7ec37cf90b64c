"""DetectionDistiller: any MMDetection detector under any other."""

from functools import partial
from typing import Dict, Optional, Sequence, Union

from mmfmkt.registry import MODELS

from .base import BaseDistiller
from .builder import ReaderMaker
from .teacher_head import DenseHeadReader


@MODELS.register_module()
class DetectionDistiller(BaseDistiller):
    """Trains a detector under a bigger one by flow matching (FM-KT).

    In training the levels of the tap flow towards the teacher's; the losses
    are the student's own and, for each level, ``<tap>.<level>.loss_flow``
    and what else the variant has. Beside them, of each tenth iteration of a
    Runner, ``<tap>.<level>.metric_of_mean`` is logged, the metric of the mean
    of the estimates, which is what is deployed.
    Prediction is the student's own, with the flow in front of its head where
    the variant deploys it.

    Args:
        student (str | dict): Student: a config file, a packaged config
            (``'mmdet::...'``) or a ``model`` dict.
        teacher (dict, optional): ``config`` (as ``student``),
            ``checkpoint`` (path, URL, or None for random weights) and,
            optionally, ``cfg_options``, which override the teacher's model
            config by dotted keys, ``tap``, where it is another than the
            student's, and ``inherit``, paths of modules that start with the
            teacher's weights, such as ``['bbox_head']``. What makes it
            faster: ``dtype`` (``'bfloat16'``, ``'float16'``, or
            ``'float32'`` where the student trains in less),
            ``channels_last``, and ``compile`` (True, or options of
            ``torch.compile``), which takes those of backbone and neck that
            are not tapped; and ``cache``, a file (or ``path`` and
            ``max_gb``) that keeps what it said of views it has seen. None is
            enough for inference, and for the variant ``'online'``.
        variant (str): ``'fmkt'``: the student's head reads the transferred
            feature, in training and after. ``'theta'``: the flow only
            teaches; the plain student is deployed. ``'online'``: as fmkt,
            without a teacher. ``'parallel'``: fmkt trained on interpolated
            states, an ablation. ``'direct'``: the metric without a flow.
        tap (str): Path of the tapped module in both networks.
        levels (Sequence[int], optional): Indices of the student's tapped
            levels; None taps all. The teacher's are found by their strides.
        flow (dict, optional): ``encoder`` (a config, or a list with one for
            each level), ``schedule``, ``metric`` (configs), ``num_steps``
            (N; several are drawn from), ``inference_steps`` (K),
            ``loss_weight`` (one number, or one for each level),
            ``dirac_ratio`` (beta_d, the share of a batch that
            keeps its own teacher sample), ``prediction``, ``compare``,
            ``direct_weight`` and ``with_cp`` (see `Transfer`),
            ``ensemble_weight`` (see `FMKTTheta`),
            ``share_encoder`` (one encoder for all levels), and ``compile``
            (True, or options of ``torch.compile``).
        taps (Sequence[dict], optional): Several taps in the place of one:
            each has ``tap``, ``levels``, ``flow`` and ``teacher_tap``; what
            its flow leaves out is as in ``flow`` above.
        data_preprocessor (dict, optional): The student's, where its config
            has none; some of MMDetection's configs have it beside the model.
        backbone (dict, optional): Overrides of ``student.backbone``;
            ``mmdet.apis.init_detector`` writes ``init_cfg`` there.

    Attributes:
        transfer_weight (float): Factor of the transfer's losses;
            TransferWeightHook changes it in the course of training. At 0 the
            teacher rests.

    Raises:
        ConfigError: If tap, levels, strides, checkpoint or settings do not
            fit; the message names the config key to change.
        ImportError: If mmdet or mmcv is missing.
    """

    library = 'mmdet'
    packages = ('mmcv', 'mmdet')

    def __init__(
        self,
        student: Union[str, dict],
        teacher: Optional[dict] = None,
        variant: str = 'fmkt',
        tap: str = 'neck',
        levels: Optional[Sequence[int]] = None,
        flow: Optional[dict] = None,
        taps: Optional[Sequence[dict]] = None,
        data_preprocessor: Optional[dict] = None,
        backbone: Optional[dict] = None,
    ) -> None:
        super().__init__(
            student,
            teacher,
            variant,
            tap,
            levels,
            flow,
            taps,
            data_preprocessor,
            dict(backbone=backbone) if backbone else None,
        )

    def _readers(
        self, teacher_tap: str, pairs: Dict[int, int], num_levels: int
    ) -> Dict[int, ReaderMaker]:
        if teacher_tap != 'neck':
            return {}
        return {
            ours: partial(DenseHeadReader, self.teacher, theirs, num_levels)
            for ours, theirs in pairs.items()
        }
