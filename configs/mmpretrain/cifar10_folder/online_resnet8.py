# resnet8 by OFM-KT, without a teacher.
_base_ = './flow_resnet8.py'
model = dict(
    student=dict(
        head=dict(
            loss=dict(
                _delete_=True, type='LabelSmoothLoss', label_smooth_val=0.1
            )
        )
    ),
    flow=dict(loss_weight=1.0),
)
