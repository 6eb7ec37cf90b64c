# ResNet-20 by OFM-KT, without a teacher.
_base_ = './kd_resnet56_resnet20.py'
model = dict(
    variant='online',
    teacher=None,
    student=dict(
        head=dict(
            loss=dict(
                _delete_=True, type='LabelSmoothLoss', label_smooth_val=0.1
            )
        )
    ),
)
