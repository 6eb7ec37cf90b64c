"""Distiller for any pair of MMDetection detectors."""

from mmfmkt.registry import MODELS

from .base import BaseDistiller


@MODELS.register_module()
class DetectionDistiller(BaseDistiller):
    """Distillation of a detector by flow matching (FM-KT).

    Training transfers the levels of the student's tap to the teacher's
    levels. The losses are those of the student and, for each level,
    ``<tap>.<level>.loss_flow`` and further terms of the variant. Every tenth
    iteration of a Runner logs ``<tap>.<level>.metric_of_mean``, the
    distillation loss of the mean of the estimates, which is deployed.
    Prediction runs the student, with the flow before its head if the variant
    deploys it.

    Args:
        student (str | dict): A config file, a packaged config
            (``'mmdet::...'``) or a ``model`` dict.
        teacher (dict, optional): The teacher; None for inference, and for the
            variant ``'online'``. Keys:

            - ``config``: see ``student``.
            - ``checkpoint``: path, URL, or None for random weights.
            - ``cfg_options``: overrides of the teacher's model config, by
              dotted keys.
            - ``tap``: tap of the teacher, if it is not the student's.
            - ``inherit``: paths of modules whose weights the student takes
              from the teacher, such as ``['bbox_head']``.
            - ``dtype``: ``'bfloat16'`` or ``'float16'`` for a faster teacher,
              ``'float32'`` if the student trains in a lower precision.
            - ``channels_last``: memory format of the teacher.
            - ``compile``: True, or options of ``torch.compile``, for backbone
              and neck unless they are tapped.
            - ``classes``: where classes are compared (taps ``'bbox_head[0]'``
              and ``'head'``), a dict from the student's class names to the
              teacher's that lists all compared pairs, or the list of the
              teacher's class names. By default, equal names are matched. The
              student's names are those of its training data set, the
              teacher's those of its checkpoint or else of its config.
            - ``view``: size of the teacher's images: ``scale``, their side
              relative to the student's (0.875 puts a grid of 14-pixel patches
              on stride 16), and ``multiple_of``, which divides their sides.
            - ``cache``: file of the teacher's outputs, keyed by its input, or
              a dict of ``path`` and ``max_gb``.

        variant (str): One of

            - ``'fmkt'``: the student's head reads the transferred feature, in
              training and deployment.
            - ``'theta'``: the flow is used only in training.
            - ``'online'``: fmkt without a teacher.
            - ``'parallel'``: fmkt trained on interpolated states, an
              ablation.
            - ``'direct'``: the distillation loss of the untransformed
              student's feature, without a flow.

        tap (str): Path of the module whose output is distilled, in both
            networks.
        levels (Sequence[int], optional): Indices of the student's tapped
            levels, each matched to the teacher's level of the nearest
            stride. None: all levels whose stride the teacher has as well.
        flow (dict, optional): Settings of the flow. Keys:

            - ``encoder``: config of the meta-encoder, or a list with one for
              each level.
            - ``schedule``, ``metric``: configs of the noise schedule and the
              distillation loss.
            - ``num_steps``: number N of Euler steps in training, or values
              to draw N from.
            - ``inference_steps``: number K of Euler steps at inference.
            - ``loss_weight``: a number, ``'auto'`` or a dict with ``share``
              and ``iterations`` (see `GradientShare`), or one of these for
              each level.
            - ``dirac_ratio``: beta_d, the share of a batch whose teacher
              samples are not permuted.
            - ``prediction``: see `VelocityField`.
            - ``compare``, ``direct_weight``: see `TeacherFlowTransfer`.
            - ``with_cp``: see `FlowTransfer`.
            - ``ensemble_weight``: see `FMKTTheta`.
            - ``share_encoder``: whether all levels share one encoder.
            - ``compile``: True, or options of ``torch.compile``.

        taps (Sequence[dict], optional): Several taps instead of one, each
            with ``tap``, ``levels``, ``flow`` and ``teacher_tap``. The keys
            of a tap's ``flow`` override those of ``flow`` above.
        task_loss (bool): Whether the student is trained on its task losses.
            If False, the transfer alone trains the backbone, and the neck if
            it is tapped, on images without annotations; for the variants
            theta and direct.
        data_preprocessor (dict, optional): Preprocessor of the student, if
            its config has none. Some configs of MMDetection have it at the
            top level.
        backbone (dict, optional): Overrides of ``student.backbone``, into
            which ``mmdet.apis.init_detector`` writes ``init_cfg``.

    Attributes:
        transfer_weight (float): Factor of the transfer's losses, set by
            TransferWeightHook. At 0 the teacher does not run.

    Raises:
        ConfigError: If a tap, a level, a checkpoint or a setting is invalid;
            the message names its key.
        ImportError: If mmdet or mmcv is missing.
    """

    library = 'mmdet'
    packages = ('mmcv', 'mmdet')
    default_tap = 'neck'
