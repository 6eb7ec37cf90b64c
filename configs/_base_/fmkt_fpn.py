# FM-KT on a feature pyramid: the student's head reads the transferred maps.
# A config starts its model from a copy of `distiller`; after that, change
# `model.flow`, `model.variant` and so on. What was tried on the way to these
# settings is in docs/bccd.md.
distiller = dict(
    type='mmfmkt.DetectionDistiller',
    _scope_='mmdet',  # types without a prefix are MMDetection's
    variant='fmkt',
    tap='neck',
    levels=(0, 1, 2, 3),
    flow=dict(
        encoder=dict(type='BottleneckEncoder'),
        schedule=dict(type='RectifiedFlow'),
        metric=dict(type='PKDLoss'),
        num_steps=4,  # N; several are drawn from
        inference_steps=4,  # K, free to change after training
        loss_weight=20.0,
        dirac_ratio=1.0,
    ),
)
