# FM-KT on a feature pyramid: the student's head reads the transferred maps.
# A config starts its model from a copy of `distiller`; after that, change
# `model.flow`, `model.variant` and so on.
distiller = dict(
    type='mmfmkt.DetectionDistiller',
    variant='fmkt',
    tap='neck',
    levels=(0, 1, 2, 3),
    flow=dict(
        encoder=dict(type='ConvEncoder'),
        schedule=dict(type='RectifiedFlow'),
        metric=dict(type='PKDLoss'),
        num_steps=(1, 2, 4, 8, 16),  # N, drawn for each iteration
        inference_steps=4,  # K, free to change after training
        loss_weight=10.0,
        dirac_ratio=1.0))
