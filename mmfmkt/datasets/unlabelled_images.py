"""A folder of images without annotations."""

from typing import List

from mmengine.dataset import BaseDataset
from mmengine.fileio import get_file_backend, list_dir_or_file

from mmfmkt.registry import DATASETS
from mmfmkt.utils import ConfigError

SUFFIXES = (
    *('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp'),
    *('.ppm', '.pgm'),
)


@DATASETS.register_module()
class UnlabelledImages(BaseDataset):
    """Images of a folder and its subfolders, for training without labels.

    Takes the arguments of `mmengine.dataset.BaseDataset`. The folder is
    ``data_root``, or its subfolder ``data_prefix['img_path']``. Pipelines of
    MMDetection and MMPretrain work without the transforms that need
    annotations.

    Raises:
        ConfigError: If there are no images.
    """

    def load_data_list(self) -> List[dict]:
        """Return ``img_path`` and ``img_id`` of each image, sorted by path."""
        folder = self.data_prefix.get('img_path') or self.data_root
        backend = get_file_backend(folder)
        paths = sorted(
            path
            for path in list_dir_or_file(
                folder, list_dir=False, recursive=True
            )
            if path.lower().endswith(SUFFIXES)
        )
        if not paths:
            raise ConfigError(
                f'train_dataloader.dataset.data_root {folder!r} has no '
                f'images ({", ".join(SUFFIXES)}).'
            )
        return [
            dict(
                img_path=backend.join_path(folder, path),
                img_id=i,
                instances=[],
            )
            for i, path in enumerate(paths)
        ]
