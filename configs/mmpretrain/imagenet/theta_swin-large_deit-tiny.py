# DeiT-Ti distilled from Swin-L on ImageNet by FM-KT^Theta.
_base_ = './fmkt_swin-large_deit-tiny.py'
model = dict(variant='theta')
