"""Knowledge transfer with flow matching (FM-KT) for OpenMMLab models."""

from .version import __version__

try:
    from mmengine.config.utils import MODULE2PACKAGE
except ImportError:
    # models.flows and models.losses need PyTorch alone.
    pass
else:
    # Lets other projects inherit: _base_ = 'mmfmkt::retinanet/...'. Named by
    # a module, whose folder MMEngine then takes: that of a distribution is
    # another where the install is editable.
    MODULE2PACKAGE.setdefault('mmfmkt', 'mmfmkt.version')

__all__ = ['__version__']
