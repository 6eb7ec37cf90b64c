# Baseline student on BCCD: RetinaNet, ResNet-18 of half width, feature
# pyramid of 64 channels, trained from scratch.
_base_ = [
    'mmdet::_base_/models/retinanet_r50_fpn.py',
    '../_base_/datasets/bccd_detection.py',
    'mmdet::_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(pad_size_divisor=32),
    backbone=dict(
        depth=18,
        base_channels=32,
        stem_channels=32,
        frozen_stages=-1,
        norm_eval=False,
        init_cfg=None,
    ),
    neck=dict(
        in_channels=[32, 64, 128, 256],
        out_channels=64,
        norm_cfg=dict(type='BN'),
    ),
    bbox_head=dict(
        num_classes=3,
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        # Batch norm would mix the statistics of the levels.
        norm_cfg=dict(type='GN', num_groups=8),
    ),
)

max_epochs = 6
warmup = 0.3 * max_epochs
train_cfg = dict(
    type='EpochBasedTrainLoop',
    _scope_='mmdet',
    max_epochs=max_epochs,
    val_interval=max_epochs,
)
val_cfg = dict(type='ValLoop', _scope_='mmdet')
test_cfg = dict(type='TestLoop', _scope_='mmdet')
optim_wrapper = dict(
    type='OptimWrapper',
    _scope_='mmdet',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=10),
)
# One cycle in two parts: OneCycleLR would ignore lr_mult.
param_scheduler = [
    dict(
        type='LinearLR',
        _scope_='mmdet',
        start_factor=0.04,
        begin=0,
        end=warmup,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        _scope_='mmdet',
        eta_min=0,
        begin=warmup,
        end=max_epochs,
        T_max=max_epochs - warmup,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
default_hooks = dict(
    logger=dict(interval=20), checkpoint=dict(max_keep_ckpts=1)
)
