"""Write docs/config_reference.md from annotations and docstrings.

    python tools/dev/docs/config_reference.py

Accepted values and defaults come from the schemas and signatures that mmfmkt
checks configs against; descriptions come from docstrings and this file.
"""

import inspect
import re
import types
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Dict,
    List,
    Literal,
    Optional,
    Tuple,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from mmfmkt.apis.robustness import SWITCHES
from mmfmkt.datasets.transforms.recorded_views import RecordedViews
from mmfmkt.engine import hooks
from mmfmkt.models import flows, losses
from mmfmkt.models.bounds import Bound
from mmfmkt.models.distillers import ClassificationDistiller
from mmfmkt.models.distillers.base import BaseDistiller
from mmfmkt.models.distillers.builder import FLOW_DEFAULTS, TAP_SCHEMA
from mmfmkt.models.distillers.builder import FLOW_SCHEMA as FLOW
from mmfmkt.models.distillers.teacher_config import TEACHER_SCHEMA

PAGE = Path(__file__).resolve().parents[3] / 'docs' / 'config_reference.md'
ENCODERS = [
    x for x in flows.__all__ if x.endswith('Encoder') and x != 'MetaEncoder'
]
SCHEDULES = ('RectifiedFlow', 'VPODE', 'SubVPODE', 'VEODE')
LOSSES = [
    x
    for x in losses.__all__
    if x.endswith('Loss') and not x.startswith('Base')
]

MODEL_TEXT = {
    'variant': 'Distillation method ([Choosing a variant](variants.md)): '
    "`'fmkt'`, `'theta'`, `'online'`, `'parallel'`, `'direct'`.",
    'student': 'Config of the student: a file, a packaged config '
    "(`'mmdet::...'`), or a `model` dict.",
    'tap': 'Path of the module whose output is distilled, such as `neck` or '
    '`backbone`. If the module returns several outputs, an index selects '
    'one: `bbox_head[0]` has the class maps of all levels. `None`: `neck` for '
    'detectors and `head` for classifiers. At `head`, the flow '
    'transforms the last feature before the head, and logits are compared.',
    'teacher': 'Dict of the keys in model.teacher below; `None` for inference '
    'and for OFM-KT.',
    'levels': 'Indices of the distilled levels of the student, counted from '
    '0, the first output of the tap; each is '
    'paired with the teacher level of the nearest stride. `None`: all student '
    'levels for which the teacher has a level of equal stride or, if there '
    'are none, of a stride that differs by less than a factor of 1.41, or '
    'else the one level whose stride is nearest to one of the teacher.',
    'flow': 'Dict of the keys in model.flow below.',
    'taps': 'Several taps instead of `tap` and `levels`; each is a dict of '
    'the keys in model.taps below.',
    'task_loss': "Whether the student's task losses are computed "
    '([Training without labels](unlabelled.md)).',
    'report_steps': 'Classifiers: values of K at which validation also '
    'reports the accuracy, with the evaluator `mmfmkt.StepAccuracy`; each '
    'adds sampling steps.',
}
TEACHER_TEXT = {
    'config': 'Config of the teacher, in the same forms as `student`.',
    'checkpoint': 'Path or URL of the weights; an optional suffix '
    '`#sha256=...` verifies the file. `None`: random weights, to try a '
    'config; a warning is logged.',
    'cfg_options': "Dict of overrides of the teacher's `model` dict, by "
    'dotted keys such as `backbone.depth`.',
    'tap': 'Tap in the teacher; `None`: the path of the tap in the student.',
    'inherit': 'List of modules of the student that are initialized with '
    'teacher weights of equal name and shape, for example `bbox_head`; '
    '`None`: no module.',
    'dtype': 'Precision in which the teacher computes; `None`: that of '
    'the training.',
    'channels_last': 'Whether the teacher uses the memory format '
    '`torch.channels_last`.',
    'compile': 'With `True`, backbone and neck of the teacher are compiled, '
    'except tapped modules; a dict has options of `torch.compile`.',
    'view': 'Size of the images that the teacher receives: a dict of `scale`, '
    "relative to the student's images, and `multiple_of`, in pixels; `None`: "
    "the size of the student's images ([Image "
    'size](teachers.md#image-size)).',
    'classes': 'For taps that compare classes (`bbox_head[0]`, `head`): dict '
    "of all compared pairs, from the student's to the teacher's class names, "
    "or list of the teacher's class names. `None`: equal names are matched "
    '([Other classes](teachers.md#other-classes)).',
    'cache': 'File in which teacher outputs are stored, or a dict of its '
    '`path` and its maximum size in GB, `max_gb`; `None`: no cache '
    '([Cost](cost.md#cache-of-teacher-outputs)).',
}
TAP_TEXT = {
    'tap': 'As `model.tap`.',
    'levels': 'As `model.levels`.',
    'flow': 'Keys that replace those of `model.flow` for this tap; all others '
    'are taken from `model.flow`.',
    'teacher_tap': 'Tap in the teacher; `None`: `teacher.tap` or, if that is '
    '`None` too, the path in `tap`.',
}
FLOW_TEXT = {
    'encoder': 'Meta-encoder, or a list with an encoder for each level; the '
    'keys are listed under [Meta-encoders](#meta-encoders). Choices: '
    "`dict(type='BottleneckEncoder')`, `dict(type='ConvEncoder')`, "
    "`dict(type='DepthwiseConvEncoder')`, `dict(type='ConvNeXtEncoder')`, "
    "`dict(type='MLPEncoder')`, `dict(type='TransformerEncoder')`.",
    'schedule': 'Noise schedule; the keys are listed under [Noise '
    "schedules](#noise-schedules). Choices: `dict(type='RectifiedFlow')`, "
    "`dict(type='VPODE')`, `dict(type='SubVPODE')`, `dict(type='VEODE')`.",
    'metric': 'Distillation loss; its keys are listed under [Distillation '
    'losses](#distillation-losses). On feature maps: '
    "`dict(type='PKDLoss')`, `dict(type='CWDLoss')`, "
    "`dict(type='CrossKDLoss')`; on logits: `dict(type='KDLoss')`, "
    "`dict(type='DKDLoss')`, `dict(type='DISTLoss')`; on both: "
    "`dict(type='MSELoss')`, `dict(type='CosineLoss')`; weighted sums: "
    '[`WeightedSumLoss`](#weightedsumloss).',
    'num_steps': 'N, the number of Euler steps in training, such as `8`, or '
    'several values, from which N is drawn in each iteration.',
    'inference_steps': 'K, the number of Euler steps in deployment, such as '
    '`8`; it may be changed after training.',
    'loss_weight': 'Factor of all distillation losses: a number; '
    "`'auto'`, which sets it from gradient norms; or a dict of `share` and "
    '`iterations`, the settings of `auto`; or a list with a factor for '
    'each level, such as `(10.0, 10.0, 5.0, 5.0)` '
    '([Loss weights](loss_weights.md)).',
    'dirac_ratio': 'Share of a batch whose estimates are compared with the '
    'teacher feature of the same image, such as `0.5`; the other teacher '
    'features of the batch are permuted among themselves (pair decoupling, '
    'beta_d of the paper).',
    'prediction': "Output of the encoder: `'velocity'`, or `'target'` (an "
    'estimate of the teacher feature).',
    'compare': "Inputs of the distillation loss: `'targets'` (estimates and "
    "teacher feature) or `'velocities'`.",
    'direct_weight': 'Weight of the distillation loss between untransformed '
    'student feature and teacher feature, relative to `loss_weight`, such as '
    '`1.0`.',
    'ensemble_weight': 'FM-KT^Theta: weight of the distillation loss between '
    'student feature and mean of the estimates, relative to `loss_weight`, '
    'such as `0.5`; 1.0 in the paper, 0 in the '
    '[presets](configs.md#presets).',
    'share_encoder': 'With `True`, all levels share one encoder; '
    '`paramwise_cfg` then needs `bypass_duplicate=True`.',
    'with_cp': 'Gradient checkpointing of the flow: with `True`, backward '
    'recomputes the Euler steps to save memory.',
    'compile': 'With `True`, the training step of flow and distillation '
    'loss of each level is compiled; a dict has options of `torch.compile`.',
}
ROBUSTNESS_TEXT = {
    'exact_resume': 'With `--resume`, continue a run bit-identically, '
    'also in the middle of an epoch; write a checkpoint on SIGTERM and '
    'SIGINT.',
    'nan_guard': 'Stop on NaN or Inf before the optimizer step.',
    'monitor': 'Log statistics of the flow ([Training '
    'log](visualization.md#training-log)).',
    'safe_checkpoints': 'Write checkpoints atomically; load checkpoints '
    'without running pickled code ([Safe '
    'checkpoints](teachers.md#safe-checkpoints)).',
}
# Defaults of optional keys; keys that are not in the config are read as these.
TEACHER_DEFAULTS = {
    key: False if kind in (bool, Union[bool, dict]) else None
    for key, kind in TEACHER_SCHEMA.items()
    if key != 'config'
}
TAP_DEFAULTS = dict(levels=None, flow={}, teacher_tap=None)
# Arguments that the builder of a flow passes, not the config.
SET_BY_BUILDER = ('self', 'channels', 'layers', 'deep_time')
VARIADIC = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
TYPE_NAMES = {
    int: 'integer',
    float: 'number',
    str: 'string',
    bool: '`True` or `False`',
    type(None): '`None`',
    Any: 'any',
}


def accepted_values(annotation: Any) -> str:
    """Return the values that an annotation accepts, in words."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        bounds = {x.name: x.value for x in parts[1:] if isinstance(x, Bound)}
        return bounded(accepted_values(parts[0]), bounds)
    if origin is Literal:
        return ' or '.join(repr(x) for x in parts)
    if origin in (Union, getattr(types, 'UnionType', Union)):
        return ' or '.join(dict.fromkeys(accepted_values(x) for x in parts))
    if origin in (dict, Dict):
        return 'dict'
    if origin is not None and parts:
        return f'list of {accepted_values(parts[0])}'
    if annotation in TYPE_NAMES:
        return TYPE_NAMES[annotation]
    return getattr(annotation, '__name__', str(annotation))


def bounded(name: str, bounds: Dict[str, float]) -> str:
    """Return a number with its bounds, such as ``number > 0``."""
    low, high = bounds.get('ge', bounds.get('gt')), bounds.get('le')
    if low is not None and high is not None:
        return f'{name} in {"[" if "ge" in bounds else "("}{low}, {high}]'
    signs = {'ge': '>=', 'gt': '>', 'le': '<=', 'lt': '<'}
    limits = [
        f'{sign} {bounds[key]}' for key, sign in signs.items() if key in bounds
    ]
    return ' '.join([name, *limits])


def default_of(value: Any) -> str:
    """Return a default as Python code."""
    if isinstance(value, dict):
        inner = ', '.join(f'{key}={x!r}' for key, x in value.items())
        return f'`dict({inner})`'
    return f'`{value!r}`'


def table(rows: List[Tuple[str, ...]]) -> str:
    """Return a Markdown table of keys.

    Args:
        rows (list[tuple[str, ...]]): Key, accepted values, default and
            description of each key.
    """
    lines = [
        '| Key | Accepted | Default | Description |',
        '|---|---|---|---|',
        *(f'| {" | ".join(row)} |' for row in rows),
    ]
    return '\n'.join(lines)


def schema_table(
    schema: Dict[str, Any],
    text: Dict[str, str],
    prefix: str = '',
    defaults: Optional[Dict[str, Any]] = None,
) -> str:
    """Return the table of a schema.

    Args:
        schema (dict): Annotations by key.
        text (dict[str, str]): Descriptions by key.
        prefix (str): Prefix of the keys in the table.
        defaults (dict, optional): Defaults by key.
    """
    defaults = defaults or {}
    return table(
        [
            (
                f'`{prefix}{key}`',
                accepted_values(kind),
                default_of(defaults[key]) if key in defaults else '',
                text[key],
            )
            for key, kind in schema.items()
        ]
    )


def argument_descriptions(cls: type) -> Dict[str, str]:
    """Return descriptions of arguments from the docstrings of a class.

    A subclass overrides the descriptions of its bases.
    """
    descriptions: Dict[str, str] = {}
    for owner in cls.__mro__:
        doc = inspect.cleandoc(vars(owner).get('__doc__') or '')
        match = re.search(r'^Args:\n((?:    .*\n?|\n)+)', doc, re.MULTILINE)
        entries = re.findall(
            r'^    ([\w, ]+?) \(.*?\): (.*(?:\n {8}.*)*)',
            match.group(1) if match else '',
            re.MULTILINE,
        )
        for names, description in entries:
            for name in names.split(', '):
                text = re.sub(r'\s+', ' ', description.replace('``', '`'))
                descriptions.setdefault(name, text)
    return descriptions


def argument_rows(cls: type) -> List[Tuple[str, ...]]:
    """Return a row for each argument that a config may set."""
    rows: Dict[str, Tuple[str, ...]] = {}
    text = argument_descriptions(cls)
    for owner in cls.__mro__:
        if '__init__' not in vars(owner) or owner.__module__[:6] != 'mmfmkt':
            continue
        function = vars(owner)['__init__']
        hints = get_type_hints(function, include_extras=True)
        entries = inspect.signature(function).parameters
        for name, entry in entries.items():
            if name in SET_BY_BUILDER or entry.kind in VARIADIC:
                continue
            has_default = entry.default is not entry.empty
            row = (
                f'`{name}`',
                accepted_values(hints.get(name, Any)),
                default_of(entry.default) if has_default else '',
                text.get(name, '').rstrip('.'),
            )
            rows.setdefault(name, row)
        if all(x.kind != x.VAR_KEYWORD for x in entries.values()):
            break
    return list(rows.values())


def class_section(cls: type, common: Tuple[str, ...] = ()) -> str:
    """Return the heading, first docstring line and arguments of a class.

    Args:
        cls (type): The class.
        common (tuple[str, ...]): Keys to leave out: another table has them.
    """
    first = inspect.cleandoc(cls.__doc__ or '').split('\n\n')[0]
    first = ' '.join(first.replace('``', '`').split())
    rows = [x for x in argument_rows(cls) if x[0].strip('`') not in common]
    body = f'### {cls.__name__}\n\n{first}'
    return body + (f'\n\n{table(rows)}' if rows else '')


def page_text() -> str:
    """Return the text of docs/config_reference.md."""
    hints: Dict[str, Any] = {}
    for cls in (BaseDistiller, ClassificationDistiller):
        hints |= get_type_hints(cls.__init__, include_extras=True)
    model = {key: hints[key] for key in MODEL_TEXT}
    model_defaults = {
        key: entry.default
        for owner in ClassificationDistiller.__mro__[:2]
        for key, entry in inspect.signature(owner).parameters.items()
        if key in model and entry.default is not entry.empty
    }
    switches = dict(SWITCHES)
    parts = [
        '# Config reference',
        '`python tools/dev/docs/config_reference.py` writes this page from '
        'the type annotations against which configs are checked. Each row '
        'is a key; keys without a default are required. Invalid values raise '
        'a `ConfigError` that names the key. C is the number of channels of '
        'the tapped feature, X_S the student feature, X_T the teacher '
        'feature, and X_hat an estimate of X_T ([Method](method.md)). The '
        'defaults are those of the library; [presets](configs.md#presets) '
        'set other values.',
        '## model',
        schema_table(model, MODEL_TEXT, '', model_defaults),
        '## model.teacher',
        schema_table(
            TEACHER_SCHEMA, TEACHER_TEXT, 'teacher.', TEACHER_DEFAULTS
        ),
        '## model.taps',
        schema_table(TAP_SCHEMA, TAP_TEXT, 'taps[i].', TAP_DEFAULTS),
        '## model.flow',
        'At the tap `head` of a classifier, four defaults differ from the '
        "table: `metric=dict(type='KDLoss')`, `num_steps=8`, "
        '`inference_steps=8` and `loss_weight=1.0`.',
        schema_table(FLOW, FLOW_TEXT, 'flow.', FLOW_DEFAULTS),
        '## robustness',
        schema_table(
            switches,
            ROBUSTNESS_TEXT,
            'robustness.',
            dict.fromkeys(switches, True),
        ),
        '## Meta-encoders',
        'Values of `flow.encoder`. Two arguments are set from the tap: '
        '`channels`, which is C, and `deep_time`, a time embedding of two '
        'layers instead of one, for logits. "Up" and "down" state whether a '
        'convolution increases or decreases the number of channels. All '
        'encoders have one key in common:',
        table(argument_rows(flows.MetaEncoder)),
        *(class_section(getattr(flows, x), ('zero_init',)) for x in ENCODERS),
        '## Noise schedules',
        'Values of `flow.schedule`: the coefficients alpha and sigma of the '
        'interpolation `alpha X_S + sigma X_T` at a time t in [0, 1], from '
        'the student feature at t = 1 to the teacher feature at t = 0.',
        *(class_section(getattr(flows, name)) for name in SCHEDULES),
        '## Distillation losses',
        'Values of `flow.metric`: losses D(p, q), where p is the output of '
        'the student (a feature map or logits, transformed by the flow, '
        'untransformed in the direct term) and q that of the teacher. T is a '
        'temperature and KL the Kullback-Leibler divergence.',
        *(class_section(getattr(losses, name)) for name in LOSSES),
        '## Hooks',
        'Entries of `custom_hooks`; in `type`, each name has the prefix '
        "`mmfmkt.`, as in `dict(type='mmfmkt.NanGuardHook')`.",
        *(
            class_section(cls)
            for name, cls in sorted(vars(hooks).items())
            if name.endswith('Hook') and cls.__name__ == name
        ),
        '## Transforms',
        'Entries of a `pipeline`, with the prefix `mmfmkt.` in `type`.',
        class_section(RecordedViews),
    ]
    return '\n\n'.join(parts) + '\n'


if __name__ == '__main__':
    PAGE.write_text(page_text(), encoding='utf-8')
    print(PAGE)
