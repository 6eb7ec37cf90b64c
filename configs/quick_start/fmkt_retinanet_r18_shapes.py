# FM-KT in the quick start.
_base_ = ['./retinanet_r18_shapes.py', '../_base_/fmkt_conv_fpn.py']
model = dict(
    _base_.distiller,
    _delete_=True,
    student=_base_.model,
    teacher=dict(
        config='mmfmkt::quick_start/retinanet_r18_shapes_teacher.py',
        checkpoint=None,
        inherit=['bbox_head'],
    ),
)
model['flow'] = dict(model['flow'], loss_weight=10.0)
