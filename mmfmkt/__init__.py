"""Knowledge transfer with flow matching (FM-KT) for OpenMMLab models."""

from .utils.stack import require
from .version import __version__

require('torch', 'mmengine')
require('mmcv', 'mmdet', 'mmpretrain', optional=True)

from mmengine.config.utils import MODULE2PACKAGE  # noqa: E402

# Lets other projects inherit: _base_ = 'mmfmkt::retinanet/...'. Named by a
# module, whose folder MMEngine then takes: that of a distribution is another
# where the install is editable.
MODULE2PACKAGE.setdefault('mmfmkt', 'mmfmkt.version')

__all__ = ['__version__']
