"""Code blocks of the documentation run, and the site builds."""

import os
import re
import runpy
import shlex
import subprocess
import sys
from copy import deepcopy
from importlib import import_module

import pytest
from helpers import ROOT
from tiny import distiller

pytest.importorskip('mmdet')

from mmengine.config import Config  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402

from mmfmkt.cli import COMMANDS  # noqa: E402
from mmfmkt.models.distillers.networks import without_weights  # noqa: E402
from mmfmkt.registry import MODELS  # noqa: E402

PAGES = [*sorted((ROOT / 'docs').glob('*.md')), ROOT / 'README.md']
FENCE = re.compile(r'^```(\w+)\n(.*?)^```', re.DOTALL | re.MULTILINE)
BLOCKS = [
    pytest.param(path, language, code, id=f'{path.stem}-{language}-{i}')
    for path in PAGES
    for i, (language, code) in enumerate(
        FENCE.findall(path.read_text(encoding='utf-8'))
    )
]
# tests/test_tools/test_readme.py runs the Python blocks of README.
PYTHON = [
    x for x in BLOCKS if x.values[1] == 'python' and 'README' not in x.id
]
BASH = [x for x in BLOCKS if x.values[1] == 'bash']
COMMAND_OF = {
    'tools/train.py': 'train',
    'tools/test.py': 'test',
    'tools/distill.py': 'distill',
    'tools/compare.py': 'compare',
    'tools/export_student.py': 'export',
    'tools/export_onnx.py': 'onnx',
    'tools/report.py': 'report',
}


def test_each_code_block_has_a_language():
    kinds = {x.values[1] for x in BLOCKS}
    assert kinds == {'python', 'bash', 'text'}
    for path in PAGES:
        fences = re.findall(r'^ *```.*$', path.read_text(), re.MULTILINE)
        assert len(fences) == 2 * sum(x.values[0] == path for x in BLOCKS)


@pytest.fixture(scope='module')
def tools():
    """Return a function that loads the module of a tool once."""
    known, path = {}, list(sys.path)

    def read(name):
        if name not in known:
            # Python inserts the folder of a script, too.
            sys.path.insert(0, str((ROOT / name).parent))
            known[name] = runpy.run_path(str(ROOT / name))
        return known[name]

    yield read
    sys.path[:] = path


def commands(code):
    """Yield the commands of a block as words, without loops and variables."""
    # Brackets enclose optional parts.
    text = re.sub(r'[\[\]]', '', code.replace('\\\n', ' '))
    for line in re.split(r'\n|;|\bdo\b', text):
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r'\w+=\S*', words[0]):
            words.pop(0)
        if words and words[0] not in ('for', 'done', 'source'):
            yield words


def command_parser(name):
    """Return the parser of a command of mmfmkt."""
    return import_module(f'mmfmkt.cli.{name}').build_parser(name)


@pytest.mark.parametrize('path, language, code', BASH)
def test_commands_have_valid_options(path, language, code, tools, monkeypatch):
    for words in commands(code):
        program, *rest = words
        if program == 'pip':
            assert rest[0] == 'install'
            continue
        if program == 'pytest':
            continue
        if program == 'mmfmkt':
            assert command_parser(rest[0]).parse_args(rest[1:])
            continue
        assert program in ('python', 'bash'), words
        if rest[0] == '-m':
            assert rest[1] == 'mkdocs'
            continue
        tool, arguments = rest[0], rest[1:]
        assert (ROOT / tool).is_file(), tool
        for word in arguments:
            if word.startswith(('configs/', 'tools/')) and '$' not in word:
                assert (ROOT / word).is_file(), word
        if tool in ('tools/dist_train.sh', 'tools/dist_test.sh'):
            assert arguments[1].isdigit()
            tool, arguments = 'tools/train.py', [arguments[0], *arguments[2:]]
        elif tool == 'tools/quick_start.sh':
            tool = 'tools/quick_start.py'
        elif tool.endswith('.sh'):
            continue
        if tool in COMMAND_OF:
            assert command_parser(COMMAND_OF[tool]).parse_args(arguments)
            continue
        module = tools(tool)
        monkeypatch.setattr(sys, 'argv', [tool, *arguments])
        if 'parse_args' in module:
            assert module['parse_args']()
        else:
            assert module['build_parser']().parse_args()


@pytest.mark.parametrize('name', COMMANDS)
def test_examples_in_help_texts_have_valid_options(name):
    text = import_module(f'mmfmkt.cli.{name}').__doc__
    for code in re.findall(r'%\(prog\)s((?:.*\\\n)*.*)', text):
        [words] = commands(f'mmfmkt {code}')
        assert command_parser(name).parse_args(words[1:])


@pytest.mark.parametrize('path, language, code', PYTHON)
def test_python_blocks_run(path, language, code, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    MODELS.import_from_location()
    before = dict(MODELS.module_dict)
    try:
        if 'import ' in code:
            run_code(path, code)
        else:
            build_config(code, tmp_path)
    finally:
        MODELS.module_dict.clear()
        MODELS.module_dict.update(before)


def run_code(path, code):
    """Run a block, after the earlier blocks of its page."""
    blocks = [
        x.values[2]
        for x in PYTHON
        if x.values[0] == path and 'import ' in x.values[2]
    ]
    scope = {}
    for block in blocks[: blocks.index(code) + 1]:
        exec(block, scope)
        forget(scope)
    for part in [x for x in scope.values() if isinstance(x, type)]:
        if part.__module__ == 'builtins':
            check_part(part)


def forget(scope):
    """Unregister the classes of a block, which may run again."""
    for name, part in scope.items():
        if isinstance(part, type) and part.__module__ == 'builtins':
            MODELS.module_dict.pop(name, None)


def check_part(part):
    """Check that a class of a page trains in a flow."""
    import torch

    from mmfmkt.models import flows
    from mmfmkt.models.losses import PKDLoss
    from mmfmkt.models.losses.base import BaseMetricLoss

    schedule, encoder, metric = flows.RectifiedFlow, flows.ConvEncoder, PKDLoss
    if issubclass(part, flows.NoiseSchedule):
        schedule = part
        part().check()
    elif issubclass(part, flows.MetaEncoder):
        encoder = part
    else:
        assert issubclass(part, BaseMetricLoss)
        metric = part
    field = flows.VelocityField(encoder(8), schedule())
    transfer = flows.FMKT(field, metric())
    source, target = torch.randn(2, 2, 8, 5, 5).unbind()
    losses, _ = transfer(source.requires_grad_(), target, num_steps=3)
    losses['loss_flow'].backward()
    assert torch.isfinite(losses['loss_flow']) and source.grad.abs().sum() > 0


def build_config(code, tmp_path):
    """Read a config or a part of a config, and build its model."""
    file = tmp_path / 'config.py'
    alone = '_base_ = ' in code
    if not alone and '_base_' in code:
        code = (
            "_base_ = ['mmfmkt::retinanet/fmkt_retinanet_r101_r50.py']\n"
            + code
        )
        alone = True
    file.write_text(code)
    config = Config.fromfile(file)
    if not alone:
        base = Config(
            dict(model=distiller(levels=(0, 1)), optim_wrapper=dict(a=1))
        )
        base.merge_from_dict(deepcopy(config._cfg_dict))
        config = base
    model = config.model
    if 'student' not in model:
        return
    model.student = without_weights(model.student)
    if model.get('teacher'):
        model.teacher.checkpoint = None
        if str(model.teacher.config).startswith('my_'):
            model.teacher.config = (
                'mmdet::retinanet/retinanet_r101_fpn_2x_coco.py'
            )
        cache = model.teacher.get('cache')
        if cache:
            model.teacher.cache = str(tmp_path / 'cache.sqlite')
    with DefaultScope.overwrite_default_scope('mmdet'):
        MODELS.build(model)


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip('mkdocs')
    pytest.importorskip('mkdocstrings')
    done = subprocess.run(
        [
            sys.executable,
            '-m',
            'mkdocs',
            'build',
            '--strict',
            '--quiet',
            '--site-dir',
            tmp_path / 'site',
        ],
        cwd=ROOT,
        env={**os.environ, 'NO_MKDOCS_2_WARNING': '1'},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    pages = {x.stem for x in (tmp_path / 'site').glob('*.html')}
    assert {x.stem for x in (ROOT / 'docs').glob('*.md')} <= pages


TOOLS = sorted(
    x.relative_to(ROOT).as_posix()
    for pattern in ('*.py', 'analysis_tools/*.py', 'dev/*/*.py')
    for x in (ROOT / 'tools').glob(pattern)
    if 'ArgumentParser' in x.read_text() or 'make_parser' in x.read_text()
)


@pytest.mark.parametrize('name', TOOLS)
def test_the_help_of_each_tool_has_an_example(
    name, tools, monkeypatch, capsys
):
    module = tools(name)
    monkeypatch.setattr(sys, 'argv', [name, '--help'])
    with pytest.raises(SystemExit) as ended:
        parse = module.get('parse_args') or module['build_parser']().parse_args
        parse()
    assert not ended.value.code
    assert f'    python {name}' in capsys.readouterr().out
