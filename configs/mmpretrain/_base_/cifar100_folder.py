# CIFAR-100 as lossless image files in a folder for each class, and the recipe
# of cifar10_folder.py with 40 epochs:
#
#     data/cifar100/train/apple/....webp
#     data/cifar100/test/apple/....webp
_base_ = './cifar10_folder.py'
data_root = 'data/cifar100/'
data_preprocessor = dict(
    num_classes=100,
    mean=[129.304, 124.070, 112.434],
    std=[68.170, 65.392, 70.418],
    # OpenCV reads BGR.
    to_rgb=True,
)
extensions = ('.webp', '.png', '.bmp')
train_dataloader = dict(
    num_workers=2,
    dataset=dict(
        data_root=data_root,
        extensions=extensions,
        pipeline=[
            dict(type='LoadImageFromFile'),
            # Pads with black, as the distillation literature does.
            dict(type='RandomCrop', crop_size=32, padding=4),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='PackInputs'),
        ],
    ),
)
val_dataloader = dict(dataset=dict(data_root=data_root, extensions=extensions))
test_dataloader = val_dataloader
val_evaluator = dict(topk=(1, 5))
test_evaluator = val_evaluator
env_cfg = dict(cudnn_benchmark=True)
max_epochs = 40
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = dict(total_steps=max_epochs)
default_hooks = dict(checkpoint=dict(interval=5))
