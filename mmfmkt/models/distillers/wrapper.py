"""A model that shows the student's parameters, modules and attributes.

MMEngine, MMDetection and MMPretrain access a model by the names of its
parameters and modules, by its attributes and by its methods: parameter
groups, hooks, EMA, checkpoints, conversion of norms. All of them find the
student under the names it has without a wrapper, and the flows beside it.
"""

from typing import Any

from mmengine.model import BaseModel
from torch import nn

# What PyTorch keeps of a module besides its children. The wrapper shares the
# student's containers, so that later registrations are in both.
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
    """Student with its parameters, buffers and modules under their own names.

    ``student`` is the network and no child module: its children are the
    wrapper's children, followed by ``flows``. Attributes that the wrapper
    does not have are read from, and set in, the student.

    Args:
        student (nn.Module): Any model of MMEngine.

    Attributes:
        flows (nn.ModuleDict): The flows that distillation adds.
    """

    student: nn.Module
    flows: nn.ModuleDict

    def __init__(self, student: nn.Module) -> None:
        super().__init__(student.data_preprocessor)
        self.__dict__['student'] = student
        self._modules[FLOWS] = nn.ModuleDict()
        self._sync_attributes()

    def _sync_attributes(self) -> None:
        """Share the student's present containers and children."""
        student = self.student
        for name in SHARED:
            if hasattr(student, name):
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
        own = name in self.__dict__ or hasattr(type(self), name)
        if student is None or own or not hasattr(student, name):
            super().__setattr__(name, value)
        else:
            setattr(student, name, value)
            self._sync_attributes()

    def add_module(self, name: str, module: nn.Module) -> None:
        """Set a child, in the student if it has a child of that name."""
        if name in self.student._modules:
            self.student.add_module(name, module)
            self._sync_attributes()
        else:
            super().add_module(name, module)

    def train(self, mode: bool = True) -> nn.Module:
        """Set the mode; the student may override how its parts follow."""
        self.training = mode
        self.student.train(mode)
        self.flows.train(mode)
        return self

    def init_weights(self) -> None:
        """Initialize the student."""
        self.student.init_weights()
        # Some detectors create modules here.
        self._sync_attributes()

    def parse_losses(self, losses: dict) -> tuple:
        """Sum the losses as the student does."""
        return self.student.parse_losses(losses)

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Load as the student does, without the flows' entries."""
        flows = {
            name: state_dict.pop(name)
            for name in list(state_dict)
            if name.startswith(f'{prefix}{FLOWS}.')
        }
        self.student._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        state_dict.update(flows)
