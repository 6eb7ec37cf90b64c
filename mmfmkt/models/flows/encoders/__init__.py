"""Meta-encoders: networks that predict the velocity or the target."""

from .base import MetaEncoder
from .bottleneck import BottleneckEncoder
from .conv import ConvEncoder, DepthwiseConvEncoder
from .convnext import ConvNeXtEncoder
from .mlp import MLPEncoder
from .time_embedding import TimeEmbedding
from .transformer import TransformerEncoder

__all__ = [
    'BottleneckEncoder',
    'ConvEncoder',
    'ConvNeXtEncoder',
    'DepthwiseConvEncoder',
    'MLPEncoder',
    'MetaEncoder',
    'TimeEmbedding',
    'TransformerEncoder',
]
