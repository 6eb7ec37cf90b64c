"""Configs of compared methods, with the same student, data and budget."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, List, Optional, Sequence, Tuple

from mmengine.config import Config
from mmengine.registry import MODELS

from mmfmkt.datasets.coco_folder import CocoFolder
from mmfmkt.engine.export import student_config
from mmfmkt.engine.resume import has_checkpoint
from mmfmkt.models.distillers.builder import FLOW_DEFAULTS, HEAD_DEFAULTS
from mmfmkt.models.distillers.taps import HEAD
from mmfmkt.models.flows import VARIANTS
from mmfmkt.utils import ConfigError
from mmfmkt.utils.configs import read_config, with_importable_types
from mmfmkt.utils.files import write_atomically
from mmfmkt.utils.types import resolve_type

from ..distill import compose_distillation
from ..train import use_amp
from .plan import Method, read_result

BASELINE = 'baseline'
# Names of the methods by variant.
NAMES = dict(fmkt='FM-KT', theta='Theta', online='OFM-KT', parallel='Parallel')
# Arguments of parameter schedulers that are numbers of epochs or iterations.
COUNTS = ('T_max', 'total_steps', 'step_size', 'milestones', 'periods')


def compose_methods(
    methods: Sequence[str],
    student: str,
    teacher: Optional[str],
    folder: Path,
    seeds: Sequence[int],
    budget: Optional[int] = None,
    steps: Sequence[int] = (),
    cfg_options: Optional[dict] = None,
    amp: bool = False,
    class_maps: bool = False,
    **compose_options: Any,
) -> List[Method]:
    """Write a config for each method.

    Args:
        methods (Sequence[str]): ``'baseline'``, keys of ``VARIANTS`` or
            config files.
        student (str): The student's config.
        teacher (str, optional): The teacher's config.
        folder (Path): Folder of the configs, in the folder of all runs.
        seeds (Sequence[int]): Seeds of each method.
        budget (int, optional): Epochs of each run, or iterations if the
            config has ``max_iters``.
        steps (Sequence[int]): Numbers of sampling steps K at which flows are
            evaluated; by default that of the config.
        cfg_options (dict, optional): Overrides of all configs.
        amp (bool): Whether to train in mixed precision.
        class_maps (bool): Whether variants with a teacher distill class
            maps, too.
        compose_options: Other arguments of `compose_distillation`, such as
            ``teacher_checkpoint``.

    Raises:
        ConfigError: If a config cannot be composed; the message names the
            method.
    """
    composed_methods: List[Method] = []
    folders: List[CocoFolder] = []
    for source in methods:
        try:
            cfg, data = method_config(
                source,
                student,
                teacher,
                cfg_options,
                class_maps,
                **compose_options,
            )
            if budget is not None:
                set_budget(cfg, budget)
            if source == BASELINE:
                cfg = baseline_of(cfg)
            if amp:
                use_amp(cfg)
        except ConfigError as error:
            raise ConfigError(f'--methods {source}: {error}') from error
        keep_latest_checkpoint(cfg)
        name = NAMES.get(source, Path(source).stem)
        method = Method(name, '', list(seeds), is_baseline=source == BASELINE)
        if method.folder in [x.folder for x in composed_methods]:
            raise ConfigError(
                f'--methods: two methods have the name {name!r}. The name of '
                "a config's method is that of its file."
            )
        model = cfg.model
        variant = model.get('variant', 'fmkt') if 'student' in model else None
        method.is_loss_without_flow = variant == 'direct'
        if variant in VARIANTS and VARIANTS[variant].deploys_flow:
            default_k = share_inference_steps(cfg)
            method.inference_steps = list(steps) or [default_k]
        method.config = str(write_once(folder / f'{method.folder}.py', cfg))
        composed_methods.append(method)
        folders += [data] if data else []
    # Annotations of finished runs are kept if `write_once` raises an error.
    for data in folders:
        data.write()
    return composed_methods


def method_config(
    source: str,
    student: str,
    teacher: Optional[str],
    cfg_options: Optional[dict],
    class_maps: bool,
    **compose_options: Any,
) -> Tuple[Config, Optional[CocoFolder]]:
    """Return the config of a method, and the data set of ``data_root``.

    For the baseline, this is a distillation of the student, from which
    `baseline_of` removes the teacher. ``source`` is an element of ``methods``
    of `compose_methods`, which documents the other arguments.
    """
    if source.endswith('.py'):
        return with_importable_types(read_config(source, cfg_options)), None
    variant = source
    if source == BASELINE:
        variant = 'direct' if teacher else 'online'
    if variant not in VARIANTS:
        raise ConfigError(
            f'must be {BASELINE}, {", ".join(VARIANTS)} or a config file '
            '(.py).'
        )
    needs_teacher = VARIANTS[variant].needs_teacher
    if not needs_teacher:
        for key in ('teacher_checkpoint', 'teacher_scale'):
            compose_options.pop(key, None)
    with TemporaryDirectory() as folder:
        composed = compose_distillation(
            student,
            teacher if needs_teacher else None,
            Path(folder, f'{source}.py'),
            variant=variant,
            class_maps=class_maps and needs_teacher,
            cfg_options=cfg_options,
            **compose_options,
        )
        return read_config(str(composed.config), cfg_options), composed.data


def share_inference_steps(cfg: Config) -> int:
    """Set K of all taps to that of the first one, and return it.

    Otherwise, `flow.inference_steps` of a tap would override the K of an
    evaluation.

    Args:
        cfg (Config): Distillation config, changed in place.
    """
    model = cfg.model
    taps = model.get('taps') or [model]
    distiller = resolve_type(model, MODELS, cfg.get('default_scope'))
    tap = taps[0].get('tap') or getattr(distiller, 'default_tap', None)
    defaults = HEAD_DEFAULTS if tap == HEAD else FLOW_DEFAULTS
    flow = model.get('flow') or {}
    k = {**defaults, **flow, **(taps[0].get('flow') or {})}['inference_steps']
    for entry in taps:
        (entry.get('flow') or {}).pop('inference_steps', None)
    model.flow = dict(flow, inference_steps=k)
    return k


def set_budget(cfg: Config, budget: int) -> None:
    """Set the number of epochs, or of iterations if ``max_iters`` is set.

    Parameter schedules are scaled by the same factor and rounded to epochs (or
    iterations), except for schedules by iteration in a training by epoch,
    which are warm-ups. Schedules that become too short are omitted.

    Args:
        cfg (Config): Changed in place.
        budget (int): Epochs or iterations.
    """
    key = 'max_iters' if 'max_iters' in cfg.train_cfg else 'max_epochs'
    if not cfg.train_cfg.get(key):
        raise ConfigError(f'--budget needs the config key train_cfg.{key}.')
    total, cfg.train_cfg[key] = cfg.train_cfg[key], budget
    schedulers = cfg.get('param_scheduler')
    if isinstance(schedulers, dict) and 'type' in schedulers:
        schedulers = [schedulers]
    if not isinstance(schedulers, list):
        return  # none, or a dict by optimizer
    cfg.param_scheduler = [
        x
        for x in schedulers
        if (key == 'max_epochs' and not x.get('by_epoch', True))
        or scale_schedule(x, total, budget / total)
    ]


def scale_schedule(scheduler: dict, total: int, factor: float) -> bool:
    """Scale a parameter schedule, and return whether it is to be kept.

    It is omitted without a step, or with a single one, in which a warm-up
    would keep its initial factor and other schedules change nothing.

    Args:
        scheduler (dict): Changed in place.
        total (int): Epochs (or iterations) of the config.
        factor (float): Factor of the number of epochs (or iterations).
    """
    begin, end = scheduler.get('begin', 0), scheduler.get('end', total)
    if scheduler.get('T_max') == end - begin:
        del scheduler['T_max']  # which is its default
    old_drops = num_drops(scheduler, begin, end)
    for name in COUNTS:
        value = scheduler.get(name)
        if isinstance(value, (list, tuple)):
            scheduler[name] = [max(round(x * factor), 1) for x in value]
        elif value:
            scheduler[name] = max(round(value * factor), 1)
    begin, end = round(begin * factor), round(end * factor)
    scheduler.update(begin=begin, end=end)
    drops = num_drops(scheduler, begin, end)
    if drops and old_drops:
        # Keep the total decay, although steps are whole epochs.
        gamma = scheduler.get('gamma', 0.1)  # MMEngine's default
        scheduler['gamma'] = gamma ** (old_drops / drops)
    # MMEngine converts epochs of such a schedule to iterations.
    return end - begin > (0 if scheduler.get('convert_to_iter_based') else 1)


def num_drops(scheduler: dict, begin: int, end: int) -> int:
    """Return how often a step or exponential schedule multiplies by gamma.

    It is 0 for any other schedule.
    """
    is_exponential = 'gamma' in scheduler and 'milestones' not in scheduler
    if 'step_size' in scheduler or is_exponential:
        return max(end - begin - 1, 0) // scheduler.get('step_size', 1)
    return 0


def baseline_of(cfg: Config) -> Config:
    """Return the config that trains a distillation's student alone."""
    baseline = student_config(cfg)
    for key in ('load_from', 'robustness'):
        if key in cfg:
            baseline[key] = cfg[key]
    return baseline


def keep_latest_checkpoint(cfg: Config) -> None:
    """Keep the last checkpoint only, unless ``max_keep_ckpts`` is set.

    Only the last checkpoint is evaluated.
    """
    hook = (cfg.get('default_hooks') or {}).get('checkpoint')
    if isinstance(hook, dict):
        hook.setdefault('max_keep_ckpts', 1)


def write_once(path: Path, cfg: Config) -> Path:
    """Write a config, unless another config at this path has been trained.

    Raises:
        ConfigError: If the file exists with another config, and a run of this
            config has saved a checkpoint or is trained.
    """
    # Compare dicts, since the layout of texts depends on yapf's version.
    config = Config.fromstring(cfg.pretty_text, '.py').to_dict()
    runs = (path.parent.parent / path.stem).glob('*')
    if (
        path.exists()
        and any(
            has_checkpoint(x) or 'checkpoint' in read_result(x) for x in runs
        )
        and Config.fromfile(path).to_dict() != config
    ):
        raise ConfigError(
            f'{str(path)!r} was written with other settings: repeat the '
            'options of the first call (methods and seeds may be added), or '
            'use another --work-dir.'
        )
    write_atomically(path, cfg.pretty_text)
    return path
