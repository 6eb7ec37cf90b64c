"""A student with its flows, as it is deployed."""

from typing import Any, ContextManager, List, Optional, Sequence

from mmengine.structures import BaseDataElement
from torch import Tensor

from ..flows import VARIANTS
from .feature_transfer import FeatureTransfer
from .taps import output_hooks, read_taps
from .wrapper import StudentWrapper


class DeployedStudent(StudentWrapper):
    """Student whose tapped outputs are replaced by sampled features, if the
    variant deploys the flow.

    Args:
        student (nn.Module): The student.
    """

    # A class attribute, which StudentWrapper does not set in the student.
    variant = ''

    @property
    def deploys_flow(self) -> bool:
        """Whether the deployed student includes the flow."""
        return VARIANTS[self.variant].deploys_flow

    @property
    def inference_steps(self) -> int:
        """Number K of Euler steps at inference, set for all taps."""
        return next(iter(self.flows.values())).inference_steps

    @inference_steps.setter
    def inference_steps(self, value: int) -> None:
        for transfer in self.flows.values():
            transfer.inference_steps = value

    @property
    def feature_transfers(self) -> List[FeatureTransfer]:
        """The transfers between feature maps."""
        transfers = self.flows.values()
        return [x for x in transfers if isinstance(x, FeatureTransfer)]

    def forward(
        self,
        inputs: Tensor,
        data_samples: Optional[List[BaseDataElement]] = None,
        mode: str = 'tensor',
    ) -> Any:
        """Return the student's ``forward`` with the flow."""
        with self._deployed_flows():
            return self.student(inputs, data_samples, mode=mode)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """Return the student's ``predict`` with the flow.

        MMDetection's trackers call this method of their detector.
        """
        with self._deployed_flows():
            return self.student.predict(*args, **kwargs)

    def extract_feat(self, *args: Any, **kwargs: Any) -> Any:
        """Return the student's ``extract_feat`` with the flow."""
        with self._deployed_flows():
            return self.student.extract_feat(*args, **kwargs)

    def read_taps(
        self,
        taps: Sequence[str],
        inputs: Tensor,
        data_samples: List[BaseDataElement],
    ) -> List[Any]:
        """Return the outputs of taps with the flow, for a distiller that is
        the teacher of another; see the function `read_taps`."""
        with self._deployed_flows():
            return read_taps(
                self.student, taps, inputs, 'teacher', data_samples, stop=True
            )

    def _deployed_flows(self) -> ContextManager:
        """Return the context of a prediction: if the variant deploys the
        flow, sampled features replace tapped outputs."""
        transfers = self.feature_transfers if self.deploys_flow else ()
        return output_hooks(
            self.student, [(x.tap, x.sample) for x in transfers]
        )
