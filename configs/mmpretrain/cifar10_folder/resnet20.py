# resnet20 on pictures in folders, the teacher: twice as long.
_base_ = './resnet8.py'
model = dict(backbone=dict(depth=20))
max_epochs = 20
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = dict(total_steps=max_epochs)
