"""How commands end on an error."""

import sys
import traceback
from contextlib import contextmanager
from typing import Iterator

from mmfmkt.utils import ConfigError, require
from mmfmkt.utils.checkpoints import restricted_torch_load
from mmfmkt.utils.error_messages import reason_of


@contextmanager
def plain_errors() -> Iterator[None]:
    """End the program with one line where a config is at fault.

    Other errors, and with ``--debug`` these too, show their traceback first.
    Meanwhile no checkpoint that is
    read runs code.
    """
    try:
        require('torch', 'mmengine')
        require('mmcv', 'mmdet', 'mmpretrain', optional=True)
        with restricted_torch_load():
            yield
    except ConfigError as error:
        if '--debug' in sys.argv:
            traceback.print_exception(error)
        print(f'error: {" ".join(str(error).split())}', file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        traceback.print_exception(error)
        print(f'error: {reason_of(error)}', file=sys.stderr)
        sys.exit(1)
