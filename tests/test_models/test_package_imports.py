"""Allowed imports between packages."""

import re

import pytest
from helpers import ROOT

MODELS = ROOT / 'mmfmkt' / 'models'


@pytest.mark.parametrize('package', ('flows', 'losses', 'backbones'))
def test_flows_losses_and_backbones_import_no_detection_library(package):
    libraries = ('mmengine', 'mmfmkt') if package == 'backbones' else ()
    for path in (MODELS / package).rglob('*.py'):
        for line in path.read_text(encoding='utf-8').splitlines():
            module = re.match(r'(?:from|import) (mm\w+)', line.strip())
            assert not module or module[1] in libraries, path


@pytest.mark.parametrize(
    'package', ('datasets', 'engine', 'evaluation', 'models', 'utils')
)
def test_library_packages_do_not_import_the_user_interface(package):
    upward = re.compile(r'^\s*(?:from|import) (?:mmfmkt|\.+)\.?(?:apis|cli)\b')
    for path in (ROOT / 'mmfmkt' / package).rglob('*.py'):
        lines = path.read_text(encoding='utf-8').splitlines()
        assert not any(map(upward.match, lines)), path
