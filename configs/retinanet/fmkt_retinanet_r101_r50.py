# The main config, in a folder so that other projects can inherit it:
# _base_ = 'mmfmkt::retinanet/fmkt_retinanet_r101_r50.py'
_base_ = '../fmkt_retinanet_r101_r50.py'
