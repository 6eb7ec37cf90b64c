# resnet20 by OFM-KT, without a teacher.
_base_ = ['./resnet20.py', '../_base_/fmkt_step_accuracy.py']
model = dict(
    _base_.distiller, _delete_=True, variant='online', student=_base_.model
)
model['student'] = dict(
    model['student'],
    head=dict(
        model['student']['head'],
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1),
    ),
)
