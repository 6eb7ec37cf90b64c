"""Flow matching for knowledge transfer (arXiv 2402.02012)."""

from .encoders import (
    ConvEncoder,
    ConvNeXtEncoder,
    DepthwiseConvEncoder,
    MetaEncoder,
    MLPEncoder,
    TransformerEncoder,
)
from .pairing import decouple_pairs
from .sampler import Walk, euler_walk
from .schedules import (
    VEODE,
    VPODE,
    NoiseSchedule,
    RectifiedFlow,
    SchedulePoint,
    SubVPODE,
)
from .shape_transform import PooledHead, ShapeTransform
from .step_count import StepCount
from .time_embedding import TimeEmbedding
from .transfer import (
    VARIANTS,
    DirectTransfer,
    FlowTransfer,
    OnlineTransfer,
    ParallelTransfer,
    ThetaTransfer,
)

__all__ = [
    'ConvEncoder',
    'ConvNeXtEncoder',
    'DepthwiseConvEncoder',
    'DirectTransfer',
    'FlowTransfer',
    'MLPEncoder',
    'MetaEncoder',
    'NoiseSchedule',
    'OnlineTransfer',
    'ParallelTransfer',
    'PooledHead',
    'RectifiedFlow',
    'SchedulePoint',
    'ShapeTransform',
    'StepCount',
    'SubVPODE',
    'ThetaTransfer',
    'TimeEmbedding',
    'TransformerEncoder',
    'VARIANTS',
    'VEODE',
    'VPODE',
    'Walk',
    'decouple_pairs',
    'euler_walk',
]
