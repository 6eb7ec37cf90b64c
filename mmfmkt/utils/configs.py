"""What more than one place reads of a config, or changes in it."""

from mmengine.config import Config


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
