# Baseline student on DeepPCB: RetinaNet, ResNet-18 of quarter width,
# trained from scratch. Binarized scans of printed circuit boards (MIT license)
# in COCO format: 800 training and 200 validation images of 640x640 pixels,
# scaled by half.
_base_ = '../bccd/retinanet_r18w16_bccd.py'
data_root = 'data/deeppcb/'
metainfo = dict(
    classes=('open', 'short', 'mousebite', 'spur', 'copper', 'pin-hole'),
    palette=[
        (230, 25, 75),
        (60, 180, 75),
        (0, 130, 200),
        (245, 130, 48),
        (145, 30, 180),
        (70, 240, 240),
    ],
)
# The sides of most defects are 14 to 28 pixels after scaling, which anchors of
# half the usual size match.
model = dict(
    bbox_head=dict(num_classes=6, anchor_generator=dict(octave_base_scale=2))
)

train_pipeline = _base_.train_pipeline
train_pipeline[2].update(scale=(320, 320))
test_pipeline = _base_.test_pipeline
test_pipeline[1].update(scale=(320, 320))
train_dataloader = dict(
    dataset=dict(
        data_root=data_root, metainfo=metainfo, pipeline=train_pipeline
    )
)
val_dataloader = dict(
    dataset=dict(
        data_root=data_root, metainfo=metainfo, pipeline=test_pipeline
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
test_evaluator = val_evaluator
