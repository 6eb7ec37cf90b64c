"""Loading and evaluation of a run's network."""

from copy import deepcopy
from typing import Any, Dict, NamedTuple

import torch
from mmengine.registry import DATASETS, DefaultScope
from mmengine.runner import Runner
from torch import nn

from mmfmkt.models.distillers.networks import (
    build_network,
    load_model_config,
    without_weights,
)
from mmfmkt.utils import ConfigError
from mmfmkt.utils.checkpoints import load_checkpoint

from .runs import WorkDir


class LoadedRun(NamedTuple):
    """A run with its network.

    Attributes:
        run (WorkDir): The run.
        model (nn.Module): Network with the latest weights, in eval mode.
        data (Any): Test dataset of the run.
    """

    run: WorkDir
    model: nn.Module
    data: Any


def load_run(run: WorkDir) -> LoadedRun:
    """Load the network and the test dataset of a run.

    Raises:
        ConfigError: If the run has no checkpoint.
    """
    if run.checkpoint is None:
        raise ConfigError(f'{run.folder} has no checkpoint yet.')
    try:
        model = load_model(run)
    except ConfigError:
        # The teacher may be gone; inference does not need it.
        model = load_model(run, teacher=False)
    loader = run.config.get('test_dataloader') or run.config.val_dataloader
    scope = run.config.get('default_scope')
    with DefaultScope.overwrite_default_scope(scope):
        data = DATASETS.build(deepcopy(loader.dataset))
    data.full_init()
    return LoadedRun(run, model, data)


def load_model(run: WorkDir, teacher: bool = True) -> nn.Module:
    """Build a run's network with its latest weights.

    Args:
        run (WorkDir): A run with a checkpoint.
        teacher (bool): Whether to build a distiller's teacher.
    """
    model = load_model_config(run.config, 'model')
    if not run.distills:
        model = without_weights(model)
    elif not teacher:
        model.teacher = None
    elif model.get('teacher') is not None:
        model.teacher.pop('cache', None)
    network = build_network(model, 'mmdet')
    state = load_checkpoint(str(run.checkpoint))
    network.load_state_dict(state.get('state_dict', state), strict=False)
    return network.eval()


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
