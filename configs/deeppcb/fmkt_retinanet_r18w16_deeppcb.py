# FM-KT on DeepPCB.
_base_ = ['./retinanet_r18w16_deeppcb.py', '../_base_/fmkt_fpn.py']
model = dict(
    _base_.distiller,
    _delete_=True,
    student=_base_.model,
    teacher=dict(
        config='mmfmkt::deeppcb/retinanet_r34w32_deeppcb_teacher.py',
        checkpoint='work_dirs/retinanet_r34w32_deeppcb_teacher/epoch_18.pth',
        inherit=['bbox_head'],
    ),
)
# In a short training, neck and flow need a high learning rate: the neck adapts
# to the inherited head, and the flow is useful only after it has been learned.
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys=dict(flows=dict(lr_mult=40.0), neck=dict(lr_mult=40.0))
    )
)
