# The flagship under the name that other projects inherit it by:
# _base_ = 'mmfmkt::retinanet/fmkt_retinanet_r101_r50.py'
_base_ = '../fmkt_retinanet_r101_r50.py'
