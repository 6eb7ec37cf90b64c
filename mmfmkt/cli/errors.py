"""How commands end on an error."""

import re
import sys
import traceback
from contextlib import contextmanager
from typing import Iterator
from urllib.error import URLError

from mmfmkt.utils import ConfigError, require
from mmfmkt.utils.checkpoints import running_nothing
from mmfmkt.utils.error_messages import reason_of

# Where the documentation helps with an error, by what its sentence names.
PAGES = (
    (r'is not a finite number', 'docs/faq.md#loss-is-nan'),
    (r'teacher\.cache', 'docs/cost.md#a-cache-of-the-teacher'),
    (r'model\.teacher|--teacher', 'docs/teachers.md'),
    (r'model\.flow|model\.variant', 'docs/choosing.md'),
    (r'model\.(tap|levels|student)', 'docs/configs.md'),
    (r'dataloader|evaluator|--data-root', 'docs/own_data.md'),
    (r'--resume|load_from', 'docs/trust.md'),
    (r'--launcher|strategy', 'docs/distributed.md'),
    (r'mmfmkt\[\w+\]', 'docs/install.md#extras'),
)


@contextmanager
def plain_errors() -> Iterator[None]:
    """End the program with one line where a config is at fault.

    Other errors show their traceback first. Meanwhile no checkpoint that is
    read runs code.
    """
    try:
        require('torch', 'mmengine')
        require('mmcv', 'mmdet', 'mmpretrain', optional=True)
        with running_nothing():
            yield
    except ConfigError as error:
        end(error, str(error))
    except URLError as error:
        end(
            error,
            f'something could not be fetched ({error.reason}): put data '
            'where data_root says, or name a checkpoint that is here.',
        )
    except Exception as error:
        traceback.print_exception(error)
        print(f'error: {reason_of(error)}', file=sys.stderr)
        sys.exit(1)


def end(error: Exception, line: str) -> None:
    """End the program with one line; with ``--debug``, a traceback, too."""
    if '--debug' in sys.argv:
        traceback.print_exception(error)
    page = next((page for key, page in PAGES if re.search(key, line)), None)
    if page:
        print(f'help: {page}', file=sys.stderr)
    print(f'error: {" ".join(line.split())}', file=sys.stderr)
    sys.exit(2)
