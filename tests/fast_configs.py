"""Short cuts in reading and writing configs, for the tests' process only.

They change nothing of what a config says. Tools that a test starts as a new
Python process do without them.
"""

import functools
from pathlib import Path


def skip_yapf() -> None:
    """Write configs without yapf's layout; call before MMEngine is imported.

    MMEngine formats each config that it writes, logs or stores in a
    checkpoint, which takes more than half of the time of a short run.
    """
    from yapf.yapflib import yapf_api

    yapf_api.FormatCode = lambda text, **_: (f'{text}\n', True)


def cache_metafiles(*packages) -> None:
    """Read the metafiles of each library once.

    MMEngine parses all of them, 0.15 s, for each ``_base_`` of a library.

    Args:
        packages: Imported libraries whose metafiles are read at once, so
            that forked processes have them.
    """
    from mmengine.config import utils

    utils.load = functools.lru_cache(maxsize=None)(utils.load)
    for package in packages:
        folder = Path(package.__file__).parent / '.mim'
        for path in utils.load(str(folder / 'model-index.yml'))['Import']:
            utils.load(str(folder / path))
