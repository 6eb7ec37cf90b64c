# FM-KT^Theta on a feature pyramid: the flow only teaches, and the plain
# student is what comes home.
_base_ = './fmkt_fpn.py'
distiller = dict(variant='theta')
