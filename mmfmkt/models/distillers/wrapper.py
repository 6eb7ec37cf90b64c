"""Wrapper that keeps the names of the student's parameters and modules.

MMEngine, MMDetection and MMPretrain access a model by the names of its
parameters, modules, attributes and methods: parameter groups, hooks, EMA,
checkpoints, conversion of norms. The wrapper has the same names as the
student, plus those of the flows.
"""

from typing import Any

from mmengine.model import BaseModel
from torch import nn

# Attributes in which a torch module stores parameters, buffers and hooks.
# Wrapper and student share these objects, so that both have what is registered
# later.
SHARED = (
    '_parameters',
    '_buffers',
    '_non_persistent_buffers_set',
    '_state_dict_hooks',
    '_state_dict_pre_hooks',
    '_load_state_dict_pre_hooks',
    '_load_state_dict_post_hooks',
)
FLOWS = 'flows'


class StudentWrapper(BaseModel):
    """Student and flows, without a prefix in the names of the student.

    ``student`` is not registered as a child module. Its children are the
    wrapper's children, followed by ``flows``. Attributes that only the
    student has are read from and set in the student.

    Args:
        student (nn.Module): Any model of MMEngine.

    Attributes:
        flows (nn.ModuleDict): Transfers with their flows, by tap.
    """

    student: nn.Module
    flows: nn.ModuleDict

    def __init__(self, student: nn.Module) -> None:
        super().__init__(student.data_preprocessor)
        self.__dict__['student'] = student
        self._modules[FLOWS] = nn.ModuleDict()
        self._sync_attributes()

    def _sync_attributes(self) -> None:
        """Share the student's parameters, buffers, hooks and children."""
        student = self.student
        for name in SHARED:
            self.__dict__[name] = student.__dict__[name]
        self.__dict__['_modules'] = {
            **student._modules,
            FLOWS: self._modules[FLOWS],
        }

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            student = self.__dict__.get('student')
            if student is None or not hasattr(student, name):
                raise
            return getattr(student, name)

    def __setattr__(self, name: str, value: Any) -> None:
        student = self.__dict__.get('student')
        in_wrapper = name in self.__dict__ or hasattr(type(self), name)
        if student is None or in_wrapper or not hasattr(student, name):
            super().__setattr__(name, value)
        else:
            setattr(student, name, value)
            self._sync_attributes()

    def add_module(self, name: str, module: nn.Module) -> None:
        """Register a child; in the student if it has a child of the name."""
        if name in self.student._modules:
            self.student.add_module(name, module)
            self._sync_attributes()
        else:
            super().add_module(name, module)

    def train(self, mode: bool = True) -> nn.Module:
        """Set the mode; the student's ``train`` may keep modules frozen."""
        self.training = mode
        self.student.train(mode)
        self.flows.train(mode)
        return self

    def init_weights(self) -> None:
        """Initialize the student."""
        self.student.init_weights()
        # Some detectors create modules in init_weights.
        self._sync_attributes()

    def parse_losses(self, losses: dict) -> tuple:
        """Return the result of the student's ``parse_losses``."""
        return self.student.parse_losses(losses)

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Call the student's method without the entries of the flows."""
        flows = {
            name: state_dict.pop(name)
            for name in list(state_dict)
            if name.startswith(f'{prefix}{FLOWS}.')
        }
        self.student._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        state_dict.update(flows)
