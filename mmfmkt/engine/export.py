"""Export of the student from a distillation checkpoint.

FM-KT^Theta exports a MMDetection or MMPretrain config and checkpoint that do
not need mmfmkt. FM-KT exports the student with its flow. No export has a
teacher.
"""

from copy import deepcopy
from pathlib import Path
from typing import NamedTuple, Optional, Union

from mmengine.config import Config, ConfigDict
from mmengine.registry import HOOKS, METRICS, MODELS, OPTIM_WRAPPERS

from mmfmkt.evaluation import StepAccuracy
from mmfmkt.models.distillers import DetectionDistiller
from mmfmkt.models.distillers.networks import (
    build_network,
    drop_teacher,
    load_model_config,
    without_weights,
)
from mmfmkt.models.flows import VARIANTS
from mmfmkt.utils import ConfigError
from mmfmkt.utils.checkpoints import load_checkpoint
from mmfmkt.utils.configs import (
    add_mmfmkt_import,
    imported_modules,
    typed_parts,
    with_importable_types,
)
from mmfmkt.utils.files import save_atomically
from mmfmkt.utils.types import is_from_mmfmkt, resolve_type

FLOWS_PREFIX = 'flows.'


class Exported(NamedTuple):
    """Paths of an exported student.

    Attributes:
        config (Path, optional): Config file; None for a backbone that was
            trained without labels.
        checkpoint (Path): Checkpoint file.
    """

    config: Optional[Path]
    checkpoint: Path

    @property
    def usage(self) -> str:
        """Text that describes how a config uses the export."""
        if self.config is not None:
            return f'{self.config} and {self.checkpoint}'
        return (
            f"{self.checkpoint}: init_cfg=dict(type='Pretrained', "
            f"checkpoint={str(self.checkpoint)!r}, prefix='backbone.') in a "
            "backbone, with prefix='neck.' in a neck"
        )


def export_student(
    config: Union[str, Path, Config],
    checkpoint: str,
    out_dir: Union[str, Path],
) -> Exported:
    """Export a student as ``student.py`` and ``student.pth``.

    After a training without labels, export ``backbone.pth`` instead: the
    trained backbone and neck, which other configs load by ``init_cfg``. With
    MMEngine's EMAHook, the averaged weights are exported.

    Args:
        config (str | Path | Config): Distillation config.
        checkpoint (str): Path or URL of its checkpoint.
        out_dir (str | Path): Output folder; it is created.

    Raises:
        ConfigError: If the config does not distill, or the checkpoint does
            not belong to it.
    """
    if not isinstance(config, Config):
        config = Config.fromfile(config)
    if 'student' not in config.get('model', {}):
        raise ConfigError(
            "The config is not a distillation: it has no key 'model.student'."
        )
    config = with_importable_types(config)
    content = load_checkpoint(str(checkpoint))
    if not config.model.get('task_loss', True):
        return export_backbone(config, content, Path(out_dir))
    variant = config.model.get('variant', 'fmkt')
    exported_config = (
        student_with_flow_config(config, content)
        if VARIANTS[variant].deploys_flow
        else student_config(config)
    )
    state = deployed_state(
        content.get('state_dict', content), exported_config, checkpoint
    )

    out_dir = Path(out_dir)
    paths = Exported(out_dir / 'student.py', out_dir / 'student.pth')
    meta = dict(content.get('meta', {}), cfg=exported_config.pretty_text)
    save_atomically(paths.checkpoint, dict(meta=meta, state_dict=state))
    exported_config.dump(paths.config)
    return paths


def export_backbone(config: Config, content: dict, out_dir: Path) -> Exported:
    """Export backbone and neck after a training without labels.

    Args:
        config (Config): Distillation config.
        content (dict): Content of its checkpoint.
        out_dir (Path): Output folder; it is created.
    """
    model = config.model
    taps = [
        x.get('tap') or DetectionDistiller.default_tap
        for x in model.get('taps') or [model]
    ]
    uses_neck = any(tap.split('.')[0] == 'neck' for tap in taps)
    prefixes = ('backbone.', 'neck.') if uses_neck else ('backbone.',)
    state = {
        name: x
        for name, x in content.get('state_dict', content).items()
        if name.startswith(prefixes)
    }
    path = out_dir / 'backbone.pth'
    meta = dict(content.get('meta', {}), cfg=config.pretty_text)
    save_atomically(path, dict(meta=meta, state_dict=state))
    return Exported(None, path)


def deployed_state(
    state: dict, exported_config: Config, checkpoint: str
) -> dict:
    """Leave out the tensors of flows that the exported model does not have.

    All other tensors are the student's; a checkpoint has none of the teacher.

    Args:
        state (dict): State dict of the distiller.
        exported_config (Config): Config of the exported model.
        checkpoint (str): Path of the checkpoint, for the error.

    Raises:
        ConfigError: If a tensor is missing or has another shape.
    """
    model = without_weights(deepcopy(exported_config.model))
    network = build_network(model, exported_config.get('default_scope'))
    expected = network.state_dict()
    missing = [
        name
        for name, x in expected.items()
        if getattr(state.get(name), 'shape', None) != x.shape
    ]
    if missing:
        raise ConfigError(
            f'The checkpoint {checkpoint!r} does not fit this student: '
            f'{len(missing)} of {len(expected)} tensors are missing or have '
            f'another shape, for example {missing[0]}. Use the config of its '
            'training, with the same --cfg-options.'
        )
    return {
        name: x
        for name, x in state.items()
        if not name.startswith(FLOWS_PREFIX) or name in expected
    }


def student_config(config: Config) -> Config:
    """Return the student's config, which does not need mmfmkt.

    If the student has a module of mmfmkt, the config keeps the import.
    """
    exported = without_training(config)
    exported.model = resolved_student(exported)
    scope = exported.get('default_scope')
    for key in ('val_evaluator', 'test_evaluator'):
        for _, metric in typed_parts(exported.get(key)):
            # StepAccuracy is needed only with a flow.
            if resolve_type(metric, METRICS, scope) is StepAccuracy:
                metric['type'] = 'mmpretrain.Accuracy'
    if exported.get('custom_imports'):
        exported.custom_imports['imports'] = [
            module
            for module in imported_modules(exported)
            if module.partition('.')[0] != 'mmfmkt'
        ]
    if 'mmfmkt.' in exported.pretty_text:
        add_mmfmkt_import(exported)
    return exported


def student_with_flow_config(config: Config, checkpoint: dict) -> Config:
    """Return the distiller's config without teacher and training options.

    Args:
        config (Config): Distillation config.
        checkpoint (dict): Content of its checkpoint.
    """
    exported = without_training(config)
    model = exported.model
    drop_teacher(model, checkpoint)
    # A prediction would sample the flow at each of these K.
    model.pop('report_steps', None)
    # A weight from gradient norms would be a part of the exported model.
    for section in (model, *(model.get('taps') or ())):
        (section.get('flow') or {}).pop('loss_weight', None)
    model.student = resolved_student(exported)
    scope = config.get('default_scope')
    distiller_class = resolve_type(model, MODELS, scope)
    if issubclass(distiller_class, DetectionDistiller):
        # mmdet.apis.init_detector sets model.backbone.init_cfg, so the
        # section must exist.
        model.backbone = dict(init_cfg=None)
    add_mmfmkt_import(exported)
    return exported


def resolved_student(config: Config) -> ConfigDict:
    """Return the student's ``model`` section.

    Keys of a distiller's ``model.backbone``, where MMDetection sets
    ``init_cfg``, replace those of the student's backbone. A distiller's
    ``model.data_preprocessor`` is that of a student without one.
    """
    student = load_model_config(config.model.student, 'model.student')
    preprocessor = config.model.get('data_preprocessor')
    if preprocessor and preprocessor != config.get('data_preprocessor'):
        student.setdefault('data_preprocessor', preprocessor)
    if config.model.get('backbone'):
        student.backbone.update(config.model.backbone)
    # A `_scope_` that equals the default scope of the config is redundant.
    if student.get('_scope_') in (None, config.get('default_scope')):
        student.pop('_scope_', None)
    return student


def without_training(config: Config) -> Config:
    """Return a copy without the settings of the distillation run."""
    exported = deepcopy(config)
    # Presets define the variable `distiller`, which `model` is made from.
    for key in ('distiller', 'robustness', 'work_dir'):
        exported.pop(key, None)
    exported.load_from, exported.resume = None, False
    exported.launcher = 'none'
    scope = exported.get('default_scope')
    wrapper = exported.get('optim_wrapper')
    if is_from_mmfmkt(resolve_type(wrapper, OPTIM_WRAPPERS, scope)):
        wrapper.type = 'OptimWrapper'

    def is_kept(hook: dict) -> bool:
        return not is_from_mmfmkt(resolve_type(hook, HOOKS, scope))

    hooks = exported.get('custom_hooks') or []
    exported.custom_hooks = [hook for hook in hooks if is_kept(hook)]
    default_hooks = exported.get('default_hooks') or {}
    exported.default_hooks = {
        name: hook for name, hook in default_hooks.items() if is_kept(hook)
    }
    return exported
