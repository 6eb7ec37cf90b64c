"""Checks of all methods before any of them is trained."""

from contextlib import redirect_stdout
from copy import deepcopy
from typing import (
    Any,
    Iterable,
    Mapping,
    Optional,
)

from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, MODELS, DefaultScope
from mmengine.runner import Runner

from mmfmkt.models.distillers.networks import (
    init_random_weights,
    load_model_config,
)
from mmfmkt.utils import ConfigError
from mmfmkt.utils.checkpoints import load_checkpoint
from mmfmkt.utils.error_messages import errors_as_config_errors

from ..robustness import check_mmfmkt_hooks
from ..train import checkpoint_guard
from .plan import Method, run_config


def check_methods(
    methods: Iterable[Method],
    teacher: Optional[Mapping[str, Any]] = None,
    amp: bool = False,
) -> None:
    """Build model, optimizer, datasets and evaluator of each method.

    Loads weights and reads a sample of each dataset, which detects wrong
    paths. A section of a config that several methods share is built once.

    Args:
        methods (Iterable[Method]): The methods.
        teacher (Mapping, optional): Keys of ``model.teacher`` to set, as in
            `run_config`.
        amp (bool): Whether the methods are trained in mixed precision.

    Raises:
        ConfigError: If a section cannot be built; the message names the method
            and the config key.
    """
    for method in methods:
        try:
            cfg = run_config(method, method.seeds[0], teacher, amp)
            with (
                checkpoint_guard(cfg),
                DefaultScope.overwrite_default_scope(cfg.get('default_scope')),
                errors_as_config_errors(cfg),
                # pycocotools prints messages when it loads a file.
                redirect_stdout(None),
            ):
                build_training(cfg)
                if cfg.get('load_from'):
                    load_checkpoint(cfg.load_from)
                read_sample(cfg, 'train_dataloader')
                read_sample(cfg, 'test_dataloader')
                check_evaluator(cfg)
        except ConfigError as error:
            raise ConfigError(f'{method.name}: {error}') from error


def build_training(cfg: Config) -> None:
    """Build the model, load its weights, and build the optimizer."""
    check_mmfmkt_hooks(cfg)
    model_cfg = load_model_config(cfg, 'model')
    if model_cfg.get('teacher'):
        # Building a model with a cache writes the cache's file.
        model_cfg.teacher.pop('cache', None)
    model = MODELS.build(model_cfg)
    init_random_weights(model)  # also loads the weights of `init_cfg`
    if not cfg.get('strategy'):
        build_optim_wrapper(model, deepcopy(cfg.optim_wrapper))


def read_sample(cfg: Config, key: str) -> None:
    """Build a dataset and read its first sample."""
    if not cfg.get(key):
        raise ConfigError(f'The config has no {key}.')
    _ = DATASETS.build(deepcopy(cfg[key]['dataset']))[0]


def check_evaluator(cfg: Config) -> None:
    """Build the evaluator, and check that it computes metrics."""
    evaluator = Runner.build_evaluator(None, deepcopy(cfg.test_evaluator))
    if all(getattr(x, 'format_only', False) for x in evaluator.metrics):
        raise ConfigError(
            'test_evaluator: format_only=True computes no metrics; it must be '
            'False.'
        )
