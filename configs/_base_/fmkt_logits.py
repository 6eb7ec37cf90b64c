# FM-KT of a classifier: the flow transfers its last feature, and the student's
# own neck and head map estimates to logits. A config copies `distiller` into
# its model, and then changes `model.flow`, `model.variant` and other keys.
distiller = dict(
    type='mmfmkt.ClassificationDistiller',
    _scope_='mmpretrain',  # types without a prefix are of MMPretrain
    variant='fmkt',
    tap='head',
    flow=dict(
        encoder=dict(type='ConvEncoder'),
        schedule=dict(type='RectifiedFlow'),
        metric=dict(type='KDLoss', temperature=4.0),
        num_steps=8,  # N
        inference_steps=8,  # K, may be changed after training
        loss_weight=1.0,
        dirac_ratio=1.0,
    ),
)
