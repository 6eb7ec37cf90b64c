# PKD without a flow on BCCD, for comparison.
_base_ = './fmkt_retinanet_r18_bccd.py'
model = dict(variant='direct')
