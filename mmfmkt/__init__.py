"""Knowledge transfer with flow matching (FM-KT) for OpenMMLab models."""

from .version import __version__

try:
    from mmengine.config.utils import MODULE2PACKAGE
except ImportError:
    # models.flows and models.losses need only PyTorch.
    pass
else:
    # Enables _base_ = 'mmfmkt::retinanet/...' in other projects. MMEngine
    # searches configs in the folder of the named module. In an editable
    # install, the name of the distribution would lead to a wrong folder.
    MODULE2PACKAGE.setdefault('mmfmkt', 'mmfmkt.version')

__all__ = ['__version__']
