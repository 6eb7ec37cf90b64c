"""The console command: what it shows, finds and copies, in any folder."""

import sys

import pytest
from conftest import ROOT, run
from mmengine.config import Config

from mmfmkt.cli.configs import find_config
from mmfmkt.utils import ConfigError
from mmfmkt.utils.configs import SHIPPED, shipped_models
from mmfmkt.utils.stack import installed_version

pytest.importorskip('mmdet')
COMMANDS = ('train', 'test', 'distill', 'export', 'report', 'configs')


def ask(*options, fails=False, cwd=ROOT):
    return run(
        *(sys.executable, '-m', 'mmfmkt', *options),
        fails=fails,
        cwd=cwd,
        COLUMNS=200,
    )


def test_the_help_names_all_commands_and_each_has_its_own():
    said = ask('--help')
    assert all(f'\n  {name} ' in said for name in (*COMMANDS, 'doctor'))
    said = run('tools/train.py', '--help')
    assert 'usage: python tools/train.py' in said
    assert 'python tools/train.py CONFIG --resume' in said


def test_the_doctor_names_libraries_operators_and_the_next_command():
    said = ask('doctor')
    for name in ('torch', 'mmengine', 'mmcv', 'mmdet'):
        assert installed_version(name) in said
    assert 'mmcv.ops ok' in said and 'detectors can be distilled' in said
    assert 'mmfmkt distill' in said


def test_the_doctor_needs_no_library():
    """Without site-packages it says that nothing is installed."""
    said = run(sys.executable, '-S', '-m', 'mmfmkt', 'doctor', fails=True)
    for name in ('torch', 'mmengine', 'pydantic'):
        assert f'\n{name} ' in said
    assert said.count('not installed') >= 6 and 'Traceback' not in said
    said = run(sys.executable, '-S', '-m', 'mmfmkt', 'configs', fails=True)
    assert 'mmengine is not installed' in said and 'Traceback' not in said


def test_configs_are_listed_shown_and_copied(tmp_path):
    said = ask('configs', '--variant', 'theta', '--task', 'detection')
    paths = [x for x in said.split() if x.startswith('configs/')]
    assert paths and all((ROOT / x).is_file() for x in paths)
    assert not any('fmkt_' in x for x in paths)
    assert 'matches all filters' in ask(
        'configs', '--student', 'x', fails=True
    )
    name = 'theta_retinanet_r101_r50'
    source = ROOT / 'configs' / 'retinanet' / f'{name}.py'
    assert ask('configs', name) == source.read_text()
    ask('configs', name, '--copy', 'own.py', cwd=tmp_path)
    copy = Config.fromfile(tmp_path / 'own.py')
    assert copy.model.variant == 'theta'
    assert copy.model.student.backbone.depth == 50
    said = ask('configs', name, '--copy', 'own.py', cwd=tmp_path, fails=True)
    assert 'exists' in said


def test_each_config_is_found_by_the_path_that_the_list_shows():
    for entry in shipped_models():
        assert find_config(entry['Config']) == SHIPPED / entry['Config']
    with pytest.raises(ConfigError, match='did you mean|called'):
        find_config('theta_retinanet_r101_r5')


@pytest.mark.slow
def test_packaged_configs_are_composed_in_an_empty_folder(tmp_path):
    said = ask(
        'distill',
        'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py',
        *('--teacher', 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'),
        '--dry-run',
        cwd=tmp_path,
    )
    assert 'config    work_dirs/' in said
    assert list(tmp_path.glob('work_dirs/*/*.py'))
