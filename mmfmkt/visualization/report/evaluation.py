"""Evaluating a model that is loaded already."""

from copy import deepcopy
from typing import Any, Dict

import torch
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import nn

from .runs import WorkDir


@torch.no_grad()
def evaluate(run: WorkDir, model: nn.Module) -> Dict[str, Any]:
    """Evaluate as a run's test_evaluator does.

    Args:
        run (WorkDir): The run, for its test data.
        model (nn.Module): What it has trained, in eval mode.
    """
    config = run.config
    scope = config.get('default_scope')
    with DefaultScope.overwrite_default_scope(scope):
        loader = Runner.build_dataloader(deepcopy(config.test_dataloader))
        evaluator = Runner.build_evaluator(
            None, deepcopy(config.test_evaluator)
        )
        evaluator.dataset_meta = loader.dataset.metainfo
        for batch in loader:
            evaluator.process(model.test_step(batch), batch)
        return evaluator.evaluate(len(loader.dataset))
