"""Exports of four kinds of detectors predict the same in MMDetection."""

import pytest
import torch
from helpers import run
from mmengine.config import Config
from mmengine.registry import DefaultScope
from tiny import packaged
from torch.nn.modules.batchnorm import _BatchNorm

pytest.importorskip('mmdet')
pytestmark = pytest.mark.slow

from mmdet.apis import inference_detector  # noqa: E402

from mmfmkt.apis import export_student, init_detector  # noqa: E402
from mmfmkt.models.distillers.networks import (  # noqa: E402
    init_random_weights,
    without_weights,
)
from mmfmkt.registry import MODELS  # noqa: E402

STUDENTS = (
    'mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
    'dino/dino-4scale_r50_8xb2-12e_coco.py',
    'rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
    'yolox/yolox_tiny_8xb8-300e_coco.py',
)
SIDE = 128
# FM-KT^Theta without mmfmkt, then FM-KT, whose export imports it.
SHOW = """
import sys
sys.modules['mmfmkt'] = None
import torch
from mmdet.apis import inference_detector, init_detector
image, *folders = sys.argv[1:]
for folder in folders:
    detector = init_detector(f'{folder}/student.py', f'{folder}/student.pth',
                             device='cpu')
    found = inference_detector(detector, image).pred_instances
    torch.save(dict(found.items()), f'{folder}/found.pt')
    sys.modules.pop('mmfmkt', None)
"""


def small(part):
    """Shrink images, limit candidates, and keep detections of low score."""
    if isinstance(part, dict):
        for key, value in part.items():
            if key in ('scale', 'size', 'img_scale'):
                part[key] = (SIDE, SIDE)
            elif key == 'score_thr':
                part[key] = 0.0
            elif key in ('nms_pre', 'max_per_img', 'num_queries'):
                part[key] = min(value, 50)
            else:
                small(value)
    elif isinstance(part, (list, tuple)):
        for value in part:
            small(value)


@torch.no_grad()
def settle(network, size):
    """Give batch norms the statistics that untrained weights lead to.

    Deep networks of random weights may overflow without.
    """
    norms = [x for x in network.modules() if isinstance(x, _BatchNorm)]
    for norm in norms:
        norm.train().reset_running_stats()
        norm.momentum = None  # the mean of all that is seen
    network.extract_feat(torch.randn(2, 3, size, size))


@pytest.mark.parametrize('name', STUDENTS)
def test_an_export_predicts_what_the_distiller_predicts(
    name, shapes, tmp_path
):
    torch.manual_seed(0)
    image = str(sorted((shapes / 'val').glob('*.jpg'))[0])
    config = Config.fromfile(packaged(name))
    without_weights(config.model)
    small(config.test_dataloader.dataset.pipeline)
    small(config.model)
    for part in ('encoder', 'decoder'):
        if part in config.model:
            config.model[part].num_layers = 1
    student = config.model.to_dict()
    folders, ours = [], []
    for variant in ('theta', 'fmkt'):
        config.model = dict(
            type='mmfmkt.DetectionDistiller',
            variant=variant,
            student=student,
            teacher=dict(config=student, checkpoint=None),
        )
        with DefaultScope.overwrite_default_scope('mmdet'):
            model = MODELS.build(config.model)
        init_random_weights(model)
        settle(model.student, SIDE)
        # Away from the identity, or the flow would not show.
        for parameter in model.flows.parameters():
            torch.nn.init.normal_(parameter, std=0.01)
        folders.append(tmp_path / variant)
        checkpoint = tmp_path / f'{variant}.pth'
        torch.save(dict(state_dict=model.state_dict()), checkpoint)
        export_student(config, str(checkpoint), folders[-1])
        detector = init_detector(config, str(checkpoint), device='cpu')
        ours.append(inference_detector(detector, image).pred_instances)
    script = tmp_path / 'show.py'
    script.write_text(SHOW)
    run(script, image, *folders)
    for found, folder in zip(ours, folders):
        exported = torch.load(folder / 'found.pt')
        assert set(exported) == set(found.keys()) and len(found)
        for key, value in found.items():
            torch.testing.assert_close(exported[key], value, rtol=0, atol=1e-4)
        print(
            folder.name,
            name,
            len(found),
            'detections, largest difference of scores',
            (exported['scores'] - found.scores).abs().max(),
        )
    assert not torch.equal(ours[0].scores, ours[1].scores)
