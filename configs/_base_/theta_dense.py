# FM-KT^Theta on a feature pyramid and on class maps: the flows only teach,
# and the plain student is what comes home.
_base_ = './fmkt_dense.py'
distiller = dict(variant='theta')
