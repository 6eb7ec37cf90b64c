# The model of the new-style config.
from mmdet.models import (
    FPN,
    DetDataPreprocessor,
    FocalLoss,
    L1Loss,
    ResNet,
    RetinaHead,
    RetinaNet,
)
from mmdet.models.task_modules import (
    AnchorGenerator,
    DeltaXYWHBBoxCoder,
    MaxIoUAssigner,
    PseudoSampler,
)

model = dict(
    type=RetinaNet,
    data_preprocessor=dict(
        type=DetDataPreprocessor,
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    backbone=dict(type=ResNet, depth=18, base_channels=8, stem_channels=8),
    neck=dict(
        type=FPN,
        in_channels=[8, 16, 32, 64],
        out_channels=16,
        start_level=1,
        add_extra_convs='on_input',
        num_outs=5,
    ),
    bbox_head=dict(
        type=RetinaHead,
        num_classes=3,
        in_channels=16,
        feat_channels=16,
        stacked_convs=1,
        anchor_generator=dict(
            type=AnchorGenerator,
            octave_base_scale=4,
            scales_per_octave=3,
            ratios=[0.5, 1.0, 2.0],
            strides=[8, 16, 32, 64, 128],
        ),
        bbox_coder=dict(type=DeltaXYWHBBoxCoder),
        loss_cls=dict(type=FocalLoss, use_sigmoid=True),
        loss_bbox=dict(type=L1Loss),
    ),
    train_cfg=dict(
        assigner=dict(
            type=MaxIoUAssigner,
            pos_iou_thr=0.5,
            neg_iou_thr=0.4,
            min_pos_iou=0,
            ignore_iof_thr=-1,
        ),
        sampler=dict(type=PseudoSampler),
        allowed_border=-1,
        pos_weight=-1,
        debug=False,
    ),
    test_cfg=dict(
        nms_pre=100,
        min_bbox_size=0,
        score_thr=0.0,
        nms=dict(type='nms', iou_threshold=0.5),
        max_per_img=10,
    ),
)
