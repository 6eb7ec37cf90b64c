# FM-KT of a classifier: its last feature flows, T is its own neck and head.
# A config starts its model from a copy of `distiller`; after that, change
# `model.flow`, `model.variant` and so on.
distiller = dict(
    type='mmfmkt.ClassificationDistiller',
    _scope_='mmpretrain',  # types without a prefix are MMPretrain's
    variant='fmkt',
    tap='head',
    report_steps=(1, 2, 4, 8),  # accuracy at these K, at no further pass
    flow=dict(
        encoder=dict(type='ConvEncoder'),
        schedule=dict(type='RectifiedFlow'),
        metric=dict(type='KDLoss', temperature=4.0),
        num_steps=8,  # N
        inference_steps=8,  # K, free to change after training
        loss_weight=1.0,
        dirac_ratio=1.0,
    ),
)
