# The teacher on BCCD: ResNet-34 of full width.
_base_ = './retinanet_r18_bccd.py'
model = dict(
    backbone=dict(depth=34, base_channels=64, stem_channels=64),
    neck=dict(in_channels=[64, 128, 256, 512]))
