"""A model of which all that is not its own is the student's.

MMEngine, MMDetection and MMPretrain do things to a model by the names of its
parameters and modules, by its attributes and by its methods: parameter
groups, hooks, EMA, checkpoints, conversion of norms. Here they find what they
would find in the student trained by itself, under the very same names, and
the flows beside it.
"""

from typing import Any

from mmengine.model import BaseModel
from torch import nn

# What PyTorch keeps of a module besides its children. The dicts are the
# student's own, so whatever is registered later is there as well.
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


class StudentFace(BaseModel):
    """Has the student's parameters, buffers and modules under their names.

    ``student`` is the network itself and no child of its own: its children
    are the children here, with ``flows`` after them. What is not found here
    is looked up, and set, in the student.

    Args:
        student (nn.Module): Any model of MMEngine.

    Attributes:
        flows (nn.ModuleDict): What training adds to the student.
    """

    student: nn.Module
    flows: nn.ModuleDict

    def __init__(self, student: nn.Module) -> None:
        super().__init__(student.data_preprocessor)
        self.__dict__['student'] = student
        self._modules[FLOWS] = nn.ModuleDict()
        self._mirror()

    def _mirror(self) -> None:
        """Take over what the student is made of now."""
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
            self._mirror()

    def add_module(self, name: str, module: nn.Module) -> None:
        """Set a child, the student's where it is the student's."""
        if name in self.student._modules:
            self.student.add_module(name, module)
            self._mirror()
        else:
            super().add_module(name, module)

    def train(self, mode: bool = True) -> nn.Module:
        """Set the mode, of the student in its own way."""
        self.training = mode
        self.student.train(mode)
        self.flows.train(mode)
        return self

    def init_weights(self) -> None:
        """Initialise the student in its own way, at once as in training it
        alone."""
        self.student.init_weights()
        # Some detectors make parts of theirs when they are initialised.
        self._mirror()

    def parse_losses(self, losses: dict) -> tuple:
        """Add the losses up in the student's own way."""
        return self.student.parse_losses(losses)

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Load in the student's own way, which knows nothing of flows."""
        flows = {
            name: state_dict.pop(name)
            for name in list(state_dict)
            if name.startswith(f'{prefix}{FLOWS}.')
        }
        self.student._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        state_dict.update(flows)
