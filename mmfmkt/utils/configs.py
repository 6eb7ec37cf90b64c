"""What more than one place reads of a config, or changes in it."""

from typing import Iterator, Optional

from mmengine.config import Config


def leaf_datasets(dataset: Optional[dict]) -> Iterator[dict]:
    """Yield the data sets within wrappers such as ConcatDataset.

    Args:
        dataset (dict, optional): Config of a data set.
    """
    if not isinstance(dataset, dict):
        return
    inner = dataset.get('datasets') or [dataset.get('dataset')]
    if inner == [None]:
        yield dataset
    for child in inner:
        yield from leaf_datasets(child)


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
