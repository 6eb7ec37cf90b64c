# Teacher on DeepPCB: MobileNetV2 with ImageNet weights, trained 1.5 times as
# long as the student.
_base_ = './retinanet_r18w16_deeppcb.py'
model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(
        _delete_=True,
        type='MobileNetV2',
        _scope_='mmdet',
        out_indices=(1, 2, 4, 7),
        init_cfg=dict(
            type='Pretrained', checkpoint='data/mobilenet_v2_imagenet.pth'
        ),
    ),
    neck=dict(in_channels=[24, 32, 96, 1280]),
)
max_epochs = 9
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = dict(
    _delete_=True,
    type='OneCycleLR',
    _scope_='mmdet',
    eta_max=1e-3,
    total_steps=max_epochs,
    by_epoch=True,
    convert_to_iter_based=True,
)
