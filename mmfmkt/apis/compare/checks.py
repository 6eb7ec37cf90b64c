"""Checks of all methods before any of them is trained."""

from contextlib import redirect_stdout
from copy import deepcopy
from functools import partial
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Mapping,
    Optional,
    Set,
    Tuple,
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
from mmfmkt.utils.error_messages import errors_as_config_errors

from ..robustness import check_mmfmkt_hooks
from ..train import checkpoint_guard, verify_load_from
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
    built_sections: Set[str] = set()
    for method in methods:
        try:
            cfg = run_config(method, method.seeds[0], teacher, amp)
            scope = cfg.get('default_scope')
            with (
                checkpoint_guard(cfg),
                DefaultScope.overwrite_default_scope(scope),
            ):
                for keys, check in CHECKS.items():
                    section = Config({x: cfg[x] for x in keys if x in cfg})
                    if (text := repr(section)) not in built_sections:
                        # pycocotools prints messages when it loads a file.
                        with (
                            errors_as_config_errors(section),
                            redirect_stdout(None),
                        ):
                            check(cfg)
                        built_sections.add(text)
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


# Checks of sections of a config, by the keys of the sections.
CHECKS: Dict[Tuple[str, ...], Callable[[Config], Any]] = {
    (
        'model',
        'data_preprocessor',
        'optim_wrapper',
        'default_hooks',
        'custom_hooks',
    ): build_training,
    ('load_from',): verify_load_from,
    ('train_dataloader',): partial(read_sample, key='train_dataloader'),
    ('test_dataloader',): partial(read_sample, key='test_dataloader'),
    ('test_evaluator',): check_evaluator,
}
