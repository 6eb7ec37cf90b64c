"""Tests of the set-up: tools/setup_env.py, its shell scripts, .ci/run."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / 'tools'

spec = importlib.util.spec_from_file_location(
    'setup_env', TOOLS / 'setup_env.py'
)
setup_env = importlib.util.module_from_spec(spec)
spec.loader.exec_module(setup_env)


@pytest.fixture(scope='module')
def venv(tmp_path_factory):
    """An environment as the set-up makes it, over a half-made one."""
    path = tmp_path_factory.mktemp('made') / 'venv'
    bare_venv(path)
    (path / setup_env.MARK).mkdir()
    (path / 'left-over').touch()
    assert setup_env.plan(path)[0] == 'venv'  # it has no pip
    setup_env.create_venv(path)
    return path


@pytest.fixture
def finished(venv, tmp_path):
    """An environment with all stamps, and the repository they belong to."""
    root = tmp_path / 'clone'
    shutil.copytree(ROOT / 'requirements', root / 'requirements')
    shutil.rmtree(venv / setup_env.MARK)
    (venv / setup_env.MARK).mkdir()
    version = setup_env.venv_version(venv)
    for step in setup_env.STEPS:
        setup_env.stamp(venv, step).write_text(
            setup_env.digest(step, version, root)
        )
    return venv, root


def bare_venv(path):
    """Make an environment without pip, which takes no time."""
    subprocess.run(
        [sys.executable, '-m', 'venv', '--without-pip', path], check=True
    )


def site_packages(path):
    return next(path.glob('lib/python*/site-packages'))


def script(path, text):
    """Write a command for the shell to find."""
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
    """Run a line of bash with the user's settings of the set-up removed."""
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


# Preflight


def test_preflight_names_all_that_is_missing_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', str(tmp_path))
    monkeypatch.delenv('CXX', raising=False)
    problems = setup_env.preflight(
        tmp_path / 'new' / 'venv',
        ['venv', *setup_env.STEPS],
        version=(3, 9),
        free_gb=1.5,
    )
    text = '\n'.join(problems)
    assert 'Python 3.10 to 3.13 is needed, this is 3.9' in text
    assert 'PYTHON=' in text
    assert 'no C++ compiler' in text and 'apt install g++' in text
    assert f'8 GB of free disk are needed at {tmp_path}, 1.5 GB' in text
    assert 'MMFMKT_VENV' in text


def test_preflight_minds_only_what_is_still_to_be_done(tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', str(tmp_path))
    monkeypatch.delenv('CXX', raising=False)
    assert (
        setup_env.preflight(
            tmp_path, ['tests', 'mmfmkt'], version=(3, 11), free_gb=1
        )
        == []
    )


@pytest.mark.parametrize(
    'version, good',
    [((3, 9), False), ((3, 10), True), ((3, 13), True), ((3, 14), False)],
)
def test_preflight_knows_the_supported_pythons(tmp_path, version, good):
    problems = setup_env.preflight(tmp_path, ['tests'], version, free_gb=1)
    assert (problems == []) == good


@pytest.mark.parametrize(
    'version, good',
    [((3, 9), False), ((3, 10), True), ((3, 11), True), ((3, 12), False)],
)
def test_preflight_knows_the_pythons_of_the_upstream_stack(
    tmp_path, version, good
):
    problems = setup_env.preflight(
        tmp_path,
        ['tests'],
        version,
        free_gb=1,
        pins=setup_env.PINS['upstream'],
    )
    assert (problems == []) == good
    assert good or 'Python 3.10 to 3.11 is needed' in problems[0]


def test_preflight_tries_the_compiler_in_cxx(tmp_path, monkeypatch):
    monkeypatch.setenv('CXX', str(tmp_path / 'none'))
    assert 'none does not start' in setup_env.compiler_problem()
    broken = script(tmp_path / 'broken', 'exit 1')
    monkeypatch.setenv('CXX', f'{broken} -m64')
    assert 'does not compile C++17' in setup_env.compiler_problem()


def test_preflight_looks_for_the_headers_of_the_venvs_python(tmp_path):
    script(tmp_path / 'bin' / 'python', 'echo /nowhere')
    text = '\n'.join(setup_env.compile_problems(tmp_path, 'python3.11'))
    assert 'Python.h is not in /nowhere' in text
    assert 'apt install python3.11-dev' in text


def test_a_gpu_without_a_cuda_toolkit_is_named_unless_hidden(
    tmp_path, monkeypatch
):
    script(tmp_path / 'nvidia-smi', 'echo 580.1')
    monkeypatch.setenv('PATH', str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv('CUDA_HOME', '/nowhere')
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    text = '\n'.join(setup_env.compile_problems(tmp_path, 'python3.11'))
    assert 'no CUDA toolkit' in text and "CUDA_VISIBLE_DEVICES=''" in text
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    text = '\n'.join(setup_env.compile_problems(tmp_path, 'python3.11'))
    assert 'CUDA' not in text


def test_the_cuda_toolkit_has_to_fit_torch(tmp_path, monkeypatch):
    path = tmp_path / 'venv'
    bare_venv(path)
    torch = site_packages(path) / 'torch'
    torch.mkdir()
    (torch / '__init__.py').write_text('from . import cuda, version\n')
    (torch / 'cuda.py').write_text('def is_available(): return True\n')
    (torch / 'version.py').write_text('cuda = "13.0"\n')
    home = tmp_path / 'cuda'
    script(home / 'bin' / 'nvcc', 'echo release 12.8, V12.8.93')
    (home / 'include').mkdir()
    (home / 'include' / 'cuda_runtime.h').touch()
    monkeypatch.setenv('CUDA_HOME', str(home))
    monkeypatch.setenv('CFLAGS', '-O1')
    with pytest.raises(setup_env.SetUpError, match='version 12, .* 13.0'):
        setup_env.build_env(path)
    script(home / 'bin' / 'nvcc', 'echo release 13.0, V13.0.88')
    env = setup_env.build_env(path)
    assert env['FORCE_CUDA'] == '1' and env['CUDA_HOME'] == str(home)
    assert env['CFLAGS'] == '-O1 -g0'


def test_one_job_per_core_at_most(monkeypatch):
    assert 1 <= setup_env.build_jobs() <= os.cpu_count()


# The environment and its stamps


def test_a_half_made_environment_of_ours_is_made_anew(venv):
    assert not (venv / 'left-over').exists()
    assert setup_env.venv_version(venv) == '{}.{}'.format(*sys.version_info)
    assert 'venv' not in setup_env.plan(venv)


def test_with_all_stamps_there_is_nothing_to_do(finished):
    assert setup_env.plan(*finished) == []


@pytest.mark.parametrize(
    'name, steps',
    [
        ('build', ['build tools']),
        ('torch', ['torch', 'mmcv', 'tests']),
        ('openmmlab', ['openmmlab']),
        ('mmcv', ['mmcv']),
        ('tests', ['tests']),
        ('dev', []),
    ],
)
def test_a_changed_requirement_redoes_only_its_own_steps(
    finished, name, steps
):
    path, root = finished
    with open(root / 'requirements' / f'{name}.txt', 'a') as file:
        file.write('another\n')
    assert setup_env.plan(path, root) == steps


def test_an_interrupted_set_up_continues_at_its_step(finished):
    path, root = finished
    for step in ('mmcv', 'tests', 'mmfmkt'):
        setup_env.stamp(path, step).unlink()
    assert setup_env.plan(path, root) == ['mmcv', 'tests', 'mmfmkt']


def test_another_clone_only_links_itself(finished, tmp_path):
    path, root = finished
    other = shutil.copytree(root, tmp_path / 'other clone')
    assert setup_env.plan(path, other) == ['mmfmkt']


def test_each_stack_has_requirements_of_its_own(finished):
    path, root = finished
    upstream = setup_env.PINS['upstream']
    for step in setup_env.STEPS:
        for name in setup_env.STEPS[step]:
            assert (ROOT / name.format(pins=upstream.folder)).exists()
    version = setup_env.venv_version(path)
    for step in ('build tools', 'torch', 'openmmlab', 'mmcv', 'tests'):
        setup_env.stamp(path, step).write_text(
            setup_env.digest(step, version, root, upstream)
        )
    assert setup_env.plan(path, root, upstream) == []
    with open(root / upstream.folder / 'mmcv.txt', 'a') as file:
        file.write('another\n')
    assert setup_env.plan(path, root, upstream) == ['mmcv']


def test_a_stack_that_is_asked_for_takes_no_other_in_its_place(
    tmp_path, monkeypatch
):
    upstream = setup_env.PINS['upstream']
    path = tmp_path / 'venv'
    bare_venv(path)
    (site_packages(path) / 'pip').mkdir()
    (site_packages(path) / 'pip/__init__.py').touch()
    assert setup_env.venv_version(path)
    (site_packages(path) / 'mine-1.0.dist-info').mkdir()
    with pytest.raises(setup_env.SetUpError, match='is in the way'):
        setup_env.install(path, upstream)
    # Nor that of the Python that runs it.
    steps = []
    monkeypatch.setattr(
        setup_env,
        'preflight',
        lambda venv, found, *args, **kwargs: steps.extend(found) or ['no'],
    )
    with pytest.raises(setup_env.SetUpError, match='no'):
        setup_env.install(tmp_path / 'new', upstream)
    assert steps == ['venv', *setup_env.STEPS]


def test_what_is_not_ours_is_never_removed(tmp_path):
    folder = tmp_path / 'folder'
    folder.mkdir()
    (folder / 'thesis.tex').touch()
    with pytest.raises(setup_env.SetUpError, match='MMFMKT_VENV'):
        setup_env.create_venv(folder)
    assert (folder / 'thesis.tex').exists()

    path = tmp_path / 'venv'
    bare_venv(path)
    setup_env.check_disposable(path)  # an empty one is no loss
    (site_packages(path) / 'mine-1.0.dist-info').mkdir()
    with pytest.raises(setup_env.SetUpError, match='is in the way'):
        setup_env.create_venv(path)


def test_a_second_set_up_waits_for_the_first(tmp_path, capsys):
    first = helper(
        'from pathlib import Path; import time\n'
        'with s.locked(Path(sys.argv[1])):\n'
        '    print("has it", flush=True); time.sleep(0.5)\n'
        '    Path(sys.argv[1] + ".done").touch()',
        str(tmp_path / 'venv'),
    )
    assert first.stdout.readline() == 'has it\n'
    with setup_env.locked(tmp_path / 'venv'):
        assert (tmp_path / 'venv.done').exists()
    assert 'waits for another set-up' in capsys.readouterr().err
    first.communicate()


# A stack that is already there


def test_the_running_pythons_stack_is_found_and_seen(venv, tmp_path, capsys):
    stack = setup_env.find_stack(tmp_path / 'none')
    import mmcv

    assert stack.versions['mmcv'] == mmcv.__version__
    setup_env.adopt(venv, stack)
    assert f'mmcv {mmcv.__version__}' in capsys.readouterr().err
    origin = setup_env.ask(
        setup_env.venv_python(venv),
        'import importlib.util as u; print(u.find_spec("mmcv").origin)',
    )
    assert origin == mmcv.__file__
    left = setup_env.plan(venv)
    assert not set(left) & set(setup_env.STACK)
    # It is gone once the file is.
    setup_env.stamp(venv, 'torch').write_text(setup_env.OUTSIDE + '/nowhere')
    assert 'torch' in setup_env.plan(venv)


@pytest.mark.parametrize('outside', [False, True])
def test_the_tests_needs_leave_torch_as_it_is(tmp_path, monkeypatch, outside):
    # A newer release of one of them may ask for a newer torch.
    monkeypatch.setattr(
        setup_env,
        'pip_install',
        lambda venv, label, *args: installed.extend(args),
    )
    monkeypatch.setattr(
        setup_env,
        'installed_version',
        lambda venv, name: dict(torch='2.4.1+cpu').get(name),
    )
    (tmp_path / setup_env.MARK).mkdir()
    setup_env.stamp(tmp_path, 'torch').write_text(
        setup_env.OUTSIDE + 'torch/__init__.py' if outside else 'digest'
    )
    installed = []
    setup_env.INSTALL['tests'](tmp_path)
    constraint = Path(installed[installed.index('-c') + 1]).read_text()
    pinned = (ROOT / 'requirements/torch.txt').read_text()
    assert constraint == ('torch==2.4.1+cpu\n' if outside else pinned)


def test_a_part_of_a_stack_in_the_users_venv_is_left_alone(tmp_path):
    path = tmp_path / 'venv'
    bare_venv(path)
    for name in ('torch', 'pip'):
        (site_packages(path) / name).mkdir()
        (site_packages(path) / name / '__init__.py').touch()
    with pytest.raises(setup_env.SetUpError, match='holds torch, but not'):
        setup_env.find_stack(path)


# Long commands


def test_a_failing_step_shows_its_end_and_what_to_try(tmp_path, capsys):
    code = 'print("the cause"); raise SystemExit(3)'
    with pytest.raises(setup_env.SetUpError) as caught:
        setup_env.run(
            [sys.executable, '-c', code], tmp_path, 'a step', 'try this'
        )
    assert 'a step failed: try this' in str(caught.value)
    assert str(tmp_path / 'setup.log') in str(caught.value)
    assert 'the cause' in capsys.readouterr().err
    assert 'the cause' in (tmp_path / 'setup.log').read_text()


def test_a_silent_step_gives_signs_of_life_and_counts_files(tmp_path, capsys):
    code = (
        'import time; print("[3/78] c++ a.cpp", flush=True); time.sleep(0.6)'
    )
    setup_env.run(
        [sys.executable, '-c', code],
        tmp_path,
        'building mmcv',
        '',
        interval=0.25,
    )
    assert 'building mmcv: 3/78 files, 0.' in capsys.readouterr().err


def test_durations_read_well():
    assert setup_env.duration(4.24) == '4.2 s'
    assert setup_env.duration(200) == '3 min 20 s'


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_step_leaves_no_process_behind(tmp_path, number):
    child = (
        'import os, pathlib, time; '
        'pathlib.Path("pid").write_text(f"{os.getpid()}\\n"); '
        'time.sleep(60)'
    )
    process = helper(
        'import os, signal; from pathlib import Path\n'
        # In the background a shell has its commands ignore SIGINT.
        'signal.signal(signal.SIGINT, signal.default_int_handler)\n'
        'signal.signal(signal.SIGTERM, signal.default_int_handler)\n'
        'os.chdir(sys.argv[1])\n'
        'try: s.run([sys.executable, "-c", sys.argv[2]], Path(), "x", "")\n'
        'except KeyboardInterrupt: sys.exit(130)',
        str(tmp_path),
        child,
    )
    pid = tmp_path / 'pid'
    deadline = time.monotonic() + 10
    while not (pid.exists() and pid.read_text().endswith('\n')):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    process.communicate(timeout=10)
    assert process.returncode == 130
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


# The shell scripts


@pytest.mark.parametrize('name', ['quick_start.sh', 'run_tests.sh'])
def test_help_installs_nothing(tmp_path, name):
    done = shell(f'bash tools/{name} --help', MMFMKT_VENV=str(tmp_path / 'v'))
    assert done.returncode == 0
    assert f'usage: bash tools/{name}' in done.stdout
    assert 'MMFMKT_VENV' in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_python_that_does_not_start_is_passed_over(tmp_path):
    script(tmp_path / 'python3', 'exit 127')
    script(tmp_path / 'python3.12', f'exec "{sys.executable}" "$@"')
    done = shell(
        '. tools/find_python.sh; find_python',
        PATH=f'{tmp_path}:{os.environ["PATH"]}',
    )
    assert done.stdout == 'python3.12\n'


def test_an_unsuitable_python_is_taken_only_to_say_what_is_missing(tmp_path):
    # As an old Python does: it starts, but its version is refused.
    script(
        tmp_path / 'python3',
        f'[ "$2" = --check-python ] && exit 1; exec "{sys.executable}" "$@"',
    )
    (tmp_path / 'dirname').symlink_to(shutil.which('dirname'))
    done = shell(f'PATH={tmp_path}; . tools/find_python.sh; find_python')
    assert done.stdout == 'python3\n'
    (tmp_path / 'python3').unlink()
    done = shell(f'PATH={tmp_path}; . tools/find_python.sh; find_python')
    assert done.returncode == 1 and 'no Python 3.10 to 3.13' in done.stderr


def test_a_wrong_python_variable_is_named():
    done = shell('bash tools/run_tests.sh', PYTHON='/nowhere/python')
    assert done.returncode == 1
    assert 'PYTHON=/nowhere/python does not start' in done.stderr


def test_a_set_up_repeated_in_a_finished_environment_is_quick(
    finished, tmp_path
):
    path, _ = finished
    version = setup_env.venv_version(path)
    for step in setup_env.STEPS:
        setup_env.stamp(path, step).write_text(setup_env.digest(step, version))
    start = time.monotonic()
    done = shell(
        f'"{sys.executable}" tools/setup_env.py', MMFMKT_VENV=str(path)
    )
    assert time.monotonic() - start < 3
    assert done.stdout == f'{path}/bin/python\n'
    assert 'nothing to do' in done.stderr


def test_the_upstream_stack_has_a_folder_of_its_own(finished, tmp_path):
    path, _ = finished
    own = tmp_path / 'named-upstream'
    own.symlink_to(path)
    version = setup_env.venv_version(path)
    for step in setup_env.STEPS:
        setup_env.stamp(path, step).write_text(
            setup_env.digest(step, version, pins=setup_env.PINS['upstream'])
        )
    done = shell(
        '. tools/find_python.sh; set_up --stack upstream',
        PYTHON=sys.executable,
        MMFMKT_VENV=str(tmp_path / 'named'),
    )
    assert done.stdout == f'{own}/bin/python\n'
    assert 'nothing to do' in done.stderr


def test_an_unknown_stack_is_refused():
    done = shell(
        'bash tools/run_tests.sh --stack other -q', PYTHON=sys.executable
    )
    assert done.returncode == 2
    assert "invalid choice: 'other'" in done.stderr


def test_ci_runs_the_readmes_own_test_command(tmp_path):
    for name in ('.ci/run', 'README.md'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    script(
        tmp_path / 'tools' / 'run_tests.sh',
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
