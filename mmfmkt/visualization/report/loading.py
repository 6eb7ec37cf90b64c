"""Networks, validation data and evaluation of a run."""

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
        model (nn.Module): Its network with the latest weights, in eval mode.
        data (Any): The data set that it is evaluated on.
    """

    run: WorkDir
    model: nn.Module
    data: Any


def load_run(run: WorkDir) -> LoadedRun:
    """Load a run's network and validation data.

    Raises:
        ConfigError: If it has no checkpoint.
    """
    if run.checkpoint is None:
        raise ConfigError(f'{run.folder} has no checkpoint yet.')
    try:
        model = load_model(run)
    except ConfigError:
        # A distiller predicts without its teacher.
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
        run (WorkDir): The run; it has a checkpoint.
        teacher (bool): Whether to build the teacher of a distiller.
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
    """Evaluate a network as the run's test_evaluator does.

    Args:
        run (WorkDir): The run, for its test data.
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
