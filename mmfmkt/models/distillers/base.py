"""What all distillers share: a student that owns everything, and a guest.

The teacher is a guest: frozen, in eval mode whatever ``train()`` says, and
in neither ``parameters()`` nor ``state_dict()``, so neither optimizer, DDP,
EMA nor checkpoints know it; but it follows the model to every device.
"""

from typing import Optional

from mmengine.model import BaseDataPreprocessor, BaseModel
from torch import nn


class Guest:
    """Holds a network that is not a submodule; copies share it."""

    def __init__(self, network: Optional[nn.Module]) -> None:
        self.network = network

    def __deepcopy__(self, memo: dict) -> 'Guest':
        return self


class BaseDistiller(BaseModel):
    """A student in training under a teacher.

    Args:
        student (nn.Module): The student.
        teacher (nn.Module, optional): The frozen teacher; None for
            inference.
        data_preprocessor (BaseDataPreprocessor): The student's own, or one
            that serves both.
    """

    def __init__(self, student: nn.Module, teacher: Optional[nn.Module],
                 data_preprocessor: BaseDataPreprocessor) -> None:
        super().__init__(data_preprocessor)
        self.student = student
        self._guest = Guest(teacher)
        self._register_load_state_dict_pre_hook(self._adapt_state_dict)

    @property
    def teacher(self) -> Optional[nn.Module]:
        """The teacher, or None where there is none."""
        return self._guest.network

    def _apply(self, fn, *args, **kwargs):
        super()._apply(fn, *args, **kwargs)
        if self.teacher is not None:
            self.teacher._apply(fn, *args, **kwargs)
        return self

    def _adapt_state_dict(self, state_dict: dict, prefix: str, *_) -> None:
        """Let plain student checkpoints in, as ``load_from`` of a config."""
        own = [key for key in state_dict if key.startswith(prefix)]
        if any(key.startswith(f'{prefix}student.') for key in own):
            return
        for key in own:
            name = key.removeprefix(prefix)
            state_dict[f'{prefix}student.{name}'] = state_dict.pop(key)
