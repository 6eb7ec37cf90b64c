# resnet20 on pictures in folders, the teacher.
_base_ = './resnet8.py'
model = dict(backbone=dict(depth=20))
