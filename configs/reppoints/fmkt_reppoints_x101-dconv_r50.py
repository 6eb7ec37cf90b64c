# RepPoints R50 distilled from RepPoints X101-DCN by FM-KT.
_base_ = [
    'mmdet::reppoints/reppoints-moment_r50_fpn-gn_head-gn_2x_coco.py',
    '../_base_/fmkt_fpn.py',
]
model = dict(
    _base_.distiller,
    _delete_=True,
    student=_base_.model,
    teacher=dict(
        config='mmdet::reppoints/'
        'reppoints-moment_x101-dconv-c3-c5_fpn-gn_head-gn_2x_coco.py',
        checkpoint='https://download.openmmlab.com/mmdetection/'
        'v2.0/reppoints/'
        'reppoints_moment_x101_fpn_dconv_c3-c5_gn-neck%2Bhead_2x_coco/'
        'reppoints_moment_x101_fpn_dconv_c3-c5_gn-neck%2Bhead_2x_coco_'
        '20200329-f87da1ea.pth',
        inherit=['neck', 'bbox_head'],
    ),
)
model['flow'] = dict(model['flow'], loss_weight=10.0)
