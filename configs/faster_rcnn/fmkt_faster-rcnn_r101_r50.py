# Faster R-CNN R50 distilled from Faster R-CNN R101 by FM-KT, on P2 to P5.
_base_ = [
    'mmdet::faster_rcnn/faster-rcnn_r50_fpn_2x_coco.py',
    '../_base_/fmkt_fpn.py',
]
model = dict(
    _base_.distiller,
    _delete_=True,
    student=_base_.model,
    teacher=dict(
        config='mmdet::faster_rcnn/faster-rcnn_r101_fpn_2x_coco.py',
        checkpoint='https://download.openmmlab.com/mmdetection/v2.0/'
        'faster_rcnn/faster_rcnn_r101_fpn_2x_coco/'
        'faster_rcnn_r101_fpn_2x_coco_bbox_mAP-0.398_'
        '20200504_210455-1d2dac9c.pth',
        inherit=['neck', 'rpn_head', 'roi_head'],
    ),
)
model['flow'] = dict(model['flow'], loss_weight=6.0)
optim_wrapper = dict(clip_grad=dict(max_norm=2.5))
