"""Reading, traversal and common modifications of configs."""

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
from .types import importable_type

# Folder of the package with configs and tools; setup.py creates it.
SHIPPED = Path(mmfmkt.__file__).parent / '.mim'


def link_shipped() -> None:
    """Create the folder ``.mim`` in a clone that is not installed.

    MMEngine searches ``mmfmkt::`` configs in it and does not find them where
    it cannot be created, for instance on a read-only disk.
    """
    package = SHIPPED.parent
    setup_file = package.parent / 'setup.py'
    if SHIPPED.exists() or not setup_file.is_file():
        return
    with suppress(OSError, ImportError):
        temporary = Path(mkdtemp(prefix='.mim', dir=package))
        try:
            runpy.run_path(str(setup_file))['make_mim'](temporary, link=True)
            temporary.chmod(0o755)
            # Of several concurrent processes, only the first one succeeds.
            temporary.rename(SHIPPED)
        finally:
            rmtree(temporary, ignore_errors=True)


def shipped_models() -> List[dict]:
    """Return the metafile entries of all shipped configs."""
    return [
        entry
        for name in load(SHIPPED / 'model-index.yml')['Import']
        for entry in load(SHIPPED / name)['Models']
    ]


def imported_modules(cfg: Config) -> List[str]:
    """Return the modules in the ``custom_imports`` of a config."""
    modules = (cfg.get('custom_imports') or {}).get('imports') or []
    return [modules] if isinstance(modules, str) else list(modules)


def add_mmfmkt_import(cfg: Config) -> None:
    """Add mmfmkt to the ``custom_imports`` of a config.

    Args:
        cfg (Config): Changed in place.
    """
    modules = imported_modules(cfg)
    if 'mmfmkt' not in modules:
        cfg.custom_imports = dict(
            cfg.get('custom_imports') or dict(allow_failed_imports=False),
            imports=[*modules, 'mmfmkt'],
        )


def walk(part: Any, key: str = '') -> Iterator[Tuple[str, Any]]:
    """Yield a part of a config and, recursively, its items by dotted key.

    A container is yielded before its items and may be changed then.

    Args:
        part (Any): Nested dicts and sequences, or a value.
        key (str): Key of the part.
    """
    yield key, part
    if isinstance(part, (dict, Config)):
        items = part.items()
    elif isinstance(part, (list, tuple)):
        items = enumerate(part)
    else:
        return
    for name, value in list(items):
        yield from walk(value, f'{key}.{name}' if key else str(name))


def typed_parts(part: Any, key: str = '') -> Iterator[Tuple[str, dict]]:
    """Yield the dicts with ``type`` in a part of a config, as `walk`."""
    for name, value in walk(part, key):
        if isinstance(value, dict) and 'type' in value:
            yield name, value


def with_importable_types(cfg: Config) -> Config:
    """Return a copy of a config that can be dumped and built again.

    Types that a new-style config imports become strings.
    """
    settings = cfg.to_dict()
    for _, part in typed_parts(settings):
        part['type'] = importable_type(part['type'])
    return Config(settings, cfg.text, cfg.filename)


def read_config(
    path: str, cfg_options: Optional[dict] = None, key: str = 'The config'
) -> Config:
    """Read a config and apply overrides.

    Args:
        path (str): A file, or a packaged config such as
            ``'mmfmkt::retinanet/theta_retinanet_r101_r50.py'``.
        cfg_options (dict, optional): Overrides by dotted keys.
        key (str): Config key or option of the path, for errors.

    Raises:
        ConfigError: If the config does not exist or cannot be read.
    """
    path, packaged = osp.expanduser(path), '::' in path
    if not packaged and not osp.isfile(path):
        raise ConfigError(
            f'{key} {path!r} does not exist; pass a config file, or a '
            "packaged config of the form 'mmdet::folder/name.py'."
        )
    try:
        cfg = get_config(path) if packaged else Config.fromfile(path)
    except Exception as error:  # a config is code and may raise any error
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
