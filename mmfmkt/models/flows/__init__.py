"""Flow matching for knowledge transfer (arXiv 2402.02012)."""

from .encoders import ConvEncoder, ConvNeXtEncoder, MetaEncoder
from .pairing import decouple_pairs
from .sampler import Walk, euler_walk
from .schedules import NoiseSchedule, RectifiedFlow, SchedulePoint
from .shape_transform import ShapeTransform
from .step_count import StepCount
from .time_embedding import TimeEmbedding
from .transfer import VARIANTS, FlowTransfer, ThetaTransfer

__all__ = [
    'ConvEncoder', 'ConvNeXtEncoder', 'FlowTransfer', 'MetaEncoder',
    'NoiseSchedule', 'RectifiedFlow', 'SchedulePoint', 'ShapeTransform',
    'StepCount', 'ThetaTransfer', 'TimeEmbedding', 'VARIANTS', 'Walk',
    'decouple_pairs', 'euler_walk'
]
