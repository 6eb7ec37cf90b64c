"""Write the tables of docs/config_reference.md.

    python tools/dev/docs/config_reference.py

Accepted values and defaults come from the schemas and signatures that mmfmkt
checks configs against. Descriptions of classes and their arguments come from
docstrings; those of other keys, which have no docstrings, are kept. A new key
has an empty description, which is to be written in the page.
"""

import inspect
import re
import sys
import types
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Dict,
    List,
    Literal,
    Tuple,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from mmfmkt.apis.compare.results import markdown_table
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

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'benchmark'))

from protocol.page import replace_section, split_section  # noqa: E402

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

MODEL_KEYS = (
    'variant',
    'student',
    'tap',
    'teacher',
    'levels',
    'flow',
    'taps',
    'task_loss',
    'report_steps',
)
HEADER = ('Key', 'Accepted', 'Default', 'Description')
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


def schema_table(
    section: str,
    schema: Dict[str, Any],
    prefix: str,
    defaults: Dict[str, Any],
) -> str:
    """Return the table of a schema.

    Args:
        section (str): The previous table, whose descriptions are kept.
        schema (dict): Annotations by key.
        prefix (str): Prefix of the keys in the table.
        defaults (dict): Defaults by key.
    """
    rows = re.findall(r'^\| `(.+?)` \|.* \| (.*) \|$', section, re.MULTILINE)
    descriptions = dict(rows)
    return markdown_table(
        HEADER,
        [
            [
                f'`{prefix}{key}`',
                accepted_values(kind),
                default_of(defaults[key]) if key in defaults else '',
                descriptions.get(f'{prefix}{key}', ''),
            ]
            for key, kind in schema.items()
        ],
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


def argument_rows(cls: type) -> List[List[str]]:
    """Return a row for each argument that a config may set."""
    rows: Dict[str, List[str]] = {}
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
            row = [
                f'`{name}`',
                accepted_values(hints.get(name, Any)),
                default_of(entry.default) if has_default else '',
                text.get(name, '').rstrip('.'),
            ]
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
    return body + (f'\n\n{markdown_table(HEADER, rows)}' if rows else '')


def page_text(text: str) -> str:
    """Return the text of docs/config_reference.md with its tables updated."""
    hints: Dict[str, Any] = {}
    for cls in (BaseDistiller, ClassificationDistiller):
        hints |= get_type_hints(cls.__init__, include_extras=True)
    model = {key: hints[key] for key in MODEL_KEYS}
    model_defaults = {
        key: entry.default
        for owner in ClassificationDistiller.__mro__[:2]
        for key, entry in inspect.signature(owner).parameters.items()
        if key in model and entry.default is not entry.empty
    }
    schemas = dict(
        model=(model, '', model_defaults),
        teacher=(TEACHER_SCHEMA, 'teacher.', TEACHER_DEFAULTS),
        taps=(TAP_SCHEMA, 'taps[i].', TAP_DEFAULTS),
        flow=(FLOW, 'flow.', FLOW_DEFAULTS),
        robustness=(SWITCHES, 'robustness.', dict.fromkeys(SWITCHES, True)),
    )
    sections = {
        name: schema_table(split_section(text, name, PAGE)[1], *schema)
        for name, schema in schemas.items()
    }
    encoders = [getattr(flows, name) for name in ENCODERS]
    classes = dict(
        schedules=[getattr(flows, name) for name in SCHEDULES],
        losses=[getattr(losses, name) for name in LOSSES],
        hooks=[
            cls
            for name, cls in sorted(vars(hooks).items())
            if name.endswith('Hook') and cls.__name__ == name
        ],
        transforms=[RecordedViews],
    )
    sections['encoders'] = '\n\n'.join(
        [
            markdown_table(HEADER, argument_rows(flows.MetaEncoder)),
            *(class_section(cls, ('zero_init',)) for cls in encoders),
        ]
    )
    for name, group in classes.items():
        sections[name] = '\n\n'.join(map(class_section, group))
    for name, section in sections.items():
        text = replace_section(text, name, section, PAGE)
    return text


if __name__ == '__main__':
    text = PAGE.read_text(encoding='utf-8')
    PAGE.write_text(page_text(text), encoding='utf-8')
    print(PAGE)
