"""Inputs with unusual students and teachers."""

from dev.soundness.inputs.commands import DISTILL, EXPORT, ONNX
from dev.soundness.trial import CLASSIFIER_TEACHER, Input, command

VIT = """
model = dict(
    _delete_=True,
    type='ImageClassifier',
    backbone=dict(
        type='VisionTransformer',
        arch=dict(
            embed_dims=24,
            num_layers=2,
            num_heads=2,
            feedforward_channels=48),
        img_size=32,
        patch_size={patch}),
    head=dict(
        type='VisionTransformerClsHead',
        num_classes=3,
        in_channels=24,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1)))
"""
YOLOX = """
model = dict(
    _delete_=True,
    type='YOLOX',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        pad_size_divisor=32,
        batch_augments=[
            dict(
                type='BatchSyncRandomResize',
                random_size_range=(64, 96),
                size_divisor=32,
                interval=1)]),
    backbone=dict(
        type='CSPDarknet',
        deepen_factor=0.33,
        widen_factor={width},
        out_indices=(2, 3, 4)),
    neck=dict(
        type='YOLOXPAFPN',
        in_channels=[{0}, {1}, {2}],
        out_channels=16,
        num_csp_blocks=1),
    bbox_head=dict(
        type='YOLOXHead',
        num_classes=3,
        in_channels=16,
        feat_channels=16,
        stacked_convs=1),
    train_cfg=dict(assigner=dict(type='SimOTAAssigner', center_radius=2.5)),
    test_cfg=dict(score_thr=0.0, nms=dict(type='nms', iou_threshold=0.65)))
"""
OWN_NETWORK = """
import torch
from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from torch import nn


@MODELS.register_module()
class OwnNetwork(BaseModule):
    def __init__(self, width, init_cfg=None):
        super().__init__(init_cfg)
        self.register_buffer('calls', torch.zeros((), dtype=torch.long))
        self.conv = nn.Conv2d(3, width, 3, 2, 1)
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        self.calls += 1
        return (self.conv(x).relu(),)
"""

# What tools/distill.py says of a feature that is a vector.
TOKENS = "model['flow']['encoder'] = dict(type='MLPEncoder')\n"

INPUTS = [
    Input(
        'class-agnostic-masks',
        'class-agnostic mask head, boxes of three classes',
        'mask_rcnn',
        """
model = dict(
    roi_head=dict(
        bbox_head=dict(reg_class_agnostic=True),
        mask_head=dict(class_agnostic=True, num_classes=1)))
""",
    ),
    Input(
        'single-class',
        'detector and data of one class, annotation file with three',
        'retinanet',
        """
model = dict(bbox_head=dict(num_classes=1))
train_dataloader = dict(
    dataset=dict(metainfo=dict(classes=('square',), palette=[(9, 9, 9)])))
val_dataloader = dict(dataset=dict(metainfo=dict(classes='square')))
test_dataloader = val_dataloader
""",
    ),
    Input(
        'more-classes-than-data',
        'head with more classes than the data set',
        'resnet',
        'model = dict(head=dict(num_classes=7))',
        variant='fmkt',
    ),
    Input(
        'cascade',
        'Cascade R-CNN: list of heads, one of which has fewer classes',
        'mask_rcnn',
        """
_base_ = './base.py'
head = dict(
    type='Shared2FCBBoxHead',
    in_channels=16,
    fc_out_channels=16,
    roi_feat_size=7,
    num_classes=3,
    bbox_coder=dict(
        type='DeltaXYWHBBoxCoder',
        target_means=[0.0, 0.0, 0.0, 0.0],
        target_stds=[0.1, 0.1, 0.2, 0.2]),
    reg_class_agnostic=True,
    loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False),
    loss_bbox=dict(type='SmoothL1Loss', beta=1.0))
rcnn = dict(
    assigner=dict(
        type='MaxIoUAssigner',
        pos_iou_thr=0.5,
        neg_iou_thr=0.5,
        min_pos_iou=0.5,
        match_low_quality=False,
        ignore_iof_thr=-1),
    sampler=dict(
        type='RandomSampler',
        num=64,
        pos_fraction=0.25,
        neg_pos_ub=-1,
        add_gt_as_proposals=True),
    mask_size=28,
    pos_weight=-1,
    debug=False)
model = dict(
    type='CascadeRCNN',
    roi_head=dict(
        type='CascadeRoIHead',
        num_stages=2,
        stage_loss_weights=[1, 0.5],
        bbox_head=[head, head]),
    train_cfg=dict(rcnn=[rcnn, rcnn]))
""",
    ),
    Input(
        'yolox',
        'YOLOX, whose images are not normalized; ExpMomentumEMA',
        'retinanet',
        YOLOX.replace('{width}', '0.125')
        .replace('{0}', '32')
        .replace('{1}', '64')
        .replace('{2}', '128')
        + """
custom_hooks = [
    dict(
        type='EMAHook',
        ema_type='ExpMomentumEMA',
        momentum=0.0001,
        update_buffers=True,
        priority=49)]
""",
        teacher="_base_ = './config.py'\n"
        + YOLOX.replace('{width}', '0.25')
        .replace('{0}', '64')
        .replace('{1}', '128')
        .replace('{2}', '256'),
        variant='fmkt',
        distil=[EXPORT],
    ),
    Input(
        'solo',
        'SOLO: masks without boxes; of its data with_bbox is needed alone',
        'mask_rcnn',
        """
model = dict(
    _delete_=True,
    type='SOLO',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_mask=True,
        pad_size_divisor=32),
    backbone=dict(
        type='ResNet', depth=18, base_channels=8, stem_channels=8),
    neck=dict(
        type='FPN',
        in_channels=[8, 16, 32, 64],
        out_channels=16,
        start_level=0,
        num_outs=5),
    mask_head=dict(
        type='SOLOHead',
        num_classes=3,
        in_channels=16,
        stacked_convs=1,
        feat_channels=32,
        strides=[8, 8, 16, 32, 32],
        scale_ranges=((1, 24), (12, 32), (24, 48), (40, 64), (60, 99)),
        pos_scale=0.2,
        num_grids=[8, 8, 6, 4, 3],
        cls_down_index=0,
        loss_mask=dict(type='DiceLoss', use_sigmoid=True, loss_weight=3.0),
        loss_cls=dict(
            type='FocalLoss',
            use_sigmoid=True,
            gamma=2.0,
            alpha=0.25,
            loss_weight=1.0)),
    test_cfg=dict(
        nms_pre=50,
        score_thr=0.0,
        mask_thr=0.5,
        filter_thr=0.0,
        kernel='gaussian',
        sigma=2.0,
        max_per_img=5))
val_evaluator = dict(metric='segm')
test_evaluator = val_evaluator
""",
        teacher="""
_base_ = './config.py'
model = dict(
    backbone=dict(base_channels=16, stem_channels=16),
    neck=dict(in_channels=[16, 32, 64, 128]))
""",
    ),
    Input(
        'timm',
        'TIMMBackbone in student and teacher',
        'resnet',
        """
model = dict(
    backbone=dict(
        _delete_=True,
        type='TIMMBackbone',
        model_name='resnet18',
        pretrained=False),
    head=dict(in_channels=512))
""",
        teacher="_base_ = './config.py'\n",
        variant='fmkt',
        distil=[EXPORT],
    ),
    Input(
        'vit',
        'vision transformer whose feature is the class token',
        'resnet',
        VIT.replace('{patch}', '8'),
        variant='fmkt',
        teacher="_base_ = './base.py'\n",
        distil_lines=TOKENS,
        distil=[DISTILL, ONNX, EXPORT],
    ),
    Input(
        'tokens-of-other-numbers',
        'vision transformer with a teacher of four times as many tokens',
        'resnet',
        VIT.replace('{patch}', '8'),
        variant='fmkt',
        teacher="_base_ = './base.py'\n" + VIT.replace('{patch}', '4'),
        distil_lines=TOKENS,
    ),
    Input(
        'swin',
        'a Swin transformer',
        'resnet',
        """
model = dict(
    _delete_=True,
    type='ImageClassifier',
    backbone=dict(
        type='SwinTransformer',
        arch=dict(
            embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 2]),
        img_size=32,
        patch_size=2,
        window_size=2),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=3, in_channels=64))
optim_wrapper = dict(
    _delete_=True,
    optimizer=dict(type='AdamW', lr=0.001, weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={
            '.relative_position_bias_table': dict(decay_mult=0.0)}))
""",
        teacher="_base_ = './base.py'\n",
    ),
    Input(
        'mixup',
        'Mixup and CutMix of whole batches, which give soft labels',
        'resnet',
        """
model = dict(
    head=dict(
        loss=dict(
            _delete_=True,
            type='LabelSmoothLoss',
            label_smooth_val=0.1,
            mode='original')),
    train_cfg=dict(
        augments=[
            dict(type='Mixup', alpha=0.8),
            dict(type='CutMix', alpha=1.0)]))
""",
        variant='fmkt',
        teacher=CLASSIFIER_TEACHER,
    ),
    Input(
        'own-network',
        'user-defined backbone with a counter and an unused layer',
        'resnet',
        """
custom_imports = dict(imports='mine', allow_failed_imports=False)
model = dict(
    backbone=dict(_delete_=True, type='OwnNetwork', width=12),
    head=dict(in_channels=12))
""",
        files={'mine.py': OWN_NETWORK},
        teacher="""
_base_ = './config.py'
model = dict(backbone=dict(width=24), head=dict(in_channels=24))
""",
        variant='fmkt',
        distil=[EXPORT],
    ),
    Input(
        'frozen-backbone',
        'student with a completely frozen backbone',
        'retinanet',
        """
model = dict(
    backbone=dict(frozen_stages=4, norm_eval=True, with_cp=True))
find_unused_parameters = True
""",
        variant='fmkt',
    ),
    Input(
        'pretrained-part',
        'backbone with pretrained weights of a file, by prefix',
        'resnet',
        """
model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint='{folder}/weights.pth',
            prefix='backbone.')))
""",
        files={
            'make_weights.py': """
import torch
from mmengine.config import Config
from mmpretrain.models import build_classifier
from mmpretrain.utils import register_all_modules

register_all_modules()
model = build_classifier(Config.fromfile('base.py').model)
torch.save(dict(state_dict=model.state_dict()), 'weights.pth')
"""
        },
        setup_commands=[command('{folder}/make_weights.py')],
    ),
    Input(
        'load-from-another',
        'load_from a checkpoint whose head has other classes',
        'resnet',
        "load_from = '{folder}/weights.pth'\n",
        files={
            'make_weights.py': """
import torch
from mmengine.config import Config
from mmpretrain.models import build_classifier
from mmpretrain.utils import register_all_modules

register_all_modules()
cfg = Config.fromfile('base.py').model
model = build_classifier(cfg).backbone
state = {f'backbone.{k}': x for k, x in model.state_dict().items()}
state['head.fc.bias_of_old'] = torch.zeros(7)
torch.save(dict(state_dict=state, meta=dict(CLASSES=('a',))), 'weights.pth')
"""
        },
        setup_commands=[command('{folder}/make_weights.py')],
        variant='fmkt',
    ),
]
