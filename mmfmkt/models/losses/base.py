"""Base class of the distillation losses. It sets the precision, checks
shapes, and encodes targets once for all steps."""

from abc import ABCMeta, abstractmethod
from typing import Any, Dict, NamedTuple, Optional, Tuple

import torch
from torch import Tensor, nn

from ..deprecation import warn_renamed
from ..tensor_ops import at_least_float32, select_classes, sequential_sum

# Current names of methods of subclasses, by former name.
FORMER_NAMES = dict(prepared='encode_target', compare='compute_loss')


class PreparedTarget(NamedTuple):
    """Teacher output, encoded for one distillation loss.

    Attributes:
        output (Tensor): The teacher output q.
        encoded (Any): Result of ``encode_target``.
    """

    output: Tensor
    encoded: Any


class BaseMetricLoss(nn.Module, metaclass=ABCMeta):
    """Base class of the distillation losses D(p, q), where p is the output of
    the student and q that of the teacher.

    Losses are computed in float32, or in float64 for float64 input, also
    under autocast: sums over whole feature maps overflow or lose precision in
    half precision. No gradient reaches the target.

    A subclass implements ``compute_loss`` and, if part of the computation
    depends on the target alone, ``encode_target``.

    Attributes:
        spaces (tuple[str]): Accepted kinds of input: ``'maps'`` (B, C, H,
            W), ``'vectors'`` (B, C), ``'logits'`` (B, classes).
        needs_labels (bool): Whether the class of each sample is needed.
        ignores_scale (bool): Whether the loss is invariant to a positive
            factor on p.
        needs_teacher_head (bool): Whether the teacher's dense head has to be
            set as ``teacher_head``.
        supports_step_dim (bool): Whether ``compute_loss`` accepts p with a
            leading dimension of steps and returns the mean over them. A
            subclass that overrides ``compute_loss`` and does not set this
            attribute is called once for each step, even if its parent
            supports the dimension.
    """

    spaces: Tuple[str, ...] = ('maps', 'vectors', 'logits')
    needs_labels = False
    ignores_scale = False
    needs_teacher_head = False
    supports_step_dim = False

    def __init__(self) -> None:
        super().__init__()
        self.compare_classes(None, 0)

    def compare_classes(self, classes: Optional[Tensor], count: int) -> None:
        """Restrict the loss to some classes of class maps or logits.

        Args:
            classes (Tensor, optional): Indices of the classes; None: all.
            count (int): Number of all classes of the output, which separates
                anchors from classes; unused if ``classes`` is None.
        """
        # Not `num_classes`, which MMDetection's NumClassCheckHook checks in
        # all modules.
        self.class_count = count
        # Not a buffer: averaged copies of a model need the same buffers.
        self.compared_classes = classes

    def _select_compared(self, x: Tensor) -> Tensor:
        """Return the compared classes of class maps or logits."""
        if self.compared_classes is None:
            return x
        self.compared_classes = self.compared_classes.to(x.device)
        return select_classes(x, self.compared_classes, self.class_count)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for old, new in FORMER_NAMES.items():
            if old in vars(cls):
                warn_renamed(f'{cls.__name__}.{old}', new)
                setattr(cls, new, vars(cls)[old])
        defined = vars(cls)
        if 'compute_loss' in defined and 'supports_step_dim' not in defined:
            cls.supports_step_dim = False

    def forward(
        self, pred: Tensor, target: Tensor, labels: Optional[Tensor] = None
    ) -> Tensor:
        """Compute the loss between student and teacher outputs.

        Args:
            pred (Tensor): Student output p, of any floating type.
            target (Tensor): Teacher output q, of the same shape. It is
                detached.
            labels (Tensor, optional): Classes ``(B, )``, or probabilities
                ``(B, classes)``, whose argmax is the class. Only losses with
                ``needs_labels`` use labels.

        Returns:
            Tensor: Scalar loss, float32 (float64 for float64 input).

        Raises:
            ValueError: If the shapes differ or are not supported, or if
                labels are missing.
        """
        self._check_shape(pred, target)
        prepared = self.prepare_target(target, labels, pred.dtype)
        return self.loss_from_prepared(pred, prepared)

    @torch.no_grad()
    def prepare_target(
        self,
        target: Tensor,
        labels: Optional[Tensor] = None,
        dtype: Optional[torch.dtype] = None,
    ) -> PreparedTarget:
        """Compute everything that depends on the target alone.

        Args:
            target (Tensor): Teacher output q.
            labels (Tensor, optional): As in ``forward``.
            dtype (torch.dtype, optional): Type of the student output; by
                default that of the target.

        Raises:
            ValueError: As ``forward``, for the target.
        """
        self._check_target(target, labels)
        if labels is not None and labels.dim() == 2:
            labels = labels.argmax(1)
        kwargs = dict(labels=labels) if self.needs_labels else {}
        dtype = at_least_float32(dtype or target.dtype)
        with torch.autocast(target.device.type, enabled=False):
            encoded = self.encode_target(
                self._select_compared(target.detach().to(dtype)), **kwargs
            )
        return PreparedTarget(target, encoded)

    def loss_from_prepared(
        self, pred: Tensor, target: PreparedTarget
    ) -> Tensor:
        """Compute the loss against a prepared target.

        Args:
            pred (Tensor): Student output p, of any floating type.
            target (PreparedTarget): Result of ``prepare_target``.

        Returns:
            Tensor: As ``forward``.

        Raises:
            ValueError: If the shapes differ.
        """
        self._check_shape(pred, target.output)
        return self._loss_in_float32(pred, target.encoded)

    def mean_loss_over_steps(
        self, preds: Tensor, target: PreparedTarget
    ) -> Tensor:
        """Return the mean of ``loss_from_prepared`` over stacked steps.

        Args:
            preds (Tensor): Student outputs, with a leading dimension of
                steps, of any floating type.
            target (PreparedTarget): Result of ``prepare_target``.

        Returns:
            Tensor: As ``forward``.

        Raises:
            ValueError: If the shapes differ.
        """
        if len(preds) == 1:
            return self.loss_from_prepared(preds[0], target)
        self._check_shape(preds[0], target.output)
        if self.supports_step_dim:
            return self._loss_in_float32(preds, target.encoded)
        losses = [self._loss_in_float32(x, target.encoded) for x in preds]
        return sequential_sum(losses) / len(losses)

    def _loss_in_float32(self, pred: Tensor, target: Any) -> Tensor:
        """Call ``compute_loss`` in float32 or better, without autocast."""
        pred = self._select_compared(pred.to(at_least_float32(pred.dtype)))
        with torch.autocast(pred.device.type, enabled=False):
            return self.compute_loss(pred, target)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, on which a loss may depend; here unused.

        A distiller calls this in each iteration. A loss that increases a
        factor by epochs has it as ``warmup_factor``, in (0, 1].

        Args:
            epoch (int): Index of the epoch, from 0.
        """

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile ``compute_loss``; arguments of ``torch.compile``."""
        # Not `forward`: training prepares the target once and calls
        # `compute_loss` for the steps.
        self.compute_loss = torch.compile(  # type: ignore[method-assign]
            self.compute_loss, *args, **kwargs
        )

    def __getstate__(self) -> Dict[str, Any]:
        state = super().__getstate__()
        # `compile` sets a function that is bound to this module, so copies
        # must not contain it.
        state.pop('compute_loss', None)
        return state

    def _check_shape(self, pred: Tensor, target: Tensor) -> None:
        if pred.shape != target.shape:
            raise ValueError(
                f'{type(self).__name__} needs student and teacher outputs of '
                f'equal shape, got {tuple(pred.shape)} and '
                f'{tuple(target.shape)}.'
            )

    def _check_target(self, target: Tensor, labels: Optional[Tensor]) -> None:
        name, shape = type(self).__name__, tuple(target.shape)
        if not target.numel():
            raise ValueError(f'{name} got an empty target of shape {shape}.')
        dims = {4 if space == 'maps' else 2 for space in self.spaces}
        if len(dims) == 1 and target.dim() not in dims:
            raise ValueError(
                f'{name} needs {" or ".join(self.spaces)} with '
                f'{dims.pop()} dimensions, got a tensor of shape {shape}.'
            )
        if self.needs_labels and labels is None:
            raise ValueError(f'{name} needs labels, got None.')

    def encode_target(self, target: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Return everything that is computed from the target alone.

        Args:
            target (Tensor): Teacher output, float32 or float64.
            labels (Tensor): Classes ``(B, )``; only passed to losses with
                ``needs_labels``.
        """
        return target

    @abstractmethod
    def compute_loss(self, pred: Tensor, target: Any) -> Tensor:
        """Return D(p, q).

        Args:
            pred (Tensor): Student output, float32 or float64. With
                ``supports_step_dim`` there may be a leading dimension of
                steps, over which the loss is averaged.
            target (Any): Result of ``encode_target``.
        """
