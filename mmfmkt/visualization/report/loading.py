"""Loading and evaluation of a run's network."""

from copy import deepcopy
from typing import Any, Dict, NamedTuple

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from mmengine.runner import Runner
from torch import nn

from mmfmkt.apis.inference import load_network
from mmfmkt.utils import ConfigError
from mmfmkt.utils.configs import walk

from .runs import WorkDir


class LoadedRun(NamedTuple):
    """A run with its network and dataset.

    Attributes:
        run (WorkDir): The run.
        model (nn.Module): Network with the latest weights, in eval mode.
        dataset (Any): Validation dataset of the run.
    """

    run: WorkDir
    model: nn.Module
    dataset: Any


def load_run(run: WorkDir) -> LoadedRun:
    """Load the network and the validation dataset of a run.

    Raises:
        ConfigError: If the run has no checkpoint.
    """
    if run.checkpoint is None:
        raise ConfigError(f'{run.folder} has no checkpoint yet.')
    checkpoint = str(run.checkpoint)
    config = deepcopy(run.config)
    for _, section in walk(config.model):
        # Compiled modules cannot be traced.
        if isinstance(section, dict):
            section.pop('compile', None)
    try:
        model = load_network(config, checkpoint, keep_teacher=True)
    except ConfigError:
        # The teacher's checkpoint may be missing; inference does not need it.
        model = load_network(config, checkpoint)
    loader = config[f'{validation_split(config)}_dataloader']
    scope = config.get('default_scope')
    with DefaultScope.overwrite_default_scope(scope):
        dataset = DATASETS.build(loader.dataset)
    dataset.full_init()
    return LoadedRun(run, model, dataset)


def validation_split(config: Config) -> str:
    """Return ``'val'``, or ``'test'`` for a config without validation."""
    return 'val' if config.get('val_dataloader') else 'test'


@torch.no_grad()
def evaluate(run: WorkDir, model: nn.Module) -> Dict[str, Any]:
    """Evaluate a network with the run's validation dataloader and evaluator.

    Args:
        run (WorkDir): The run.
        model (nn.Module): The network, in eval mode.
    """
    config = deepcopy(run.config)
    split = validation_split(config)
    with DefaultScope.overwrite_default_scope(config.get('default_scope')):
        loader = Runner.build_dataloader(config[f'{split}_dataloader'])
        evaluator = Runner.build_evaluator(None, config[f'{split}_evaluator'])
        evaluator.dataset_meta = loader.dataset.metainfo
        for batch in loader:
            evaluator.process(model.test_step(batch), batch)
        return evaluator.evaluate(len(loader.dataset))
