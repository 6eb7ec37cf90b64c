# FM-KT on a feature pyramid: the student's head receives the transformed maps.
# A config copies `distiller` into its model, and then changes `model.flow`,
# `model.variant` and other keys. docs/bccd.md compares these settings with
# others.
distiller = dict(
    type='mmfmkt.DetectionDistiller',
    _scope_='mmdet',  # types without a prefix are of MMDetection
    variant='fmkt',
    tap='neck',
    levels=(0, 1, 2, 3),
    flow=dict(
        encoder=dict(type='BottleneckEncoder'),
        schedule=dict(type='RectifiedFlow'),
        metric=dict(type='PKDLoss'),
        num_steps=4,  # N
        inference_steps=4,  # K, may be changed after training
        loss_weight=20.0,
        dirac_ratio=1.0,
    ),
)
