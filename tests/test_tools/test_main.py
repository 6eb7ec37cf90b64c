"""``python -m mmfmkt`` says what there is and where to go on."""

import sys

from conftest import ROOT, run

from mmfmkt.utils.stack import installed_version


def ask(*options, fails=False):
    return run(
        sys.executable, '-m', 'mmfmkt', *options, fails=fails, COLUMNS=200
    )


def test_it_names_libraries_and_the_next_command():
    said = ask()
    for name in ('torch', 'mmengine'):
        assert installed_version(name) in said
    assert 'can be distilled' in said and 'tools/distill.py' in said


def test_it_lists_configs_that_are_there():
    said = ask('configs', '--variant', 'theta', '--task', 'detection')
    paths = [x for x in said.split() if x.startswith('configs/')]
    assert paths and all((ROOT / x).is_file() for x in paths)
    assert not any('fmkt_' in x for x in paths)
    assert 'leave an option out' in ask(
        'configs', '--student', 'x', fails=True
    )
