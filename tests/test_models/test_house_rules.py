"""Import rules between the packages of mmfmkt."""

import re

import pytest
from conftest import ROOT

MODELS = ROOT / 'mmfmkt' / 'models'
SOURCES = sorted(MODELS.rglob('*.py'))


def test_no_detector_is_named_in_the_models():
    detectors = pytest.importorskip('mmdet.models.detectors').__all__
    general = {'BaseDetector', 'DetectionTransformer'}
    names = [x for x in detectors if x not in general and len(x) > 3]
    assert 'RetinaNet' in names and len(names) > 50
    pattern = re.compile(rf'\b({"|".join(names)})\b')
    for path in SOURCES:
        found = pattern.findall(path.read_text(encoding='utf-8'))
        assert not found, f'{path.name}: {found}'


@pytest.mark.parametrize('room', ('flows', 'losses', 'backbones'))
def test_no_room_but_distillers_needs_mmdet_or_mmpretrain(room):
    libraries = ('mmengine', 'mmfmkt') if room == 'backbones' else ()
    for path in (MODELS / room).rglob('*.py'):
        for line in path.read_text(encoding='utf-8').splitlines():
            module = re.match(r'(?:from|import) (mm\w+)', line.strip())
            assert not module or module[1] in libraries, path


@pytest.mark.parametrize(
    'room', ('datasets', 'engine', 'evaluation', 'models', 'utils')
)
def test_no_room_imports_what_users_call(room):
    upward = re.compile(r'^\s*(?:from|import) (?:mmfmkt|\.+)\.?(?:apis|cli)\b')
    for path in (ROOT / 'mmfmkt' / room).rglob('*.py'):
        lines = path.read_text(encoding='utf-8').splitlines()
        assert not any(map(upward.match, lines)), path
