"""Inputs with unusual layouts, locations and annotations of data sets."""

from dev.soundness import layouts
from dev.soundness.trial import Command, Input, command

OWN_DATA_SET = """
from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS


@DATASETS.register_module()
class NoAreaDataset(CocoDataset):
    def parse_data_info(self, raw_data_info):
        for item in raw_data_info['raw_ann_info']:
            item.setdefault('area', item['bbox'][2] * item['bbox'][3])
        return super().parse_data_info(raw_data_info)
"""
OWN_LOADER = """
import numpy as np
from mmcv.transforms import TRANSFORMS, BaseTransform


@TRANSFORMS.register_module()
class LoadArray(BaseTransform):
    def transform(self, results):
        results['img'] = np.load(results['img_path'])
        results['img_shape'] = results['img'].shape[:2]
        results['ori_shape'] = results['img'].shape[:2]
        return results
"""
OWN_STORAGE = """
import zipfile

from mmengine.fileio import LocalBackend, register_backend


@register_backend('pack', prefixes='pack')
class PackBackend(LocalBackend):
    def get(self, filepath):
        folder, name = str(filepath).rsplit('/', 1)
        with zipfile.ZipFile(folder + '.zip') as file:
            return file.read(name)
"""
IMPORTS = "custom_imports = dict(imports=['mine'])\n"
OPEN_IMAGES = """
common = dict(
    _delete_=True,
    type='OpenImagesDataset',
    data_root=_base_.data_root,
    label_file='annotations/classes.csv',
    hierarchy_file='annotations/hierarchy.json')
train_dataloader = dict(
    dataset=dict(
        **common,
        ann_file='annotations/train.csv',
        data_prefix=dict(img='train/'),
        meta_file='annotations/train.pkl',
        pipeline=_base_.train_pipeline))
val_dataloader = dict(
    dataset=dict(
        **common,
        ann_file='annotations/val.csv',
        data_prefix=dict(img='val/'),
        meta_file='annotations/val.pkl',
        pipeline=[
            *_base_.test_pipeline[:-1],
            dict(
                type='PackDetInputs',
                meta_keys=(
                    'img_id', 'img_path', 'ori_shape', 'img_shape',
                    'scale_factor', 'instances', 'image_level_labels'))]))
test_dataloader = val_dataloader
del common
val_evaluator = dict(
    _delete_=True,
    type='OpenImagesMetric',
    iou_thrs=0.5,
    ioa_thrs=0.5,
    use_group_of=True,
    get_supercategory=True)
test_evaluator = val_evaluator
"""


def both(settings: str) -> str:
    """Return the config text that sets keys of both data sets."""
    return (
        f'train_dataloader = dict(dataset=dict({settings}))\n'
        f'val_dataloader = dict(dataset=dict({settings}))\n'
        'test_dataloader = val_dataloader\n'
    )


def on_another(*options: str) -> Command:
    """Return the command that distills on another folder in COCO format."""
    return command(
        '{tools}/distill.py',
        '{config}',
        '--teacher',
        '{teacher}',
        '--data-root',
        '{folder}/other',
        '--work-dir',
        '{folder}/on_another',
        *options,
        written_file='{folder}/on_another/*.pth',
    )


def lvis_beside(root) -> None:
    """Convert to LVIS, beside a copy in COCO format."""
    layouts.with_second_data_set(root)
    layouts.as_lvis(root)


def open_images_beside(root) -> None:
    """Convert to OpenImages, beside a copy in COCO format."""
    layouts.with_second_data_set(root)
    layouts.as_open_images(root)


def other_without_masks(root) -> None:
    """Copy the folder without masks."""
    layouts.with_second_data_set(root)
    layouts.change_json(
        root.parent / 'other',
        lambda x: [y.pop('segmentation') for y in x['annotations']],
    )


INPUTS = [
    Input(
        'lvis-layout',
        'LVISV1Dataset with coco_url, no file_name, in ClassBalancedDataset',
        'retinanet',
        """
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ClassBalancedDataset',
        oversample_thr=0.001,
        dataset=dict(
            type='LVISV1Dataset',
            data_root=_base_.data_root,
            metainfo=_base_.metainfo,
            ann_file='annotations/train.json',
            data_prefix=dict(img=''),
            filter_cfg=dict(filter_empty_gt=True, min_size=32),
            pipeline=_base_.train_pipeline)))
val_dataloader = dict(
    dataset=dict(type='LVISV1Dataset', data_prefix=dict(img='')))
test_dataloader = val_dataloader
""",
        layouts.as_lvis,
        variant='fmkt',
    ),
    Input(
        'lvis-metric',
        'LVISMetric',
        'mask_rcnn',
        both("type='LVISV1Dataset', data_prefix=dict(img='')")
        + """
val_evaluator = dict(type='LVISMetric')
test_evaluator = val_evaluator
""",
        layouts.as_lvis,
        required_packages=('lvis',),
    ),
    Input(
        'objects365-layout',
        'Objects365V2Dataset: file names with folders that do not exist',
        'retinanet',
        both("type='Objects365V2Dataset'"),
        layouts.as_objects365,
    ),
    Input(
        'openimages-layout',
        'OpenImagesDataset: CSV, hierarchy, pickled sizes, and its metric',
        'retinanet',
        OPEN_IMAGES,
        layouts.as_open_images,
    ),
    Input(
        'voc-layout',
        'VOCDataset: XML files and a list of names, in RepeatDataset',
        'retinanet',
        """
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='RepeatDataset',
        times=2,
        dataset=dict(
            type='VOCDataset',
            data_root=_base_.data_root,
            metainfo=_base_.metainfo,
            ann_file='VOC2007/ImageSets/Main/train.txt',
            data_prefix=dict(sub_data_root='VOC2007/'),
            filter_cfg=dict(
                filter_empty_gt=True, min_size=32, bbox_min_size=4),
            pipeline=_base_.train_pipeline)))
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='VOCDataset',
        data_root=_base_.data_root,
        metainfo=_base_.metainfo,
        ann_file='VOC2007/ImageSets/Main/val.txt',
        data_prefix=dict(sub_data_root='VOC2007/'),
        test_mode=True,
        pipeline=_base_.test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(
    _delete_=True, type='VOCMetric', metric='mAP', eval_mode='11points')
test_evaluator = val_evaluator
""",
        layouts.as_voc,
    ),
    Input(
        'crowdhuman-layout',
        'CrowdHumanDataset: odgt files; a metric of several processes',
        'retinanet',
        """
model = dict(bbox_head=dict(num_classes=1))
common = dict(
    _delete_=True, type='CrowdHumanDataset', data_root=_base_.data_root)
train_dataloader = dict(
    dataset=dict(
        **common,
        ann_file='annotation_train.odgt',
        data_prefix=dict(img='train/'),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=_base_.train_pipeline))
val_dataloader = dict(
    dataset=dict(
        **common,
        ann_file='annotation_val.odgt',
        data_prefix=dict(img='val/'),
        test_mode=True,
        pipeline=_base_.test_pipeline))
test_dataloader = val_dataloader
del common
val_evaluator = dict(
    _delete_=True,
    type='CrowdHumanMetric',
    ann_file='{data}/annotation_val.odgt',
    metric=['AP', 'MR', 'JI'],
    num_ji_process=2)
test_evaluator = val_evaluator
""",
        layouts.as_crowd_human,
    ),
    Input(
        'cityscapes-data-root',
        'a student of CityscapesDataset, RepeatDataset and two evaluators; '
        'distill.py --data-root trains it on another folder',
        'mask_rcnn',
        """
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='RepeatDataset',
        times=2,
        dataset=dict(
            type='CityscapesDataset',
            data_root=_base_.data_root,
            metainfo=_base_.metainfo,
            ann_file='annotations/train.json',
            data_prefix=dict(img='train/'),
            filter_cfg=dict(filter_empty_gt=True, min_size=32),
            pipeline=_base_.train_pipeline)))
val_dataloader = dict(dataset=dict(type='CityscapesDataset'))
test_dataloader = val_dataloader
val_evaluator = [
    dict(
        type='CocoMetric',
        ann_file='{data}/annotations/val.json',
        metric=['bbox', 'segm']),
    dict(
        type='CocoMetric',
        ann_file='{data}/annotations/val.json',
        metric='proposal_fast',
        prefix='proposals')]
test_evaluator = val_evaluator
""",
        layouts.with_second_data_set,
        distil=[on_another()],
    ),
    Input(
        'lvis-data-root',
        'a student of LVISV1Dataset; distill.py --data-root trains it on '
        'another folder',
        'retinanet',
        both("type='LVISV1Dataset', data_prefix=dict(img='')"),
        lvis_beside,
        distil=[on_another()],
    ),
    Input(
        'openimages-data-root',
        'a student of OpenImagesDataset; distill.py --data-root trains it on '
        'another folder',
        'retinanet',
        OPEN_IMAGES,
        open_images_beside,
        distil=[on_another()],
    ),
    Input(
        'masks-on-boxes',
        'distill.py --data-root with a mask student on a folder without '
        'masks: the error message is about masks',
        'mask_rcnn',
        prepare=other_without_masks,
        distil=[
            on_another()._replace(
                code=2, output_pattern='--data-root.*mask', written_file=''
            )
        ],
    ),
    Input(
        'rle-crowds',
        'crowd regions (iscrowd) as run lengths',
        'mask_rcnn',
        prepare=layouts.with_crowds,
    ),
    Input(
        'no-area',
        'annotations without area, which a user-defined data set adds',
        'retinanet',
        IMPORTS
        + "train_dataloader = dict(dataset=dict(type='NoAreaDataset'))\n",
        layouts.without_area,
        {'mine.py': OWN_DATA_SET},
    ),
    Input(
        'ids-with-gaps',
        'ids of images, boxes and categories that are not contiguous',
        'retinanet',
        prepare=layouts.with_gaps,
    ),
    Input(
        'ids-of-text',
        'image ids that are strings',
        'retinanet',
        prepare=layouts.with_text_ids,
    ),
    Input(
        'classes-of-numbers',
        'categories whose names are numbers',
        'retinanet',
        both('metainfo=dict(classes=(1, 2, 3))'),
        layouts.with_numeric_names,
    ),
    Input(
        'empty-images',
        'images without objects, also used for training',
        'retinanet',
        """
train_dataloader = dict(
    dataset=dict(filter_cfg=dict(filter_empty_gt=False)))
""",
        layouts.with_empty_images,
    ),
    Input(
        'absent-images',
        'listed images without files, which the data set filters out',
        'retinanet',
        prepare=layouts.with_absent_images,
    ),
    Input(
        'ignored-without-box',
        'ignored annotations without a box',
        'retinanet',
        prepare=layouts.with_ignored,
    ),
    Input(
        'boxes-left-out',
        'boxes outside the image, empty boxes, unlisted categories',
        'retinanet',
        prepare=layouts.with_invalid_boxes,
    ),
    Input(
        'no-filter',
        'filter_cfg=None',
        'retinanet',
        'train_dataloader = dict(dataset=dict(filter_cfg=None))',
    ),
    Input(
        'indices',
        'the first images only; files of the others are missing',
        'retinanet',
        'train_dataloader = dict(dataset=dict(indices=2))',
        lambda root: (root / 'train' / '003.png').unlink(),
    ),
    Input(
        'json-without-annotations',
        'test set without annotations, for format_only',
        'retinanet',
        """
test_dataloader = dict(
    dataset=dict(ann_file='annotations/image_info.json'))
test_evaluator = dict(
    ann_file='{data}/annotations/image_info.json',
    format_only=True,
    outfile_prefix='{folder}/results')
""",
        layouts.without_annotations,
        plain=[
            command(
                '{here}/plain.py',
                '--test',
                '{config}',
                '{folder}/plain_test',
                '{plain_pth}',
                written_file='{folder}/results.bbox.json',
            )
        ],
        train=[command('{tools}/test.py', '{config}', '{train_pth}')],
        distil=[command('{tools}/test.py', '{distil}', '{distilled_pth}')],
    ),
    Input(
        'own-storage',
        'images in archives, read by a user-defined file backend',
        'retinanet',
        IMPORTS
        + """
train_pipeline = _base_.train_pipeline
train_pipeline[0] = dict(
    type='LoadImageFromFile', backend_args=dict(backend='pack'))
test_pipeline = _base_.test_pipeline
test_pipeline[0] = train_pipeline[0]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
""",
        layouts.as_archives,
        {'mine.py': OWN_STORAGE},
    ),
    Input(
        'own-loader',
        'images in .npy files, read by a user-defined transform',
        'retinanet',
        IMPORTS
        + """
train_pipeline = _base_.train_pipeline
train_pipeline[0] = dict(type='LoadArray')
test_pipeline = _base_.test_pipeline
test_pipeline[0] = train_pipeline[0]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
""",
        layouts.as_arrays,
        {'mine.py': OWN_LOADER},
        variant='fmkt',
    ),
    Input(
        'own-loader-classifier',
        'images in .npy files, read by a user-defined transform',
        'resnet',
        IMPORTS
        + """
train_pipeline = [dict(type='LoadArray'), dict(type='PackInputs')]
train_dataloader = dict(
    dataset=dict(extensions=('.npy',), pipeline=train_pipeline))
val_dataloader = dict(
    dataset=dict(extensions=('.npy',), pipeline=train_pipeline))
test_dataloader = val_dataloader
""",
        layouts.as_arrays,
        {'mine.py': OWN_LOADER},
    ),
    Input(
        'odd-file-names',
        'spaces and accents in names of folders and files',
        'retinanet',
        """
train_dataloader = dict(
    dataset=dict(data_prefix=dict(img='train für alle')))
val_dataloader = dict(dataset=dict(data_prefix=dict(img='val für alle')))
test_dataloader = val_dataloader
""",
        layouts.with_unusual_names,
    ),
    Input(
        'absolute-paths',
        'no data_root: absolute paths of annotations and images',
        'retinanet',
        """
train_dataloader = dict(
    dataset=dict(
        data_root=None,
        ann_file='{data}/annotations/train.json',
        data_prefix=dict(img='{data}/train')))
val_dataloader = dict(
    dataset=dict(
        data_root='',
        ann_file='{data}/annotations/val.json',
        data_prefix=dict(img='{data}/val')))
test_dataloader = val_dataloader
""",
    ),
    Input(
        'list-files',
        'CustomDataset with ann_file, beside broken and foreign files',
        'resnet',
        """
train_dataloader = dict(dataset=dict(ann_file='train.txt'))
val_dataloader = dict(dataset=dict(ann_file='val.txt'))
test_dataloader = val_dataloader
""",
        layouts.with_image_lists,
        variant='fmkt',
    ),
    Input(
        'foreign-files',
        'files of operating systems in folders; .JPEG, .BMP and .webp',
        'resnet',
        """
train_dataloader = dict(
    dataset=dict(extensions=('.png', '.jpeg', '.bmp', '.webp')))
""",
        layouts.with_foreign_files,
    ),
    Input(
        'imagenet-layout',
        'ImageNet with split and five of its classes in head and lists',
        'resnet',
        both(
            "_delete_=True, type='ImageNet', data_root=_base_.data_root, "
            "classes=['disk', 'square', 'bar'], pipeline=_base_.test_pipeline"
        )
        + """
train_dataloader['dataset']['split'] = 'train'
val_dataloader['dataset']['split'] = 'val'
""",
        layouts.as_imagenet,
    ),
    Input(
        'classes-in-a-file',
        'class names in a file, data_prefix as a dict',
        'resnet',
        """
train_dataloader = dict(
    dataset=dict(
        classes='{data}/classes.txt',
        data_prefix=dict(_delete_=True, img_path='train')))
val_dataloader = dict(
    dataset=dict(
        classes='{data}/classes.txt',
        data_prefix=dict(_delete_=True, img_path='val')))
test_dataloader = val_dataloader
""",
        lambda root: (root / 'classes.txt').write_text('bar\ndisk\nsquare\n'),
    ),
    Input(
        'multi-label',
        'MultiLabelDataset, a multi-label head, mAP',
        'resnet',
        """
model = dict(
    head=dict(
        _delete_=True,
        type='MultiLabelLinearClsHead',
        num_classes=3,
        in_channels=32,
        loss=dict(type='CrossEntropyLoss', use_sigmoid=True)))
data_preprocessor = dict(to_onehot=True)
"""
        + both(
            "_delete_=True, type='MultiLabelDataset', "
            'data_root=_base_.data_root, pipeline=_base_.test_pipeline'
        )
        + """
train_dataloader['dataset'].update(ann_file='train.json', data_prefix='train')
val_dataloader['dataset'].update(ann_file='val.json', data_prefix='val')
val_evaluator = [
    dict(type='AveragePrecision'),
    dict(type='MultiLabelMetric', average='macro')]
test_evaluator = val_evaluator
""",
        layouts.multi_label,
        variant='fmkt',
        distil_lines="""
model['tap'], model['levels'] = 'backbone', (0,)
model['flow']['metric'] = dict(type='PKDLoss')
""",
    ),
]
