# RetinaNet R50 distilled from FCOS X101 by FM-KT.
_base_ = [
    'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
    '../_base_/fmkt_fpn.py',
]
model = dict(
    _base_.distiller,
    _delete_=True,
    student=_base_.model,
    teacher=dict(
        config='mmdet::fcos/fcos_x101-64x4d_fpn_gn-head_ms-640-800-2x_coco.py',
        checkpoint='https://download.openmmlab.com/mmdetection/'
        'v2.0/fcos/fcos_x101_64x4d_fpn_gn-head_mstrain_640-800_2x_coco/'
        'fcos_x101_64x4d_fpn_gn-head_mstrain_640-800_2x_coco-ede514a8.pth',
    ),
)
model['flow'] = dict(model['flow'], loss_weight=10.0)
