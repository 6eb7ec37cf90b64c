"""Knowledge transfer with flow matching (FM-KT) for OpenMMLab models."""

from .version import __version__

try:
    from mmengine.config.utils import MODULE2PACKAGE
except ImportError:
    # models.flows and models.losses need PyTorch alone.
    pass
else:
    # Enables _base_ = 'mmfmkt::retinanet/...' in other projects. MMEngine
    # takes the folder of the named module; the folder of the distribution
    # would be wrong in an editable install.
    MODULE2PACKAGE.setdefault('mmfmkt', 'mmfmkt.version')

__all__ = ['__version__']
