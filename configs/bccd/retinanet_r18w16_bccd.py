# Baseline student of quarter width on BCCD.
_base_ = './retinanet_r18_bccd.py'
model = dict(
    backbone=dict(base_channels=16, stem_channels=16),
    neck=dict(in_channels=[16, 32, 64, 128]),
)
