# Teacher on cards: ResNet-34 of full width, trained five times as long
# as the student.
_base_ = './retinanet_r18w16_cards.py'
model = dict(
    backbone=dict(depth=34, base_channels=64, stem_channels=64),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
max_epochs = 30
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
