# Teacher on DeepPCB: ResNet-34 of half width, trained three times as long as
# the student.
_base_ = './retinanet_r18w16_deeppcb.py'
model = dict(
    backbone=dict(depth=34, base_channels=32, stem_channels=32),
    neck=dict(in_channels=[32, 64, 128, 256]),
)
max_epochs = 18
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
