"""Benchmark of training without labels."""

import runpy

import pytest
from helpers import ROOT

pytest.importorskip('mmdet')

TOOL = ROOT / 'tools' / 'dev' / 'benchmark' / 'unlabelled.py'


@pytest.fixture(scope='module')
def tool():
    return runpy.run_path(str(TOOL))


def test_the_table_of_the_page_is_made_from_the_results(tool):
    text = tool['PAGE'].read_text()
    section = tool['table'](), tool['PAGE']
    assert tool['replace_section'](text, 'unlabelled', *section) == text


@pytest.mark.parametrize('data', ['bccd', 'deeppcb'])
def test_a_tenth_of_the_labels_gives_epochs_of_equal_length(tool, data):
    full = tool['student'](data, 6).train_dataloader
    tenth = tool['student'](data, 6, 10).train_dataloader
    repeated = tenth.dataset
    assert repeated.dataset.indices == tool['SETTINGS'][data].num_images // 10
    assert repeated.times == 10 and tenth.batch_size == full.batch_size
    assert repeated.dataset.ann_file == full.dataset.ann_file
