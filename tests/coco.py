"""Small data sets in COCO format."""

import json

import cv2
import numpy as np

CLASSES = ('cat', 'dog', 'bird')


def coco_folder(root, masks=True, images=4, side=64, classes=CLASSES):
    """Write images with two boxes each, and the polygons of these boxes."""
    generator = np.random.default_rng(0)
    (root / 'annotations').mkdir(parents=True)
    for split in ('train', 'val'):
        (root / split).mkdir()
        content = dict(images=[], annotations=[], categories=[])
        for i, name in enumerate(classes):
            content['categories'].append(dict(id=i + 1, name=name))
        for i in range(images):
            pixels = generator.integers(0, 255, (side, side, 3), np.uint8)
            cv2.imwrite(str(root / split / f'{i}.jpg'), pixels)
            content['images'].append(
                dict(id=i, file_name=f'{i}.jpg', width=side, height=side)
            )
            for x in (4, 24):
                y, width, height = 6, 24, 30
                annotation = dict(
                    id=len(content['annotations']) + 1,
                    image_id=i,
                    category_id=1 + (i + x) % len(classes),
                    bbox=[x, y, width, height],
                    area=width * height,
                    iscrowd=0,
                )
                if masks:
                    right, bottom = x + width, y + height
                    annotation['segmentation'] = [
                        [x, y, right, y, right, bottom, x, bottom]
                    ]
                content['annotations'].append(annotation)
        path = root / 'annotations' / f'instances_{split}.json'
        path.write_text(json.dumps(content))
    return root
