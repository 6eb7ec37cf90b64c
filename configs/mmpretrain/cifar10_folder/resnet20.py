# resnet20 on images in folders, the teacher: trained longer than
# the student and at a higher learning rate.
_base_ = './resnet8.py'
model = dict(backbone=dict(depth=20))
max_epochs = 20
optim_wrapper = dict(optimizer=dict(lr=0.3))
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = dict(eta_max=0.3, total_steps=max_epochs)
