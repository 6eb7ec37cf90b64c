"""Loading of checkpoints without executing their code."""

import hashlib
import os
import pickle
from collections import OrderedDict
from contextlib import suppress

import numpy as np
import pytest
import torch
from helpers import run
from mmengine.logging import HistoryBuffer
from mmengine.optim import MultiStepLR, OneCycleLR

from mmfmkt.utils import ConfigError
from mmfmkt.utils.checkpoints import (
    TRUST,
    load_checkpoint,
    read_checkpoint,
    restricted_torch_load,
)


class Payload:
    """Object that creates a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


class Attribute:
    """Object that is unpickled as an attribute of an allowed class."""

    def __init__(self, owner, name):
        self.owner, self.name = owner, name

    def __reduce__(self):
        return getattr, (self.owner, self.name)


def write(path, kind, payload):
    """Write a malicious checkpoint; ``kind`` is one of ``KINDS``."""
    if kind == 'bare pickle':
        path.write_bytes(pickle.dumps(payload))
    elif kind == 'in meta':
        torch.save(dict(meta=payload, state_dict={}), path)
    elif kind == 'in state_dict':
        torch.save(dict(state_dict=dict(weight=payload)), path)
    else:
        torch.save(
            dict(meta=payload), path, _use_new_zipfile_serialization=False
        )
    return path


KINDS = ('bare pickle', 'in meta', 'in state_dict', 'old format')


@pytest.mark.parametrize('kind', KINDS)
def test_a_checkpoint_with_code_raises_an_error_and_runs_no_code(
    kind, tmp_path
):
    path = write(tmp_path / 'evil.pth', kind, Payload(tmp_path / 'ran'))
    with pytest.raises(ConfigError, match='mkdir, which could run') as error:
        load_checkpoint(str(path))
    assert TRUST in str(error.value) and '\n' not in str(error.value)
    assert not (tmp_path / 'ran').exists()
    # Without the restriction, the code runs.
    with suppress(RuntimeError):
        torch.load(path, weights_only=False)
    assert (tmp_path / 'ran').is_dir()


@pytest.mark.parametrize(
    'owner, name',
    [
        (HistoryBuffer, '__init__'),
        (OneCycleLR, '__globals__'),
        (OrderedDict, 'fromkeys'),
        (torch.Tensor, 'backward'),
    ],
)
def test_other_attributes_of_allowed_classes_raise_an_error(
    owner, name, tmp_path
):
    torch.save(dict(meta=Attribute(owner, name)), tmp_path / 'evil.pth')
    with pytest.raises(ConfigError, match=f'asks for {name!r}'):
        load_checkpoint(str(tmp_path / 'evil.pth'))


def test_checkpoints_of_mmengine_are_loaded(tmp_path):
    model = torch.nn.Conv2d(3, 4, 1)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(1, 3, 2, 2)).sum().backward()
    optimizer.step()
    one_cycle = OneCycleLR(optimizer, eta_max=0.1, total_steps=9)
    multi_step = MultiStepLR(optimizer, milestones=[2, 4])
    buffer = HistoryBuffer([1.0, 3.0], [1, 1])
    saved = dict(
        resume=dict(ranks=[dict(main=b'\xff', distiller=b'')]),
        meta=dict(cfg='a = 1', time='now', classes=('a', 'b')),
        state_dict=model.state_dict(),
        optimizer=optimizer.state_dict(),
        param_schedulers=[one_cycle.state_dict(), multi_step.state_dict()],
        message_hub=dict(log_scalars=OrderedDict(loss=buffer)),
        extra=[np.arange(3), np.float32(2), torch.float16, {1, 2}],
    )
    for zipped in (True, False):
        torch.save(
            saved,
            tmp_path / 'good.pth',
            _use_new_zipfile_serialization=zipped,
        )
        with restricted_torch_load():
            loaded = load_checkpoint(str(tmp_path / 'good.pth'))
        assert torch.equal(loaded['state_dict']['bias'], model.bias)
        assert loaded['message_hub']['log_scalars']['loss'].mean() == 2
        assert loaded['param_schedulers'][0]['total_steps'] == 9
        assert loaded['extra'][2:] == [torch.float16, {1, 2}]
        optimizer.load_state_dict(loaded['optimizer'])


@pytest.mark.skipif(
    torch.__version__.startswith('2.1.'),
    reason='torch 2.1 cannot compile an optimizer step with momentum',
)
def test_checkpoints_of_compiled_runs_are_loaded(tmp_path):
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    @torch.compile(backend='eager')
    def train_step(images):
        model(images).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    for _ in range(2):
        train_step(torch.ones(1, 3))
    moments = optimizer.state[model.weight]['momentum_buffer']
    assert vars(moments)  # attributes that the compiler has set
    path = tmp_path / 'compiled.pth'
    torch.save(
        dict(state_dict=model.state_dict(), optimizer=optimizer.state_dict()),
        path,
    )
    state = load_checkpoint(str(path))['optimizer']['state']
    assert any(
        torch.equal(x['momentum_buffer'], moments) for x in state.values()
    )


class MaliciousTensor(torch.Tensor):
    """Tensor that is rebuilt by a payload or has one as an attribute."""

    folder: str
    in_attribute: bool

    def __reduce_ex__(self, protocol):
        rebuild = torch._tensor._rebuild_from_type_v2
        payload = Payload(self.folder)
        if self.in_attribute:
            _, (function, _, arguments, _) = (
                tensor_with_attribute().__reduce_ex__(protocol)
            )
            return rebuild, (
                function,
                torch.Tensor,
                arguments,
                dict(attribute=payload),
            )
        return rebuild, (os.mkdir, str, (self.folder,), {})


def tensor_with_attribute():
    tensor = torch.ones(2)
    tensor.attribute = 'value'
    return tensor


@pytest.mark.parametrize('in_attribute', (False, True))
def test_a_tensor_with_code_raises_an_error(in_attribute, tmp_path):
    evil = torch.ones(2).as_subclass(MaliciousTensor)
    evil.folder, evil.in_attribute = str(tmp_path / 'ran'), in_attribute
    for zipped in (True, False):
        torch.save(
            dict(state_dict=dict(good=tensor_with_attribute(), evil=evil)),
            tmp_path / 'evil.pth',
            _use_new_zipfile_serialization=zipped,
        )
        with pytest.raises(ConfigError, match='mkdir, which could run'):
            load_checkpoint(str(tmp_path / 'evil.pth'))
    assert not (tmp_path / 'ran').exists()


def test_an_environment_variable_allows_code(tmp_path, monkeypatch):
    path = write(
        tmp_path / 'trusted.pth', 'in meta', Payload(tmp_path / 'ran')
    )
    monkeypatch.setenv(TRUST, '1')
    read_checkpoint(str(path))
    assert (tmp_path / 'ran').is_dir()


def test_torch_load_is_restricted_inside_the_context_only(tmp_path):
    path = write(tmp_path / 'evil.pth', 'in meta', Payload(tmp_path / 'ran'))
    original_load = torch.load
    with restricted_torch_load():
        for options in (dict(), dict(weights_only=False), dict(mmap=True)):
            with pytest.raises(ConfigError):
                torch.load(path, map_location='cpu', **options)
        with open(path, 'rb') as file, pytest.raises(ConfigError):
            torch.load(file, 'cpu')
    assert torch.load is original_load and not (tmp_path / 'ran').exists()


def test_a_wrong_sha256_digest_is_an_error(tmp_path, monkeypatch):
    path = tmp_path / 'weights.pth'
    torch.save(dict(state_dict=dict(a=torch.ones(2))), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    for valid in (digest, digest[:8].upper()):
        loaded = load_checkpoint(f'{path}#sha256={valid}')
        assert loaded['state_dict']['a'].sum() == 2
    wrong = f'sha256={"0" * 64}'
    with pytest.raises(ConfigError, match='has the SHA-256 .* expected'):
        load_checkpoint(f'{path}#{wrong}')
    # A file that is already downloaded is verified, too.
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    folder = tmp_path / 'hub' / 'checkpoints'
    folder.mkdir(parents=True)
    path.rename(folder / path.name)
    with pytest.raises(ConfigError, match='has the SHA-256'):
        load_checkpoint(f'https://nowhere.invalid/weights.pth#{wrong}')


RUN_TOOLS = """
import contextlib, io, runpy, sys
for command in sys.argv[1:]:
    name, *options = command.split()
    sys.argv = [name, *options]
    stderr = io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr):
            runpy.run_path(name, run_name='__main__')
        code = 0
    except SystemExit as error:
        code = error.code
    print('command', name, code, stderr.getvalue().strip().splitlines()[-1:])
"""


@pytest.mark.slow
def test_no_tool_runs_code_of_checkpoints(shapes, tmp_path):
    pytest.importorskip('mmdet')
    from tiny import write_config

    evil = write(tmp_path / 'evil.pth', 'in meta', Payload(tmp_path / 'ran'))
    config = write_config(tmp_path / 'config.py', shapes, 'fmkt', epochs=1)
    train = f'tools/train.py {config} --work-dir {tmp_path}/run'
    commands = [
        f'{train} --cfg-options model.teacher.checkpoint={evil}',
        f'{train} --resume {evil}',
        f'{train} --cfg-options load_from={evil}',
        f'tools/test.py {config} {evil} --work-dir {tmp_path}/run',
        f'tools/export_student.py {config} {evil}',
        f'tools/convert_checkpoint.py {evil} {tmp_path}/new --model resnet8',
    ]
    script = tmp_path / 'run_tools.py'
    script.write_text(RUN_TOOLS)
    log = run(script, *commands)
    lines = [x for x in log.splitlines() if x.startswith('command')]
    assert len(lines) == len(commands), log
    for line in lines:
        assert ' 2 ' in line and 'error: The checkpoint' in line, line
        assert 'could run code' in line
    assert not (tmp_path / 'ran').exists()
