# PKD alone, without a flow, to compare with, on BCCD.
_base_ = './fmkt_retinanet_r18_bccd.py'
model = dict(variant='direct')
