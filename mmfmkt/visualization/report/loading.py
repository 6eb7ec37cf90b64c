"""Loading and evaluation of a run's network."""

from copy import deepcopy
from typing import Any, Dict, NamedTuple

import torch
from mmengine.registry import DATASETS, DefaultScope
from mmengine.runner import Runner
from torch import nn

from mmfmkt.apis.inference import load_network
from mmfmkt.utils import ConfigError

from .runs import WorkDir


class LoadedRun(NamedTuple):
    """A run with its network and dataset.

    Attributes:
        run (WorkDir): The run.
        model (nn.Module): Network with the latest weights, in eval mode.
        dataset (Any): Test dataset of the run.
    """

    run: WorkDir
    model: nn.Module
    dataset: Any


def load_run(run: WorkDir) -> LoadedRun:
    """Load the network and the test dataset of a run.

    Raises:
        ConfigError: If the run has no checkpoint.
    """
    if run.checkpoint is None:
        raise ConfigError(f'{run.folder} has no checkpoint yet.')
    checkpoint = str(run.checkpoint)
    try:
        model = load_network(run.config, checkpoint, keep_teacher=True)
    except ConfigError:
        # The teacher's checkpoint may be missing; inference does not need it.
        model = load_network(run.config, checkpoint)
    loader = run.config.get('test_dataloader') or run.config.val_dataloader
    scope = run.config.get('default_scope')
    with DefaultScope.overwrite_default_scope(scope):
        dataset = DATASETS.build(deepcopy(loader.dataset))
    dataset.full_init()
    return LoadedRun(run, model, dataset)


@torch.no_grad()
def evaluate(run: WorkDir, model: nn.Module) -> Dict[str, Any]:
    """Evaluate a network with the run's test dataloader and evaluator.

    Args:
        run (WorkDir): The run.
        model (nn.Module): The network, in eval mode.
    """
    config = deepcopy(run.config)
    with DefaultScope.overwrite_default_scope(config.get('default_scope')):
        loader = Runner.build_dataloader(config.test_dataloader)
        evaluator = Runner.build_evaluator(None, config.test_evaluator)
        evaluator.dataset_meta = loader.dataset.metainfo
        for batch in loader:
            evaluator.process(model.test_step(batch), batch)
        return evaluator.evaluate(len(loader.dataset))
