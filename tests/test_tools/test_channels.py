"""Students with 1 and 4 input channels through all tools."""

import cv2
import numpy as np
import pytest
from helpers import run
from mmengine.config import Config
from tiny import write_config

pytest.importorskip('mmdet')
pytestmark = pytest.mark.slow

from mmfmkt.apis import compose_distillation  # noqa: E402

COLOR_TYPES = {1: 'grayscale', 4: 'unchanged'}


@pytest.fixture(params=COLOR_TYPES)
def student(request, tmp_path):
    """Write configs of a student with 1 or 4 input channels, and a teacher
    with 3."""
    from mmfmkt.datasets import make_shapes

    channels = request.param
    data = tmp_path / 'shapes'
    make_shapes(data, num_train=4, num_val=4, image_size=(64, 64), seed=0)
    if channels == 4:
        for path in data.rglob('*.jpg'):
            image = cv2.imread(str(path))
            image = np.dstack([image, image[..., :1]])
            # JPEG has no fourth channel; readers detect PNG by its content.
            path.write_bytes(cv2.imencode('.png', image)[1].tobytes())
    cfg = Config.fromfile(write_config(tmp_path / 'c.py', data, 'fmkt', 1))
    for split in ('train', 'val', 'test'):
        load = cfg[f'{split}_dataloader'].dataset.pipeline[0]
        load.color_type = COLOR_TYPES[channels]
    network = cfg.model.student
    network.backbone.in_channels = channels
    network.data_preprocessor = dict(type='DetDataPreprocessor')
    if channels == 1:
        network.data_preprocessor.update(mean=[110.0], std=[57.0])
    cfg.dump(tmp_path / 'c.py')
    teacher = cfg.model.teacher.config
    cfg.pop('distiller')
    for name, model in dict(student=network, teacher=teacher).items():
        Config(dict(cfg, model=model)).dump(tmp_path / f'{name}.py')
    return channels


def test_students_with_1_or_4_channels_work_in_all_tools(student, tmp_path):
    config, work_dir = tmp_path / 'c.py', tmp_path / 'run'
    log = run(
        'tools/train.py', config, '--work-dir', work_dir, '--check-teacher'
    )
    assert 'Teacher metrics: coco/bbox_mAP' in log and 'exported' in log
    run('tools/report.py', work_dir, '--out', tmp_path / 'report.html')
    assert 'GFLOPs' in (tmp_path / 'report.html').read_text()
    pytest.importorskip('onnxruntime')
    log = run(
        'tools/export_onnx.py',
        config,
        work_dir / 'epoch_1.pth',
        '--image-size',
        64,
        64,
    )
    assert 'differs by' in log
    composed = compose_distillation(
        str(tmp_path / 'student.py'),
        str(tmp_path / 'teacher.py'),
        tmp_path / 'composed.py',
    )
    assert 'FLOPs of a 256x256 image' in composed.summary[-1]
    backbone = Config.fromfile(composed.config).model.student.backbone
    assert backbone.in_channels == student
