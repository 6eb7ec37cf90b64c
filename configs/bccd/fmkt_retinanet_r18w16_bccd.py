# FM-KT on BCCD for the student of quarter width.
_base_ = './fmkt_retinanet_r18_bccd.py'
model = dict(
    student=dict(
        backbone=dict(base_channels=16, stem_channels=16),
        neck=dict(in_channels=[16, 32, 64, 128]),
    )
)
