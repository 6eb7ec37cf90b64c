"""Error messages of the commands."""

import sys
import traceback
from contextlib import contextmanager
from typing import Iterator

from mmfmkt.utils import ConfigError
from mmfmkt.utils.checkpoints import restricted_torch_load
from mmfmkt.utils.error_messages import error_text
from mmfmkt.utils.stack import STACK, require


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Print errors as one line and exit.

    The traceback is printed, too, for errors other than `ConfigError` and
    with ``--debug``. Inside the context, checkpoints cannot execute code.
    """
    try:
        require(*STACK, optional=True)
        with restricted_torch_load():
            yield
    except ConfigError as error:
        if '--debug' in sys.argv:
            traceback.print_exception(error)
        print('error:', ' '.join(str(error).split()), file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        traceback.print_exception(error)
        print(f'error: {error_text(error)}', file=sys.stderr)
        sys.exit(1)
