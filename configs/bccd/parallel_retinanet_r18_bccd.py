# Ablation: parallel training of the flow on BCCD.
_base_ = './fmkt_retinanet_r18_bccd.py'
model = dict(variant='parallel')
