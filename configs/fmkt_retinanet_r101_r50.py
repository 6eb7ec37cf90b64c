# The main config: RetinaNet R50 distilled from RetinaNet R101 by FM-KT, on P3
# to P6.
_base_ = [
    'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
    './_base_/fmkt_fpn.py',
]
model = dict(
    _base_.distiller,
    _delete_=True,
    student=_base_.model,
    teacher=dict(
        config='mmdet::retinanet/retinanet_r101_fpn_2x_coco.py',
        checkpoint='https://download.openmmlab.com/mmdetection/v2.0/'
        'retinanet/retinanet_r101_fpn_2x_coco/'
        'retinanet_r101_fpn_2x_coco_20200131-5560aee8.pth',
        inherit=['neck', 'bbox_head'],
    ),
)
# This weight is for COCO with SGD.
model['flow'] = dict(model['flow'], loss_weight=10.0)
