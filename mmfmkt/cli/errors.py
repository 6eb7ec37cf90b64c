"""Error messages of the commands."""

import re
import sys
import traceback
from contextlib import contextmanager
from typing import Iterator

from mmfmkt.utils import ConfigError
from mmfmkt.utils.checkpoints import restricted_torch_load
from mmfmkt.utils.error_messages import error_text
from mmfmkt.utils.stack import STACK, require

# Patterns of error messages, and the documentation pages on them.
PAGES = (
    (r'NaN or Inf', 'docs/faq.md#loss-is-nan'),
    (r'teacher\.cache', 'docs/cost.md#cache-of-teacher-outputs'),
    (r'model\.teacher|--teacher', 'docs/teachers.md'),
    (r'model\.flow|model\.variant', 'docs/variants.md'),
    (r'model\.(tap|levels|student)', 'docs/configs.md'),
    (r'dataloader|evaluator|--data-root', 'docs/own_data.md'),
    (r'--resume|load_from', 'docs/robustness.md'),
    (r'--launcher|strategy', 'docs/distributed.md'),
    (r'mmfmkt\[\w+\]', 'docs/install.md#extras'),
)


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
        line = ' '.join(str(error).split())
        pages = (page for key, page in PAGES if re.search(key, line))
        page = next(pages, None)
        if page:
            print(f'help: {page}', file=sys.stderr)
        print(f'error: {line}', file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        traceback.print_exception(error)
        print(f'error: {error_text(error)}', file=sys.stderr)
        sys.exit(1)
