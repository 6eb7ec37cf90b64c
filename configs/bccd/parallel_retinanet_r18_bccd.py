# Parallel training on BCCD, the ablation.
_base_ = './fmkt_retinanet_r18_bccd.py'
model = dict(variant='parallel')
