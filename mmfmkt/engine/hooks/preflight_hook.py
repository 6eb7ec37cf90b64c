"""What would fail in the first iteration fails before it."""

import copy
from typing import Any, Dict

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader, Subset

from mmfmkt.registry import HOOKS
from mmfmkt.utils import ConfigError
from mmfmkt.utils.random_stream import read_states, write_states
from mmfmkt.utils.sentences import said

from .finite_hook import not_finite
from .progress import unwrapped


@HOOKS.register_module()
class PreflightHook(Hook):
    """Loads a batch and runs the model's losses on it, and leaves no trace.

    The batch is loaded by a worker of its own, the losses are those of a
    copy of the model, and random numbers are given back. Checkpoints of
    which nothing fits the model are refused.
    """

    priority = 'LOWEST'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Insist that a checkpoint is of this model.

        Raises:
            ConfigError: If it has none of the model's tensors.
        """
        state = checkpoint.get('state_dict', checkpoint)
        own, shapes = (
            {
                name.removeprefix('module.'): getattr(x, 'shape', None)
                for name, x in part.items()
            }
            for part in (unwrapped(runner.model).state_dict(), state)
        )
        if any(shapes.get(name) == shape for name, shape in own.items()):
            return
        raise ConfigError(
            f'load_from: {len(shapes)} tensors are in the checkpoint, and '
            f'none of them is one of the {len(own)} of this model: give a '
            'checkpoint of this config.'
        )

    def before_train(self, runner: Runner) -> None:
        """Try a batch.

        Raises:
            ConfigError: If there is none, or losses are not finite.
        """
        model = unwrapped(runner.model)
        if model is None:
            return
        check_classes(runner)
        try_clipping(runner.optim_wrapper)
        states = read_states()
        try:
            losses = try_losses(model, first_batch(runner.train_dataloader))
        finally:
            write_states(states)
        if wrong := not_finite(losses):
            raise ConfigError(
                f'{" and ".join(wrong)} of the first batch is not a finite '
                'number: see the weights and the data that the model starts '
                'with.'
            )

    def before_train_iter(self, runner: Runner, *args: Any, **kw: Any) -> None:
        """From here on errors are those of a training."""
        said.training = True


def first_batch(loader: DataLoader) -> Any:
    """A small batch; transforms that keep state keep it in the worker."""
    count = min(len(loader.dataset), 2)
    if not count:
        raise ConfigError(
            'train_dataloader.dataset is empty: of its images none is left '
            'to train on, by their boxes, classes or sizes (filter_cfg).'
        )
    trial = DataLoader(
        Subset(loader.dataset, range(count)),
        batch_size=count,
        num_workers=1,
        collate_fn=getattr(loader.collate_fn, 'collate', loader.collate_fn),
    )
    return next(iter(trial))


@torch.no_grad()
def try_losses(model: nn.Module, batch: Any) -> Dict[str, Any]:
    """The losses of a copy of a model."""
    model = copy.deepcopy(model).train()
    data = model.data_preprocessor(batch, True)
    if isinstance(data, dict):
        losses = model(**data, mode='loss')
    else:
        losses = model(*data, mode='loss')
    return dict(losses, loss=model.parse_losses(losses)[0])


def try_clipping(wrapper: Any) -> None:
    """Clip a gradient of nothing, as the first step of the optimizer will."""
    options = getattr(wrapper, 'clip_grad_kwargs', None)
    if options:
        nothing = nn.Parameter(torch.zeros(1))
        nothing.grad = torch.zeros(1)
        wrapper.clip_func([nothing], **options)


def check_classes(runner: Runner) -> None:
    """Compare the numbers of classes of heads and of data.

    Raises:
        ConfigError: If a head has another number of them.
    """
    classes = getattr(runner.train_dataloader.dataset, 'metainfo', {}).get(
        'classes'
    )
    if not isinstance(classes, (list, tuple)):
        return
    model = unwrapped(runner.model)
    front = 'model.student.' if hasattr(model, 'flows') else 'model.'
    for name, module in model.named_modules():
        count = getattr(module, 'num_classes', None)
        head = name.rsplit('.', 1)[-1] in ('bbox_head', 'mask_head', 'head')
        if head and isinstance(count, int) and count < len(classes):
            raise ConfigError(
                f'{front}{name}.num_classes is {count}, but the data has '
                f'{len(classes)} classes: {", ".join(map(str, classes[:9]))}'
                f'{", ..." if len(classes) > 9 else ""}.'
            )
