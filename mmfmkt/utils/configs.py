"""Changes of a config that more than one place makes."""

from mmengine.config import Config


def import_mmfmkt(cfg: Config) -> None:
    """Have whoever loads a config import mmfmkt, beside what it imports.

    Args:
        cfg (Config): Changed in place.
    """
    imports = cfg.setdefault(
        'custom_imports', dict(imports=[], allow_failed_imports=False))
    if 'mmfmkt' not in imports['imports']:
        imports['imports'] = [*imports['imports'], 'mmfmkt']
