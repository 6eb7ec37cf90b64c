"""Flow matching for knowledge transfer (arXiv 2402.02012)."""

from typing import Dict, Type

from .base import Transfer
from .direct import DirectTransfer
from .encoders.base import MetaEncoder
from .encoders.bottleneck import BottleneckEncoder
from .encoders.conv import ConvEncoder, DepthwiseConvEncoder
from .encoders.convnext import ConvNeXtEncoder
from .encoders.mlp import MLPEncoder
from .encoders.time_embedding import TimeEmbedding
from .encoders.transformer import TransformerEncoder
from .flow_transfer import FlowTransfer
from .fmkt import FMKT
from .online import OFMKT
from .pairing import decouple_pairs
from .parallel import ParallelFMKT
from .sampler import EulerSampler, InterpolatedSampler
from .schedules import (
    VEODE,
    VPODE,
    NoiseSchedule,
    RectifiedFlow,
    SchedulePoint,
    SubVPODE,
)
from .steps import Step, StepBatch
from .teacher_flow_transfer import TeacherFlowTransfer
from .theta import FMKTTheta
from .transforms import MapTransform, PooledHead
from .velocity import VelocityField

VARIANTS: Dict[str, Type[Transfer]] = dict(
    fmkt=FMKT,
    theta=FMKTTheta,
    online=OFMKT,
    parallel=ParallelFMKT,
    direct=DirectTransfer,
)

__all__ = [
    'BottleneckEncoder',
    'ConvEncoder',
    'ConvNeXtEncoder',
    'DepthwiseConvEncoder',
    'DirectTransfer',
    'EulerSampler',
    'FMKT',
    'FMKTTheta',
    'FlowTransfer',
    'InterpolatedSampler',
    'MLPEncoder',
    'MapTransform',
    'MetaEncoder',
    'NoiseSchedule',
    'OFMKT',
    'ParallelFMKT',
    'PooledHead',
    'RectifiedFlow',
    'SchedulePoint',
    'Step',
    'StepBatch',
    'SubVPODE',
    'TeacherFlowTransfer',
    'TimeEmbedding',
    'Transfer',
    'TransformerEncoder',
    'VARIANTS',
    'VEODE',
    'VPODE',
    'VelocityField',
    'decouple_pairs',
]
