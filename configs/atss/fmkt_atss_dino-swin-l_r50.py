# ATSS R50 distilled from DINO Swin-L by FM-KT: strides 8 to 64.
_base_ = [
    'mmdet::atss/atss_r50_fpn_1x_coco.py',
    '../_base_/fmkt_fpn.py',
]
model = dict(
    _base_.distiller,
    _delete_=True,
    student=_base_.model,
    teacher=dict(
        config='mmdet::dino/dino-5scale_swin-l_8xb2-12e_coco.py',
        checkpoint='https://download.openmmlab.com/mmdetection/'
        'v3.0/dino/dino-5scale_swin-l_8xb2-12e_coco/'
        'dino-5scale_swin-l_8xb2-12e_coco_20230228_072924-a654145f.pth',
    ),
)
model['flow'] = dict(model['flow'], loss_weight=10.0)
