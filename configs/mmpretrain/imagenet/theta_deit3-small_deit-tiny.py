# DeiT-Ti distilled from DeiT-III-S on ImageNet by FM-KT^Theta.
_base_ = './fmkt_deit3-small_deit-tiny.py'
model = dict(variant='theta')
