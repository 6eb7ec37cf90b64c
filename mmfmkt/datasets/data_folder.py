"""Detection datasets in COCO, YOLO and Pascal VOC format.

YOLO and VOC annotations are converted to COCO format. Images stay in place.
"""

from pathlib import Path

from .annotated_image import to_coco
from .coco_folder import SPLITS, CocoFolder, find_coco_folder
from .voc_folder import read_voc
from .yolo_folder import read_yolo


def find_data_folder(root: str, out_dir: Path) -> CocoFolder:
    """Find the splits of a dataset in COCO, YOLO or Pascal VOC format.

    Args:
        root (str): Root folder with ``annotations/*.json`` (COCO),
            ``data.yaml`` (YOLO) or ``JPEGImages/`` (VOC).
        out_dir (Path): Folder of converted annotation files;
            `CocoFolder.write` writes them.

    Raises:
        ConfigError: If a file is missing or cannot be read.
    """
    path = Path(root).resolve()
    is_coco = any((path / 'annotations').glob('*.json'))
    if (path / 'data.yaml').exists() and not is_coco:
        format_name, read = 'YOLO', read_yolo
    elif (path / 'JPEGImages').exists() and not is_coco:
        format_name, read = 'Pascal VOC', read_voc
    else:
        return find_coco_folder(root)
    classes, images = read(path)
    splits = [
        to_coco(path, split, images[split], classes, out_dir.resolve())
        for split in SPLITS
    ]
    return CocoFolder(path, *splits, format_name)
