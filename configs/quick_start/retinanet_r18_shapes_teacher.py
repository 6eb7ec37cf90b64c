# Teacher of the quick start: four times as wide as the student.
_base_ = './retinanet_r18_shapes.py'
model = dict(
    backbone=dict(base_channels=64, stem_channels=64),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
