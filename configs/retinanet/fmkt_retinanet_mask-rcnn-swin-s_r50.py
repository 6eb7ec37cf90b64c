# RetinaNet R50 distilled from Mask R-CNN Swin-S by FM-KT on P3 to P6, which
# are the second to fifth level of the teacher.
_base_ = [
    'mmdet::retinanet/retinanet_r50_fpn_2x_coco.py',
    '../_base_/fmkt_fpn.py',
]
model = dict(
    _base_.distiller,
    _delete_=True,
    student=_base_.model,
    teacher=dict(
        config='mmdet::swin/mask-rcnn_swin-s-p4-w7_fpn_amp-ms-crop-3x_coco.py',
        checkpoint='https://download.openmmlab.com/mmdetection/'
        'v2.0/swin/mask_rcnn_swin-s-p4-w7_fpn_fp16_ms-crop-3x_coco/'
        'mask_rcnn_swin-s-p4-w7_fpn_fp16_ms-crop-3x_coco_'
        '20210903_104808-b92c91f1.pth',
    ),
)
model['flow'] = dict(model['flow'], loss_weight=10.0)
