# CIFAR-10 as JPEG files in a folder for each class, and a short recipe:
#
#     data/cifar10-jpeg/train/airplane/....jpg
#     data/cifar10-jpeg/test/airplane/....jpg
_base_ = ['mmpretrain::_base_/default_runtime.py']
data_root = 'data/cifar10-jpeg/'
data_preprocessor = dict(
    num_classes=10,
    mean=[125.307, 122.961, 113.8575],
    std=[51.5865, 50.847, 51.255],
    # OpenCV reads BGR.
    to_rgb=True,
)
train_dataloader = dict(
    batch_size=128,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', _scope_='mmpretrain', shuffle=True),
    dataset=dict(
        type='CustomDataset',
        _scope_='mmpretrain',
        data_root=data_root,
        data_prefix='train',
        pipeline=[
            dict(type='LoadImageFromFile'),
            # Pads with the mean, BGR: zero after normalization.
            dict(
                type='RandomCrop',
                crop_size=32,
                padding=4,
                pad_val=(114, 123, 125),
            ),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='PackInputs'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=250,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', _scope_='mmpretrain', shuffle=False),
    dataset=dict(
        type='CustomDataset',
        _scope_='mmpretrain',
        data_root=data_root,
        data_prefix='test',
        pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type='mmfmkt.StepAccuracy', _scope_='mmpretrain', topk=(1,)
)
test_evaluator = val_evaluator

max_epochs = 15
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=max_epochs)
val_cfg = dict()
test_cfg = dict()
# About 2,300 iterations with 2,000 images of each class (docs/cifar10.md).
# With 800 iterations, the baseline ResNet-8 is undertrained, and any
# additional gradient improves it.
optim_wrapper = dict(
    optimizer=dict(
        type='SGD',
        _scope_='mmpretrain',
        lr=0.1,
        momentum=0.9,
        weight_decay=5e-4,
    ),
    clip_grad=dict(max_norm=5),
)
param_scheduler = dict(
    type='OneCycleLR',
    _scope_='mmpretrain',
    eta_max=0.1,
    total_steps=max_epochs,
    by_epoch=True,
    convert_to_iter_based=True,
)
default_hooks = dict(
    logger=dict(interval=100), checkpoint=dict(max_keep_ckpts=1)
)
