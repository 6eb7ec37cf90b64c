"""Model families of the installed libraries, from their model indices."""

import re
from pathlib import Path
from typing import Iterable, List, NamedTuple
from urllib.parse import unquote

from mmengine.fileio import load
from mmengine.utils import get_installed_path

LIBRARIES = ('mmdet', 'mmpretrain')
# Tasks whose models cannot be students; values: reason.
OTHER_TASKS = {
    'Multiple Object Tracking': 'object tracking in videos',
    'Multi-object Tracking': 'object tracking in videos',
    'Video Instance Segmentation': 'video segmentation',
    'Semi-Supervised Object Detection': 'semi-supervised training method',
    'Image Caption': 'text generation',
    'Visual Question Answering': 'text generation',
    'Visual Grounding': 'reads text',
    'Image-To-Text Retrieval': 'compares images with text',
    'Text-To-Image Retrieval': 'compares images with text',
    'NLVR': 'reads text',
    'Image Retrieval': 'compares images with images',
}
# Patterns of config names, from small to large networks.
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
    """Model family.

    Attributes:
        library (str): ``'mmdet'`` or ``'mmpretrain'``.
        name (str): Name of its folder.
        configs (list[str]): Its configs, relative to the library's
            ``configs``, from small to large.
        reason (str): Why it cannot be a student; empty if it can.
    """

    library: str
    name: str
    configs: List[str]
    reason: str

    @property
    def key(self) -> str:
        """Library and name, the key of its results."""
        return f'{self.library}/{self.name}'


def package_folder(library: str) -> Path:
    """Return the folder of a library's configs, model index and tools."""
    return Path(get_installed_path(library)) / '.mim'


def families(library: str) -> List[Family]:
    """Read the families of an installed library's model index.

    Args:
        library (str): ``'mmdet'`` or ``'mmpretrain'``.
    """
    folder = package_folder(library)
    result = []
    for metafile in load(folder / 'model-index.yml')['Import']:
        path = folder / metafile
        content = load(path)
        models = content['Models'] if isinstance(content, dict) else content
        models = [x for x in models if x.get('Config')]
        tasks = {
            entry['Task']
            for model in models
            for entry in model.get('Results') or []
            if entry.get('Task')
        }
        configs = []
        for model in sorted(models, key=size_key):
            config = find_config(folder, path.parent, unquote(model['Config']))
            if config and config not in configs:
                configs.append(config)
        result.append(
            Family(
                library,
                path.parent.name,
                configs,
                exclusion_reason(tasks, configs),
            )
        )
    return result


def find_config(package: Path, metafile_folder: Path, config: str) -> str:
    """Return a config's path relative to ``configs``; empty if missing.

    Paths in metafiles are relative to the repository or to the metafile.
    """
    for path in (package / config, metafile_folder / Path(config).name):
        if path.is_file():
            return path.relative_to(package / 'configs').as_posix()
    return ''


def exclusion_reason(tasks: Iterable[str], configs: List[str]) -> str:
    """Return why a family cannot be a student; empty if it can."""
    if tasks and set(tasks) <= set(OTHER_TASKS):
        return OTHER_TASKS[sorted(tasks)[0]]
    return '' if configs else 'its configs are not installed'


def size_key(model: dict) -> tuple:
    """Return a sort key: models with results before pretraining, small first.

    Args:
        model (dict): Entry of a model in the index.
    """
    name = Path(unquote(model['Config'])).name
    pretraining = not model.get('Results') or 'headless' in name
    # ``Metadata`` may be None.
    parameters = (model.get('Metadata') or {}).get('Parameters', 0)
    size = next(
        (i for i, x in enumerate(SIZES) if re.search(x, name)), len(SIZES)
    )
    return pretraining, parameters, size, len(name), name
