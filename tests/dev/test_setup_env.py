"""Tests of the set-up: tools/dev/setup_env.py, its shell scripts, .ci/run."""

import fcntl
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from helpers import wait_until

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / 'tools' / 'dev'

spec = importlib.util.spec_from_file_location(
    'setup_env', TOOLS / 'setup_env.py'
)
setup_env = importlib.util.module_from_spec(spec)
spec.loader.exec_module(setup_env)


@pytest.fixture
def venv(tmp_path):
    """Return an environment of the set-up, without pip, which is slow."""
    path = tmp_path / 'venv'
    bare_venv(path)
    (path / setup_env.MARK).mkdir()
    return path


@pytest.fixture
def ran(monkeypatch):
    """Record long commands instead of running them."""
    commands = []
    monkeypatch.setattr(
        setup_env,
        'run',
        lambda command, **kwargs: commands.append(' '.join(map(str, command))),
    )
    return commands


def bare_venv(path):
    """Create an environment without pip, which is slow."""
    subprocess.run(
        [sys.executable, '-m', 'venv', '--without-pip', path], check=True
    )


def site_packages(path):
    return next(path.glob('lib/python*/site-packages'))


def script(path, text):
    """Write an executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\n{text}\n')
    path.chmod(0o755)
    return path


def helper(code, *args):
    """Start Python with the module under test imported as ``s``."""
    return subprocess.Popen(
        [sys.executable, '-c', f'import setup_env as s, sys\n{code}', *args],
        env={**os.environ, 'PYTHONPATH': str(TOOLS)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def shell(command, **env):
    """Run a bash command without the variables that control the set-up."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in ('PYTHON', 'MMFMKT_VENV')
    }
    return subprocess.run(
        ['bash', '-c', command],
        cwd=ROOT,
        env={**inherited, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


# Prerequisites


def test_all_missing_prerequisites_are_reported_together(
    tmp_path, monkeypatch
):
    monkeypatch.setenv('CXX', str(tmp_path / 'none'))
    monkeypatch.setattr(
        setup_env.shutil,
        'disk_usage',
        lambda folder: shutil._ntuple_diskusage(9e9, 0, 1e9),
    )
    with pytest.raises(SystemExit) as stopped:
        setup_env.preflight(tmp_path / 'new' / 'venv', newest=(3, 9))
    text = str(stopped.value)
    assert 'Python 3.10 to 3.9' in text and 'PYTHON=' in text
    assert 'C++17' in text and 'apt install g++' in text
    assert f'8 GB of free disk at {tmp_path}' in text
    assert 'MMFMKT_VENV' in text


def test_preflight_passes_with_all_prerequisites(tmp_path, monkeypatch):
    monkeypatch.delenv('CXX', raising=False)
    monkeypatch.setattr(
        setup_env.shutil,
        'disk_usage',
        lambda folder: shutil._ntuple_diskusage(9e9, 0, 9e9),
    )
    setup_env.preflight(tmp_path, newest=(3, 99))


def test_missing_headers_of_python_are_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(
        setup_env.sysconfig, 'get_path', lambda name: str(tmp_path)
    )
    with pytest.raises(SystemExit, match='python3-dev'):
        setup_env.preflight(tmp_path, newest=(3, 99))


# The environment


def test_a_folder_that_is_no_environment_is_never_removed(tmp_path, ran):
    (tmp_path / 'thesis.tex').touch()
    with pytest.raises(SystemExit, match='MMFMKT_VENV'):
        setup_env.make_venv(tmp_path)
    assert (tmp_path / 'thesis.tex').exists() and not ran


def test_an_incomplete_environment_is_created_again(venv, ran):
    (venv / 'left-over').touch()
    setup_env.make_venv(venv)  # it has no pip
    assert not (venv / 'left-over').exists()
    assert ran == [f'{sys.executable} -m venv {venv}']


def test_a_working_stack_of_the_running_python_is_used(venv, ran, monkeypatch):
    torch = pytest.importorskip('torch')
    mmcv = pytest.importorskip('mmcv')
    where, version, _ = setup_env.find_stack(venv)
    assert (where, version) == (sys.executable, torch.__version__)
    monkeypatch.setattr(setup_env, 'make_venv', lambda venv: None)
    seen = []
    monkeypatch.setattr(
        setup_env,
        'probe',
        lambda python, *names, probe=setup_env.probe: (
            probe(python, *names)
            if str(python) == sys.executable
            else seen.append(names) or ('', [], '')
        ),
    )
    setup_env.install(venv, 'onedl')
    origin = setup_env.query(
        venv / 'bin/python',
        '-c',
        'import importlib.util as u; print(u.find_spec("mmcv").origin)',
    )
    assert origin.stdout.strip() == mmcv.__file__
    # None of its packages is installed, and torch is pinned.
    assert not any('torch.txt' in x or 'openmmlab' in x for x in ran)
    assert all(f'torch=={torch.__version__}' in x for x in ran[1:])
    assert seen == [(*setup_env.PACKAGES, 'mmfmkt')]


def test_a_broken_stack_in_the_users_venv_is_an_error(tmp_path):
    path = tmp_path / 'venv'
    bare_venv(path)
    (site_packages(path) / 'torch').mkdir()
    (site_packages(path) / 'torch/__init__.py').touch()
    with pytest.raises(SystemExit, match='cannot be imported'):
        setup_env.find_stack(path)


def test_a_requested_stack_is_installed_beside_an_existing_one(
    venv, ran, monkeypatch
):
    monkeypatch.setattr(setup_env, 'preflight', lambda *args: None)
    monkeypatch.setattr(setup_env, 'make_venv', lambda venv: None)
    monkeypatch.setattr(setup_env, 'probe', lambda *args: ('2.1.2', [], ''))
    setup_env.install(venv, 'upstream')
    text = '\n'.join(ran)
    for name in ('build', 'torch', 'openmmlab', 'all'):
        assert f'/requirements/upstream/{name}.txt' in text
        assert (ROOT / f'requirements/upstream/{name}.txt').exists()
    assert ran[-1].endswith(f'--no-deps --no-build-isolation -e {ROOT}')


def test_mmcv_of_another_torch_is_compiled_again(ran, monkeypatch):
    errors = ['undefined symbol', 'undefined symbol', '']
    monkeypatch.setattr(
        setup_env, 'probe', lambda *args: ('', [], errors.pop(0))
    )
    pins = ROOT / 'requirements'
    setup_env.install_mmcv(Path(sys.executable), pins)
    assert '--no-cache-dir' not in ran[0] and '--no-cache-dir' in ran[1]
    errors[:] = ['broken'] * 3
    with pytest.raises(SystemExit, match='mmcv.* broken'):
        setup_env.install_mmcv(Path(sys.executable), pins)
    errors[:], ran[:] = ['', '', ''], []
    setup_env.install_mmcv(Path(sys.executable), pins)
    assert not ran


def test_uv_gets_the_settings_of_pip(tmp_path, monkeypatch):
    config = tmp_path / 'pip.conf'
    config.write_text(
        '[global]\nindex-url = https://a.example/simple\n'
        'extra-index-url =\n  https://b.example/simple\n'
        '  https://c.example/simple\n'
        'find-links = /one /two\ncert = /cert.pem\n'
        '[install]\nconstraint = /limits.txt\n'
    )
    for name in list(os.environ):
        if name.startswith(('PIP_', 'UV_')) or name == 'SSL_CERT_FILE':
            monkeypatch.delenv(name)
    monkeypatch.setenv('PIP_CONFIG_FILE', str(config))
    monkeypatch.setenv('PIP_TIMEOUT', '77')
    monkeypatch.setenv('UV_FIND_LINKS', '/mine')
    found = setup_env.uv_settings(Path(sys.executable))
    expected = dict(
        UV_DEFAULT_INDEX='https://a.example/simple',
        UV_INDEX='https://b.example/simple https://c.example/simple',
        SSL_CERT_FILE='/cert.pem',
        UV_CONSTRAINT='/limits.txt',
        UV_HTTP_TIMEOUT='77',
    )
    assert {k: found[k] for k in expected} == expected
    assert 'UV_FIND_LINKS' not in found  # the user's own setting is kept


# Long commands


def test_a_failing_command_shows_its_last_lines_and_a_remedy(capsys):
    code = 'print("the cause"); raise SystemExit(3)'
    with pytest.raises(SystemExit, match='same command again'):
        setup_env.run([sys.executable, '-c', code], quiet=True)
    assert 'the cause' in capsys.readouterr().err


def test_a_quiet_command_counts_the_files_it_compiles(capsys):
    lines = [f'[{i}/12] c++ {i}.cpp' for i in range(1, 13)]
    setup_env.run(['printf', '\\n'.join(lines)], quiet=True)
    messages = capsys.readouterr().err
    assert '[5/12] files are compiled' in messages
    assert '[10/12]' in messages and '[6/12]' not in messages


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_all_processes_of_a_command(tmp_path, number):
    child = (
        'import os, pathlib, time; '
        'pathlib.Path("pid").write_text(f"{os.getpid()}\\n"); '
        'time.sleep(60)'
    )
    process = helper(
        'import os, signal\n'
        # In the background a shell has its commands ignore SIGINT.
        'signal.signal(signal.SIGINT, signal.default_int_handler)\n'
        'signal.signal(signal.SIGTERM, signal.default_int_handler)\n'
        'os.chdir(sys.argv[1])\n'
        'line = f"{sys.executable} -c \'{sys.argv[2]}\'; :"\n'
        'try: s.run(["sh", "-c", line])\n'
        'except KeyboardInterrupt: sys.exit(130)',
        str(tmp_path),
        child,
    )
    pid = tmp_path / 'pid'
    try:
        wait_until(lambda: pid.exists() and pid.read_text().endswith('\n'), 60)
    finally:
        process.send_signal(number)
    process.communicate(timeout=50)
    assert process.returncode == 130
    wait_until(lambda: not psutil.pid_exists(int(pid.read_text())), 5)


# The complete set-up


def finish(venv):
    """Write the stamp of a finished set-up."""
    stamp = f'{ROOT} {setup_env.requirements_digest()}'
    (venv / setup_env.MARK / 'done').write_text(stamp)


def test_a_finished_environment_is_used_without_a_set_up(venv):
    finish(venv)
    done = shell(
        f'"{sys.executable}" tools/dev/setup_env.py', MMFMKT_VENV=str(venv)
    )
    assert done.stdout == f'{venv}/bin/python\n'


def test_changed_requirements_and_other_clones_repeat_the_set_up(
    venv, monkeypatch, capsys
):
    installed = []
    monkeypatch.setattr(
        setup_env, 'install', lambda venv, stack: installed.append(stack)
    )
    monkeypatch.setattr(sys, 'argv', ['setup_env.py'])
    monkeypatch.setenv('MMFMKT_VENV', str(venv))
    for times in (1, 1):
        setup_env.main()
        assert len(installed) == times
    stamp = venv / setup_env.MARK / 'done'
    for text in ('/another/clone of it', stamp.read_text() + '1'):
        installed.clear()
        stamp.write_text(text)
        setup_env.main()
        assert installed == ['onedl']


def test_a_second_set_up_waits_for_the_first(venv):
    finish(venv)
    with open(f'{venv}.lock', 'a') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = subprocess.Popen(
            [sys.executable, TOOLS / 'setup_env.py'],
            env={**os.environ, 'MMFMKT_VENV': str(venv)},
            stdout=subprocess.PIPE,
        )
        with pytest.raises(subprocess.TimeoutExpired):
            second.wait(1)
    assert second.communicate(timeout=60)[0].decode().strip()


# The shell scripts


@pytest.mark.parametrize('name', ['quick_start.sh', 'dev/run_tests.sh'])
def test_help_installs_nothing(tmp_path, name):
    done = shell(f'bash tools/{name} --help', MMFMKT_VENV=str(tmp_path / 'v'))
    assert done.returncode == 0
    assert f'usage: bash tools/{name}' in done.stdout
    assert 'MMFMKT_VENV' in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_python_that_does_not_start_is_skipped(tmp_path):
    script(tmp_path / 'python3', 'exit 127')
    script(tmp_path / 'python3.12', f'exec "{sys.executable}" "$@"')
    done = shell(
        '. tools/dev/find_python.sh; find_python',
        PATH=f'{tmp_path}:{os.environ["PATH"]}',
    )
    assert done.stdout == 'python3.12\n'


def test_an_unsuitable_python_only_reports_what_is_missing(tmp_path):
    # As an old Python does: it starts, but its version is refused.
    script(
        tmp_path / 'python3',
        f'[ "$2" = --check-python ] && exit 1; exec "{sys.executable}" "$@"',
    )
    (tmp_path / 'dirname').symlink_to(shutil.which('dirname'))
    done = shell(f'PATH={tmp_path}; . tools/dev/find_python.sh; find_python')
    assert done.stdout == 'python3\n'
    (tmp_path / 'python3').unlink()
    done = shell(f'PATH={tmp_path}; . tools/dev/find_python.sh; find_python')
    assert done.returncode == 1 and 'no Python 3.10 to 3.13' in done.stderr


def test_an_invalid_python_variable_is_reported():
    done = shell('bash tools/dev/run_tests.sh', PYTHON='/nowhere/python')
    assert done.returncode == 1
    assert 'PYTHON=/nowhere/python does not start' in done.stderr


def test_the_upstream_stack_has_its_own_folder(venv, tmp_path):
    own = tmp_path / 'named-upstream'
    own.symlink_to(venv)
    finish(venv)
    done = shell(
        '. tools/dev/find_python.sh; set_up --stack upstream',
        PYTHON=sys.executable,
        MMFMKT_VENV=str(tmp_path / 'named'),
    )
    assert done.stdout == f'{own}/bin/python\n'


def test_an_unknown_stack_is_an_error():
    done = shell(
        'bash tools/dev/run_tests.sh --stack other -q', PYTHON=sys.executable
    )
    assert done.returncode == 2
    assert "invalid choice: 'other'" in done.stderr


def test_ci_runs_the_test_command_of_the_readme(tmp_path):
    for name in ('.ci/run', 'README.md'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    script(
        tmp_path / 'tools' / 'dev' / 'run_tests.sh',
        'echo "venv: $MMFMKT_VENV"; cat; exit 3',
    )
    cache = tmp_path / 'cache'
    done = shell(f'"{tmp_path}/.ci/run"', XDG_CACHE_HOME=str(cache))
    assert done.stdout == f'venv: {cache}/mmfmkt/venv\n'
    assert done.returncode == 3
    (tmp_path / 'README.md').write_text('```bash\nbash tools/quick.sh\n```\n')
    done = shell(f'"{tmp_path}/.ci/run"', XDG_CACHE_HOME=str(cache))
    assert done.returncode == 1
    assert 'second command in README.md' in done.stderr
