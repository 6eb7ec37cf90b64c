# Baseline student on cards, as on BCCD: RetinaNet, ResNet-18 of quarter
# width, trained from scratch. Photographs of playing cards (Apache-2.0
# license) in COCO format: 237 training and 59 validation images, most of
# 378x504 pixels.
_base_ = '../bccd/retinanet_r18w16_bccd.py'
data_root = 'data/cards/'
metainfo = dict(
    classes=('nine', 'ten', 'jack', 'queen', 'king', 'ace'),
    palette=[
        (230, 25, 75),
        (60, 180, 75),
        (0, 130, 200),
        (245, 130, 48),
        (145, 30, 180),
        (70, 240, 240),
    ],
)
model = dict(bbox_head=dict(num_classes=6))
train_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
val_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
test_evaluator = val_evaluator
