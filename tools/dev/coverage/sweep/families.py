"""The families of the installed libraries, from their model indices."""

import re
from pathlib import Path
from typing import Iterable, List, NamedTuple
from urllib.parse import unquote

from mmengine.fileio import load
from mmengine.utils import get_installed_path

LIBRARIES = ('mmdet', 'mmpretrain')
# What these tasks train on is not what a student learns from.
OTHER_TASKS = {
    'Multiple Object Tracking': 'tracks objects in videos',
    'Multi-object Tracking': 'tracks objects in videos',
    'Video Instance Segmentation': 'segments videos',
    'Semi-Supervised Object Detection': 'is a way of training of its own',
    'Image Caption': 'writes text',
    'Visual Question Answering': 'writes text',
    'Visual Grounding': 'reads text',
    'Image-To-Text Retrieval': 'compares images with text',
    'Text-To-Image Retrieval': 'compares images with text',
    'NLVR': 'reads text',
    'Image Retrieval': 'learns to compare images, not to name them',
}
# The smallest first; what has none of these comes last.
SIZES = (
    'tiny',
    'nano',
    'r18',
    'mobilenet',
    r'\bt[-_]',
    'swin-t',
    'r50',
    r's[-_]',
)


class Family(NamedTuple):
    """A family of models.

    Attributes:
        library (str): ``'mmdet'`` or ``'mmpretrain'``.
        name (str): Its folder.
        configs (list[str]): Its configs, below the library's ``configs``,
            the smallest first.
        reason (str): Why it cannot be a student; empty if it may.
    """

    library: str
    name: str
    configs: List[str]
    reason: str

    @property
    def key(self) -> str:
        """Its name among those of all libraries."""
        return f'{self.library}/{self.name}'


def home_of(library: str) -> Path:
    """Where an installed library keeps its configs, index and tools."""
    return Path(get_installed_path(library)) / '.mim'


def families(library: str) -> List[Family]:
    """Read the families of an installed library's model index.

    Args:
        library (str): ``'mmdet'`` or ``'mmpretrain'``.
    """
    home = home_of(library)
    found = []
    for metafile in load(home / 'model-index.yml')['Import']:
        path = home / metafile
        content = load(path)
        models = content['Models'] if isinstance(content, dict) else content
        models = [x for x in models if x.get('Config')]
        tasks = {
            result['Task']
            for model in models
            for result in model.get('Results') or []
            if result.get('Task')
        }
        configs = []
        for model in sorted(models, key=rank):
            config = located(home, path.parent, unquote(model['Config']))
            if config and config not in configs:
                configs.append(config)
        found.append(
            Family(library, path.parent.name, configs, why_not(tasks, configs))
        )
    return found


def located(home: Path, folder: Path, config: str) -> str:
    """Where a config of the index is below ``configs``, or nothing.

    Some are named from the top, some by their file alone.
    """
    for path in (home / config, folder / Path(config).name):
        if path.is_file():
            return path.relative_to(home / 'configs').as_posix()
    return ''


def why_not(tasks: Iterable[str], configs: List[str]) -> str:
    """Return why a family of such tasks cannot be a student, if so."""
    if tasks and set(tasks) <= set(OTHER_TASKS):
        return OTHER_TASKS[sorted(tasks)[0]]
    return '' if configs else 'its configs are not installed'


def rank(model: dict) -> tuple:
    """A key that sorts what trains a network for a task, if small, first.

    Args:
        model (dict): A model's entry in the index.
    """
    name = Path(unquote(model['Config'])).name
    pretraining = not model.get('Results') or 'headless' in name
    # A ``Metadata`` may be there and empty.
    parameters = (model.get('Metadata') or {}).get('Parameters', 0)
    size = next(
        (i for i, x in enumerate(SIZES) if re.search(x, name)), len(SIZES)
    )
    return pretraining, parameters, size, len(name), name
