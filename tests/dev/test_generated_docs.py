"""Generated pages are up to date."""

import re
import runpy

import pytest
from helpers import ROOT

pytest.importorskip('mmdet')

SCRIPTS = ROOT / 'tools' / 'dev' / 'docs'


def test_the_config_reference_is_made_from_the_annotations():
    script = runpy.run_path(str(SCRIPTS / 'config_reference.py'))
    text = script['PAGE'].read_text(encoding='utf-8')
    assert script['page_text'](text) == text
    keys = re.findall(r'^\| `(.+?)` \|', text, re.MULTILINE)
    assert {'variant', 'teacher.config', 'flow.encoder', 'beta'} <= {*keys}
    assert not re.search(r'^.*\|  \|$', text, re.MULTILINE), 'no description'


def test_the_glossary_has_at_most_fifteen_terms():
    text = (ROOT / 'docs' / 'glossary.md').read_text(encoding='utf-8')
    assert len(re.findall(r'^\| (?!Term|-)', text, re.MULTILINE)) <= 15
