"""Each registry finds the parts of mmfmkt in a fresh process."""

import pytest
from helpers import run

NAMES = (
    'ConvEncoder',
    'RectifiedFlow',
    'PKDLoss',
    'DetectionDistiller',
    'ClassificationDistiller',
    'CIFARResNet',
)


@pytest.mark.slow
@pytest.mark.parametrize('library', ('mmfmkt', 'mmengine', 'mmdet'))
def test_every_registry_finds_all_parts_in_a_fresh_process(library, tmp_path):
    pytest.importorskip(library)
    script = tmp_path / 'ask.py'
    # What custom_imports=['mmfmkt'] does, and no more.
    script.write_text(f"""
import sys
import mmfmkt
from {library}.registry import MODELS
assert 'mmfmkt.models.distillers' not in sys.modules
for name in {NAMES}:
    assert MODELS.get('mmfmkt.' + name).__name__ == name
""")
    run(script)
