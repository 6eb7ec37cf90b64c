# Baseline student of the quick start: RetinaNet, ResNet-18 of quarter width,
# trained from scratch on generated shapes.
_base_ = [
    'mmdet::_base_/models/retinanet_r50_fpn.py',
    '../_base_/datasets/shapes_detection.py',
    'mmdet::_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(pad_size_divisor=32),
    backbone=dict(
        depth=18,
        base_channels=16,
        stem_channels=16,
        frozen_stages=-1,
        norm_eval=False,
        init_cfg=None,
    ),
    neck=dict(
        in_channels=[16, 32, 64, 128],
        out_channels=64,
        norm_cfg=dict(type='BN'),
    ),
    bbox_head=dict(
        num_classes=6,
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        # Batch norm would mix the statistics of the levels.
        norm_cfg=dict(type='GN', num_groups=8),
        anchor_generator=dict(octave_base_scale=2),
    ),
)

max_epochs = 9
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
    optimizer=dict(type='AdamW', lr=3e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=10),
)
param_scheduler = dict(
    type='OneCycleLR',
    _scope_='mmdet',
    eta_max=3e-3,
    total_steps=max_epochs,
    by_epoch=True,
    convert_to_iter_based=True,
)
default_hooks = dict(
    logger=dict(interval=20), checkpoint=dict(max_keep_ckpts=1)
)
