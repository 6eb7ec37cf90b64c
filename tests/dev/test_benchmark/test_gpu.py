"""Checks and measurements of a GPU, run on a CPU."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest
import torch
from helpers import ROOT

SCRIPT = next((ROOT / 'tools').glob('**/gpu.sh'))


@pytest.mark.slow
def test_checks_on_a_cpu_pass_and_those_of_a_gpu_are_skipped(tmp_path):
    done = subprocess.run(
        ['bash', SCRIPT, tmp_path, '5', '--device', 'cpu']
        + ['--groups', 'checks'],
        env=dict(os.environ, PYTHON=sys.executable, CUDA_VISIBLE_DEVICES=''),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / 'results.jsonl').read_text().splitlines()
    found = {x['name']: x for x in map(json.loads, lines)}
    for precision in ('float32', 'AMP'):
        assert found[f'correctness, {precision}']['status'] == 'ok'
    assert 'skipped' in found['synchronization']['text']
    assert 'correctness, AMP' in (tmp_path / 'results.txt').read_text()


def test_the_replacement_of_mmcv_operators_has_nms_alone():
    spec = importlib.util.spec_from_file_location(
        '_ext', SCRIPT.with_name('mmcv_ext.py')
    )
    operators = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(operators)
    boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 8], [20, 20, 30, 30]])
    kept = operators.nms(
        boxes, torch.tensor([0.3, 0.9, 0.5]), iou_threshold=0.5, offset=0
    )
    assert kept.tolist() == [1, 2]
    with pytest.raises(NotImplementedError, match='roi_align_forward'):
        operators.roi_align_forward(boxes)
