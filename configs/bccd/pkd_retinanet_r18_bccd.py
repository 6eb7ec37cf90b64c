# PKD alone, without a flow or inherited weights, to compare with, on BCCD.
_base_ = './fmkt_retinanet_r18_bccd.py'
model = dict(variant='direct', teacher=dict(inherit=None))
