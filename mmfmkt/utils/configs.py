"""Reading configs, and what more than one place changes in them."""

import os.path as osp
import runpy
from contextlib import suppress
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any, Iterator, List, Optional, Tuple

from mmengine.config import Config
from mmengine.fileio import load
from mmengine.hub import get_config

import mmfmkt

from .errors import ConfigError

# Configs and tools that come with the package: see setup.py.
SHIPPED = Path(mmfmkt.__file__).parent / '.mim'


def link_shipped() -> None:
    """Make ``.mim`` in a clone that is not installed, as its install does.

    Where nothing can be written, ``mmfmkt::`` configs are not found.
    """
    package = SHIPPED.parent
    build = package.parent / 'setup.py'
    if SHIPPED.exists() or not build.is_file():
        return
    with suppress(OSError, ImportError):
        made = Path(mkdtemp(prefix='.mim', dir=package))
        try:
            runpy.run_path(str(build))['make_mim'](made, link=True)
            made.chmod(0o755)
            # Of several processes the first one's is taken.
            made.rename(SHIPPED)
        finally:
            rmtree(made, ignore_errors=True)


def shipped_models() -> List[dict]:
    """Return the entries of all metafiles, a shipped config each."""
    return [
        entry
        for name in load(SHIPPED / 'model-index.yml')['Import']
        for entry in load(SHIPPED / name)['Models']
    ]


def import_mmfmkt(cfg: Config) -> None:
    """Have whoever loads a config import mmfmkt, beside what it imports.

    Args:
        cfg (Config): Changed in place.
    """
    # What setdefault returns of a Config is not what it has set.
    cfg.setdefault(
        'custom_imports', dict(imports=[], allow_failed_imports=False)
    )
    imports = cfg.custom_imports
    if 'mmfmkt' not in imports['imports']:
        imports['imports'] = [*imports['imports'], 'mmfmkt']


def walk(part: Any, key: str = '') -> Iterator[Tuple[str, Any]]:
    """Yield a part of a config and all that is in it, with dotted keys.

    A container comes before what is in it, and may be changed when it comes.

    Args:
        part (Any): Dicts and sequences, nested, or a value.
        key (str): Key of the part.
    """
    yield key, part
    if isinstance(part, (dict, Config)):
        rows = part.items()
    elif isinstance(part, (list, tuple)):
        rows = enumerate(part)
    else:
        return
    for name, value in list(rows):
        yield from walk(value, f'{key}.{name}' if key else str(name))


def read_config(
    path: str, cfg_options: Optional[dict] = None, key: str = 'The config'
) -> Config:
    """Read a config and apply overrides.

    Args:
        path (str): A file, or a packaged config such as
            ``'mmfmkt::retinanet/theta_retinanet_r101_r50.py'``.
        cfg_options (dict, optional): Overrides by dotted keys.
        key (str): Config key or option that names the path, for errors.

    Raises:
        ConfigError: If the config does not exist or cannot be read.
    """
    packaged = '::' in path
    if not packaged and not osp.isfile(osp.expanduser(path)):
        raise ConfigError(
            f'{key} {path!r} does not exist; give a config file, or a '
            "packaged config of the form 'mmdet::folder/name.py'."
        )
    try:
        cfg = get_config(path) if packaged else Config.fromfile(path)
    except Exception as error:  # A config is a program.
        raise ConfigError(
            f'{key} {path!r} or one of its base configs cannot be read: '
            f'{type(error).__name__}: {" ".join(str(error).split())}'
        ) from error
    if cfg_options:
        try:
            cfg.merge_from_dict(cfg_options)
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise ConfigError(f'--cfg-options: {error}.') from error
    if not isinstance(cfg.get('model'), dict):
        raise ConfigError(f"{key} {path!r} has no section 'model'.")
    return cfg
