"""Conversions of the generated data sets to other layouts."""

import csv
import json
import pickle
import shutil
from pathlib import Path

import cv2
import numpy as np
from dev.soundness.data import (
    CLASSES,
    COUNTS,
    annotation,
    change_json,
    draw_shapes,
    read_json,
    write_json,
)


def as_lvis(root: Path) -> None:
    """Convert to LVIS: URLs instead of ``file_name``, and frequencies."""

    def change(content: dict, split: str) -> None:
        for image in content['images']:
            name = image.pop('file_name')
            image['coco_url'] = f'http://images.cocodataset.org/{split}/{name}'
            image.update(neg_category_ids=[], not_exhaustive_category_ids=[])
        for category in content['categories']:
            category.update(frequency='f', synset='x.n.01')

    for split in COUNTS:
        change_json(root, lambda x, split=split: change(x, split), split)


def as_objects365(root: Path) -> None:
    """Convert to Objects365: file names have folders that do not exist."""
    for split in COUNTS:
        patch = root / split / 'patch0'
        patch.mkdir()
        for path in (root / split).glob('*.png'):
            path.rename(patch / path.name)

    def change(content: dict) -> None:
        for image in content['images']:
            image['file_name'] = f'images/v2/patch0/{image["file_name"]}'

    change_json(root, change)


def as_open_images(root: Path) -> None:
    """Convert to OpenImages: CSV files, a hierarchy and image sizes."""
    names = ['/m/0', '/m/1', '/m/2']
    folder = root / 'annotations'
    with open(folder / 'classes.csv', 'w') as file:
        csv.writer(file).writerows(zip(names, CLASSES))
    leaves = [dict(LabelName=x) for x in names]
    write_json(
        folder / 'hierarchy.json',
        dict(LabelName='/m/top', Subcategory=leaves),
    )
    for split in COUNTS:
        content = read_json(folder / f'{split}.json')
        rows = [['ImageID', *'abcdefghijkl']]
        metas = []
        for image in content['images']:
            png = root / split / image['file_name']
            cv2.imwrite(str(png.with_suffix('.jpg')), cv2.imread(str(png)))
            png.unlink()
            metas.append(
                dict(filename=f'{png.stem}.jpg', ori_shape=(64, 64, 3))
            )
            for item in content['annotations']:
                if item['image_id'] == image['id']:
                    x, y, w, h = (z / 64 for z in item['bbox'])
                    rows.append(
                        [
                            png.stem,
                            'xclick',
                            names[item['category_id'] - 1],
                            1,
                            x,
                            x + w,
                            y,
                            y + h,
                            *[0] * 5,
                        ]
                    )
        with open(folder / f'{split}.csv', 'w') as file:
            csv.writer(file).writerows(rows)
        (folder / f'{split}.pkl').write_bytes(pickle.dumps(metas))
        (folder / f'{split}.json').unlink()


def as_voc(root: Path) -> None:
    """Convert to Pascal VOC: XML files and lists of names."""
    voc = root / 'VOC2007'
    for part in ('JPEGImages', 'Annotations', 'ImageSets/Main'):
        (voc / part).mkdir(parents=True)
    for split in COUNTS:
        content = read_json(root / 'annotations' / f'{split}.json')
        names = []
        for image in content['images']:
            png = root / split / image['file_name']
            name = f'{split}_{png.stem}'
            names.append(name)
            cv2.imwrite(
                str(voc / 'JPEGImages' / f'{name}.jpg'), cv2.imread(str(png))
            )
            objects = ''
            for item in content['annotations']:
                if item['image_id'] == image['id']:
                    x, y, w, h = item['bbox']
                    objects += (
                        f'<object><name>{CLASSES[item["category_id"] - 1]}'
                        '</name><difficult>0</difficult><bndbox>'
                        f'<xmin>{x + 1}</xmin><ymin>{y + 1}</ymin>'
                        f'<xmax>{x + w}</xmax><ymax>{y + h}</ymax>'
                        '</bndbox></object>'
                    )
            (voc / 'Annotations' / f'{name}.xml').write_text(
                '<annotation><size><width>64</width><height>64</height>'
                f'<depth>3</depth></size>{objects}</annotation>'
            )
        (voc / 'ImageSets/Main' / f'{split}.txt').write_text('\n'.join(names))
        shutil.rmtree(root / split)
    shutil.rmtree(root / 'annotations')


def as_crowd_human(root: Path) -> None:
    """Convert to CrowdHuman: a JSON line for each image."""
    for split in COUNTS:
        path = root / 'annotations' / f'{split}.json'
        content = read_json(path)
        lines = []
        for image in content['images']:
            png = root / split / image['file_name']
            name = f'{split}{png.stem}'
            cv2.imwrite(
                str(root / split / f'{name}.jpg'), cv2.imread(str(png))
            )
            boxes = [
                dict(
                    tag='person',
                    fbox=x['bbox'],
                    vbox=x['bbox'],
                    hbox=x['bbox'],
                    head_attr=dict(ignore=0),
                    extra=dict(ignore=0),
                )
                for x in content['annotations']
                if x['image_id'] == image['id']
            ]
            lines.append(json.dumps(dict(ID=name, gtboxes=boxes)))
        (root / f'annotation_{split}.odgt').write_text('\n'.join(lines))


def with_crowds(root: Path) -> None:
    """Add crowd regions as run lengths."""

    def change(content: dict) -> None:
        for image in content['images']:
            content['annotations'].append(
                dict(
                    id=900 + image['id'],
                    image_id=image['id'],
                    category_id=2,
                    bbox=[4, 0, 16, 64],
                    area=1024,
                    iscrowd=1,
                    segmentation=dict(counts=[256, 1024, 2816], size=[64, 64]),
                )
            )

    change_json(root, change)


def without_area(root: Path) -> None:
    """Remove the areas of training annotations."""
    change_json(
        root, lambda x: [y.pop('area') for y in x['annotations']], 'train'
    )


def with_gaps(root: Path) -> None:
    """Make ids non-contiguous."""
    ids = {1: 90, 2: 7, 3: 1005}

    def change(content: dict) -> None:
        for image in content['images']:
            image['id'] = 10**9 + 1000 * image['id']
        for item in content['annotations']:
            item['id'] = 77 * item['id']
            item['image_id'] = 10**9 + 1000 * item['image_id']
            item['category_id'] = ids[item['category_id']]
        for category in content['categories']:
            category['id'] = ids[category['id']]

    change_json(root, change)


def with_text_ids(root: Path) -> None:
    """Make image ids strings."""

    def change(content: dict) -> None:
        for image in content['images']:
            image['id'] = f'image-{image["id"]}'
        for item in content['annotations']:
            item['image_id'] = f'image-{item["image_id"]}'

    change_json(root, change, 'train')


def with_numeric_names(root: Path) -> None:
    """Make category names numbers."""

    def change(content: dict) -> None:
        for category in content['categories']:
            category['name'] = category['id']

    change_json(root, change)


def with_empty_images(root: Path) -> None:
    """Add images without objects."""
    for split in COUNTS:
        image, _ = draw_shapes(7, [])
        cv2.imwrite(str(root / split / 'empty.png'), image)

    def change(content: dict) -> None:
        content['images'].insert(
            0, dict(id=800, file_name='empty.png', width=64, height=64)
        )

    change_json(root, change)


def with_absent_images(root: Path) -> None:
    """List images without boxes, whose files are missing."""

    def change(content: dict) -> None:
        content['images'].append(
            dict(id=800, file_name='absent.png', width=64, height=64)
        )

    change_json(root, change, 'train')


def with_ignored(root: Path) -> None:
    """Add ignored annotations without boxes."""

    def change(content: dict) -> None:
        content['annotations'].append(
            dict(id=900, image_id=1, category_id=1, area=1, ignore=True)
        )

    change_json(root, change, 'train')


def with_invalid_boxes(root: Path) -> None:
    """Add boxes outside the image, empty boxes and an unknown category."""

    def change(content: dict) -> None:
        for index, box in enumerate(
            ([200, 200, 9, 9], [5, 5, 0, 9], [5, 5, 9, 9])
        ):
            content['annotations'].append(annotation(900 + index, 1, 9, box))

    change_json(root, change, 'train')


def without_annotations(root: Path) -> None:
    """Write an annotation file without annotations."""
    content = read_json(root / 'annotations/val.json')
    del content['annotations']
    write_json(root / 'annotations/image_info.json', content)


def as_arrays(root: Path) -> None:
    """Store images as NumPy files."""
    for path in root.rglob('*.png'):
        np.save(path.with_suffix('.npy'), cv2.imread(str(path)))
        path.unlink()

    if (root / 'annotations').exists():

        def change(content: dict) -> None:
            for image in content['images']:
                image['file_name'] = image['file_name'][:-4] + '.npy'

        change_json(root, change)


def as_archives(root: Path) -> None:
    """Store images in archives."""
    for split in COUNTS:
        shutil.make_archive(str(root / split), 'zip', root / split)
        shutil.rmtree(root / split)


def with_unusual_names(root: Path) -> None:
    """Use spaces and accents in names of folders and files."""
    for split in COUNTS:
        folder = root / f'{split} für alle'
        (root / split).rename(folder)
        for path in folder.glob('*.png'):
            path.rename(folder / f'ein Bild é{path.name}')

    def change(content: dict) -> None:
        for image in content['images']:
            image['file_name'] = f'ein Bild é{image["file_name"]}'

    change_json(root, change)


def with_image_lists(root: Path) -> None:
    """Write lists of images, and add files that are not images."""
    for split in COUNTS:
        paths = sorted((root / split).rglob('*.png'))
        lines = [
            f'{x.relative_to(root / split)} {CLASSES.index(x.parent.name)}'
            for x in paths
        ]
        (root / f'{split}.txt').write_text('\n'.join(lines) + '\n')
        add_foreign_files(root / split / 'disk')
        (root / split / 'disk' / 'broken.jpg').write_bytes(b'no picture')
        (root / split / 'drafts').mkdir()
        (root / split / 'drafts' / 'half.png').write_bytes(b'')


def add_foreign_files(folder: Path) -> None:
    """Add files of operating systems."""
    (folder / '.DS_Store').write_bytes(b'\0\0\0\1Bud1')
    (folder / 'Thumbs.db').write_bytes(b'\xd0\xcf\x11\xe0')
    (folder / 'README.txt').write_text('Pictures.')


def with_foreign_files(root: Path) -> None:
    """Add files of operating systems, and other image formats."""
    add_foreign_files(root / 'train' / 'disk')
    image, _ = draw_shapes(5, [1], 32, 32)
    for name in ('a.JPEG', 'b.webp', 'c.BMP'):
        cv2.imwrite(str(root / 'train' / 'square' / name), image)


def as_imagenet(root: Path) -> None:
    """Convert to ImageNet: lists of images in meta/."""
    with_image_lists(root)
    (root / 'meta').mkdir()
    for split in COUNTS:
        (root / f'{split}.txt').rename(root / 'meta' / f'{split}.txt')


def multi_label(root: Path) -> None:
    """Write images with several classes to a JSON file."""
    for split in COUNTS:
        paths = sorted((root / split).rglob('*.png'))
        rows = [
            dict(
                img_path=str(x.relative_to(root / split)),
                gt_label=[CLASSES.index(x.parent.name), index % 3],
            )
            for index, x in enumerate(paths)
        ]
        write_json(
            root / f'{split}.json',
            dict(metainfo=dict(classes=CLASSES), data_list=rows),
        )


def with_second_data_set(root: Path) -> None:
    """Copy the data set, with other class names."""
    other = root.parent / 'other'
    shutil.copytree(root, other)

    def change(content: dict) -> None:
        for category in content['categories']:
            category['name'] = f'my {category["name"]}'

    change_json(other, change)
