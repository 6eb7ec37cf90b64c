"""Conversion of data sets in COCO format to YOLO and Pascal VOC format."""

import json
import shutil
from xml.etree import ElementTree

import yaml

SPLITS = ('train', 'val')


def read_coco(root, split, limit=None):
    """Return the content of an annotation file, and objects by image."""
    content = json.loads(
        (root / f'annotations/instances_{split}.json').read_text()
    )
    content['images'] = content['images'][:limit]
    objects = {x['id']: [] for x in content['images']}
    for annotation in content['annotations']:
        if annotation['image_id'] in objects:
            objects[annotation['image_id']].append(annotation)
    return content, objects


def to_yolo(coco, root, limit=None, masks=False):
    """Write a data set in YOLO format."""
    names = None
    for split in SPLITS:
        content, objects = read_coco(coco, split, limit)
        names = [x['name'] for x in content['categories']]
        index = {x['id']: i for i, x in enumerate(content['categories'])}
        (root / 'images' / split).mkdir(parents=True)
        (root / 'labels' / split).mkdir(parents=True)
        for image in content['images']:
            file = image['file_name']
            shutil.copy(coco / split / file, root / 'images' / split / file)
            size = image['width'], image['height']
            lines = []
            for x in objects[image['id']]:
                left, top, width, height = x['bbox']
                values = left + width / 2, top + height / 2, width, height
                if masks:
                    values = x['segmentation'][0]
                relative = (v / size[i % 2] for i, v in enumerate(values))
                category = index[x['category_id']]
                lines.append(' '.join(map(str, [category, *relative])))
            if lines:
                label = root / 'labels' / split / file
                label.with_suffix('.txt').write_text('\n'.join(lines))
    config = dict(path='.', train='images/train', val='images/val')
    (root / 'data.yaml').write_text(yaml.safe_dump(config | dict(names=names)))
    return root


def to_voc(coco, root, limit=None):
    """Write a data set in Pascal VOC format."""
    for folder in ('JPEGImages', 'Annotations', 'ImageSets/Main'):
        (root / folder).mkdir(parents=True)
    for split in SPLITS:
        content, objects = read_coco(coco, split, limit)
        names = {x['id']: x['name'] for x in content['categories']}
        ids = []
        for image in content['images']:
            source = coco / split / image['file_name']
            ids.append(f'{split}_{source.stem}')
            target = root / 'JPEGImages' / f'{ids[-1]}{source.suffix}'
            shutil.copy(source, target)
            tree = ElementTree.Element('annotation')
            size = ElementTree.SubElement(tree, 'size')
            for key in ('width', 'height'):
                ElementTree.SubElement(size, key).text = str(image[key])
            for x in objects[image['id']]:
                part = ElementTree.SubElement(tree, 'object')
                name = names[x['category_id']]
                ElementTree.SubElement(part, 'name').text = name
                difficult = str(x.get('iscrowd', 0))
                ElementTree.SubElement(part, 'difficult').text = difficult
                box = ElementTree.SubElement(part, 'bndbox')
                left, top, width, height = x['bbox']
                corners = left, top, left + width, top + height
                for key, value in zip(
                    ('xmin', 'ymin', 'xmax', 'ymax'), corners
                ):
                    ElementTree.SubElement(box, key).text = str(value + 1)
            ElementTree.ElementTree(tree).write(
                root / 'Annotations' / f'{ids[-1]}.xml'
            )
        (root / f'ImageSets/Main/{split}.txt').write_text('\n'.join(ids))
    return root
