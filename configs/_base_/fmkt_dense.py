# FM-KT on a feature pyramid and on the class maps of a one-stage detector's
# head, for teachers with a head of the same type.
_base_ = './fmkt_fpn.py'
distiller = dict(
    taps=[
        dict(tap='neck', levels=(0, 1, 2, 3)),
        dict(
            tap='bbox_head[0]',
            levels=(0, 1, 2, 3),
            flow=dict(
                # Class maps have many channels (anchors x classes).
                encoder=dict(type='DepthwiseConvEncoder'),
                metric=dict(type='CWDLoss'),
                loss_weight=1.0,
            ),
        ),
    ]
)
