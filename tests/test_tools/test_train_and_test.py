"""Detectors through the tools: training, test and export."""

import json
import pickle
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import torch
from helpers import ROOT, free_port, run, scalars
from mmengine.config import Config
from new_style import write_new_style
from tiny import CONFIGS, write_config

pytest.importorskip('mmdet')
pytestmark = pytest.mark.slow

# Weights are loaded as they are saved: what differs is rounding at most.
EXACT = dict(rtol=0, atol=1e-4)
COUNT_THREADS = """
_os = __import__('os')  # MMEngine makes something else of imports
if 'RANK' in _os.environ:
    __import__('atexit').register(lambda list=_os.listdir: print(
        f'threads at the end: {len(list("/proc/self/task"))}.', flush=True))
"""
SHOW = """
import sys
if sys.argv[1] == 'blocked':
    sys.modules['mmfmkt'] = None
import torch
from mmdet.apis import inference_detector, init_detector
config, checkpoint, image, out = sys.argv[2:6]
detector = init_detector(config, checkpoint, device='cpu')
found = inference_detector(detector, image).pred_instances
torch.save((found.bboxes, found.scores, found.labels), out)
"""


def metrics_in(folder):
    """The last metrics that a run logged."""
    logs = sorted(folder.glob('*/vis_data/scalars.json'))
    lines = [json.loads(x) for x in logs[-1].read_text().splitlines()]
    return [x for x in lines if 'coco/bbox_mAP' in x][-1]


def evaluate(config, checkpoint, folder, *options):
    """The metrics and predictions of tools/test.py."""
    out = folder / 'predictions.pkl'
    run(
        'tools/test.py',
        config,
        checkpoint,
        '--work-dir',
        folder,
        '--out',
        out,
        *options,
    )
    newest = sorted(folder.glob('*/2*.json'))[-1]
    with open(out, 'rb') as file:
        predictions = [x['pred_instances'] for x in pickle.load(file)]
    return json.loads(newest.read_text().splitlines()[-1]), predictions


def check_same(one, other):
    for a, b in zip(one, other, strict=True):
        for key in ('bboxes', 'scores'):
            torch.testing.assert_close(
                torch.as_tensor(a[key]), torch.as_tensor(b[key]), **EXACT
            )


@pytest.fixture(scope='module', params=('fmkt', 'theta'))
def trained(request, shapes, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    config = write_config(folder / 'config.py', shapes, request.param)
    log = run('tools/train.py', config, '--work-dir', folder / 'run')
    return request.param, config, folder / 'run', log


def test_training_logs_each_level_and_exports_the_student(trained):
    variant, _, work_dir, _ = trained
    logged = scalars(work_dir)[0]
    for level in (0, 1, 2, 3):
        assert f'neck.{level}.loss_flow' in logged
    assert ('neck.0.loss_student' in logged) == (variant == 'theta')
    assert (work_dir / 'student' / 'student.pth').is_file()


def test_the_checkpoint_holds_student_and_flow_and_no_teacher(trained):
    _, _, work_dir, _ = trained
    saved = torch.load(work_dir / 'epoch_2.pth', weights_only=False)
    tops = {name.split('.')[0] for name in saved['state_dict']}
    assert tops == {'backbone', 'neck', 'bbox_head', 'flows'}
    moments = saved['optimizer']['state']
    parameters = [
        name
        for name, x in saved['state_dict'].items()
        if x.is_floating_point() and 'running_' not in name
    ]
    assert len(moments) == len(parameters)


def test_testing_repeats_the_last_validation(trained, tmp_path):
    _, config, work_dir, _ = trained
    # The config of a resumed run has resume=True.
    options = ('--cfg-options', 'resume=True')
    metrics, _ = evaluate(config, work_dir / 'epoch_2.pth', tmp_path, *options)
    expected = metrics_in(work_dir)
    for key in ('coco/bbox_mAP', 'coco/bbox_mAP_50'):
        assert metrics[key] == expected[key]


def test_the_export_predicts_what_the_distiller_predicts(trained, tmp_path):
    variant, config, work_dir, _ = trained
    student = work_dir / 'student'
    # The flow starts as the identity; move it so that K matters.
    checkpoint = tmp_path / 'moved.pth'
    saved = torch.load(work_dir / 'epoch_2.pth', weights_only=False)
    for name, x in saved['state_dict'].items():
        if 'encoder.layers' in name:
            torch.nn.init.normal_(x, std=0.3)
    torch.save(saved, checkpoint)
    student = tmp_path / 'student'
    run('tools/export_student.py', config, checkpoint, '--out', student)
    seen = []
    for steps in (1, 8) if variant == 'fmkt' else (4,):
        option = ('--cfg-options', f'model.flow.inference_steps={steps}')
        if variant == 'theta':
            option = ()
        _, ours = evaluate(config, checkpoint, tmp_path / 'ours', *option)
        _, theirs = evaluate(
            student / 'student.py',
            student / 'student.pth',
            tmp_path / 'theirs',
            *option,
        )
        check_same(ours, theirs)
        seen.append(ours[0]['bboxes'])
    assert all(not torch.equal(seen[0], x) for x in seen[1:])


def test_a_new_style_distillation_is_exported_reported_and_compared(
    shapes, tmp_path
):
    """MMEngine dumps L1Loss with a path at which it does not find it."""
    old = Config.fromfile(
        write_config(tmp_path / 'old.py', shapes, 'fmkt', epochs=1)
    )
    own = write_new_style(tmp_path / 'own.py', old)
    assert 'smooth_l1_loss import L1Loss' in own.read_text()
    work_dir = tmp_path / 'run'
    run('tools/train.py', own, '--work-dir', work_dir)
    expected = metrics_in(work_dir)['coco/bbox_mAP']
    for config, checkpoint in (
        (own, work_dir / 'epoch_1.pth'),
        (work_dir / 'own.py', work_dir / 'epoch_1.pth'),
        (work_dir / 'student/student.py', work_dir / 'student/student.pth'),
    ):
        metrics, _ = evaluate(config, checkpoint, tmp_path / 'test')
        assert metrics['coco/bbox_mAP'] == expected
    page = tmp_path / 'report.html'
    assert 'not shown' not in run('tools/report.py', work_dir, '--out', page)
    student = CONFIGS / 'quick_start/retinanet_r18_shapes.py'
    log = run(
        *('tools/compare.py', student, '--methods', own, '--seeds', 0),
        *('--dry-run', '--work-dir', tmp_path / 'comparison'),
    )
    assert 'own, seed 0: to be run' in log


def test_without_levels_inference_has_the_trained_flows(shapes, tmp_path):
    """The teacher lacks the student's last level, stride 128."""
    from mmfmkt.apis import init_detector
    from mmfmkt.apis.inference import load_network

    path = write_config(tmp_path / 'config.py', shapes, 'fmkt', epochs=1)
    config = Config.fromfile(path)
    config.model.levels = None
    config.model.flow.encoder = [dict(type='BottleneckEncoder', width=4)] * 4
    neck = config.model.teacher.config.neck
    neck.update(start_level=0, add_extra_convs='on_output')
    config.dump(path)
    run('tools/train.py', path, '--work-dir', tmp_path / 'run')
    checkpoint = tmp_path / 'run' / 'epoch_1.pth'
    metrics, _ = evaluate(path, checkpoint, tmp_path / 'test')
    assert (
        metrics['coco/bbox_mAP']
        == metrics_in(tmp_path / 'run')['coco/bbox_mAP']
    )
    student = tmp_path / 'run' / 'student'
    for model in (
        load_network(config, str(checkpoint)),
        init_detector(path, str(checkpoint), 'cpu'),
        init_detector(
            student / 'student.py', str(student / 'student.pth'), 'cpu'
        ),
    ):
        assert list(model.flows['neck']) == ['0', '1', '2', '3']


def test_plain_mmdetection_loads_the_export(trained, shapes, tmp_path):
    from mmdet.apis import inference_detector

    from mmfmkt.apis import init_detector

    variant, config, work_dir, _ = trained
    image = str(sorted((shapes / 'val').glob('*.jpg'))[0])
    script = tmp_path / 'show.py'
    script.write_text(SHOW)
    access = 'blocked' if variant == 'theta' else 'free'
    run(
        script,
        access,
        work_dir / 'student/student.py',
        work_dir / 'student/student.pth',
        image,
        tmp_path / 'out.pt',
    )
    boxes, scores, labels = torch.load(tmp_path / 'out.pt')
    read = Config.fromfile(config)
    before = read.pretty_text
    detector = init_detector(read, str(work_dir / 'epoch_2.pth'), device='cpu')
    assert read.pretty_text == before
    ours = inference_detector(detector, image).pred_instances
    torch.testing.assert_close(ours.bboxes, boxes, **EXACT)
    torch.testing.assert_close(ours.scores, scores, **EXACT)
    assert torch.equal(ours.labels, labels) and len(labels)


def test_fmkt_exports_leave_out_what_only_training_needs(trained):
    variant, _, work_dir, _ = trained
    student = torch.load(work_dir / 'student/student.pth', weights_only=False)[
        'state_dict'
    ]
    text = (work_dir / 'student/student.py').read_text()
    if variant == 'theta':
        assert 'mmfmkt' not in text
        assert all(
            x.split('.')[0] in ('backbone', 'neck', 'bbox_head')
            for x in student
        )
    else:
        assert 'teacher=None' in text
        assert not any('.transform.' in x for x in student)


def test_a_checkpoint_from_a_url_is_exported_into_the_work_folder(
    trained, tmp_path
):
    variant, config, work_dir, _ = trained
    server = ThreadingHTTPServer(
        ('127.0.0.1', 0),
        partial(SimpleHTTPRequestHandler, directory=str(work_dir)),
    )
    Thread(target=server.serve_forever, daemon=True).start()
    url = f'http://127.0.0.1:{server.server_port}/epoch_2.pth'
    run(
        ROOT / 'tools/export_student.py',
        config,
        url,
        cwd=tmp_path,
        TORCH_HOME=tmp_path / 'hub',
    )
    server.shutdown()
    out = tmp_path / 'work_dirs/config/student'
    assert {x.name for x in out.iterdir()} == {'student.py', 'student.pth'}
    assert not (tmp_path / 'http:').exists()


def test_the_export_can_be_left_out(shapes, tmp_path):
    config = write_config(tmp_path / 'config.py', shapes, 'online', epochs=1)
    run(
        'tools/train.py',
        config,
        '--work-dir',
        tmp_path / 'run',
        '--cfg-options',
        'default_hooks.export_student=None',
    )
    assert (tmp_path / 'run' / 'epoch_1.pth').is_file()
    assert not (tmp_path / 'run' / 'student').exists()


def test_two_cpu_processes_train_together(shapes, tmp_path):
    config = write_config(tmp_path / 'config.py', shapes, 'fmkt', epochs=1)
    with open(config, 'a', encoding='utf-8') as file:
        file.write(COUNT_THREADS)
        # Steps that are computed again, and parameters that levels share,
        # go along with data parallelism.
        file.write("model['flow'].update(with_cp=True, share_encoder=True)\n")
    log = run(
        'bash',
        'tools/dist_train.sh',
        config,
        2,
        '--work-dir',
        tmp_path / 'run',
        PORT=free_port(),
    )
    assert 'Distributed training: True' in log
    # A thread that is still there aborts Python now and then as it ends.
    if sys.platform == 'linux':
        assert log.count('threads at the end: 1.') == 2
    assert (tmp_path / 'run' / 'epoch_1.pth').is_file()
    log = run(
        'bash',
        'tools/dist_test.sh',
        config,
        tmp_path / 'run' / 'epoch_1.pth',
        2,
        '--work-dir',
        tmp_path / 'test',
        PORT=free_port(),
    )
    assert 'coco/bbox_mAP' in log


def test_training_with_amp_ema_and_visualization_and_testing_with_tta(
    shapes, tmp_path
):
    config = write_config(tmp_path / 'config.py', shapes, 'fmkt', epochs=1)
    with open(config, 'a', encoding='utf-8') as file:
        file.write("custom_hooks = [dict(type='EMAHook', momentum=0.5)]\n")
        # PyTorch's bfloat16 convolution on CPUs has no gradient that can be
        # relied on for stride 2 on a map of one pixel: keep P6 larger.
        file.write(
            "model['student']['data_preprocessor']['pad_size_divisor'] = 128\n"
        )
    log = run(
        'tools/train.py', config, '--work-dir', tmp_path / 'run', '--amp'
    )
    assert 'nan' not in log.lower().split('epoch(train)')[-1]
    saved = torch.load(tmp_path / 'run' / 'epoch_1.pth', weights_only=False)
    assert not any('teacher' in x for x in saved['ema_state_dict'])
    assert len(saved['ema_state_dict']) == len(saved['state_dict']) + 1
    log = run(
        'tools/test.py',
        config,
        tmp_path / 'run' / 'epoch_1.pth',
        '--work-dir',
        tmp_path / 'test',
        '--tta',
        '--show-dir',
        'seen',
    )
    assert 'coco/bbox_mAP' in log
    assert len(list((tmp_path / 'test').glob('*/seen/*'))) == 8


def test_slurm_gets_the_requested_resources(tmp_path):
    srun = tmp_path / 'srun'
    srun.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    srun.chmod(0o755)
    output = run(
        'bash',
        'tools/slurm_train.sh',
        'gpu',
        'job',
        'config.py',
        'work',
        '--amp',
        PATH=f'{tmp_path}:/usr/bin:/bin',
        GPUS=16,
        SRUN_ARGS='--time=9 --nodelist=a',
    ).splitlines()
    assert output[:8] == [
        '-p',
        'gpu',
        '--job-name=job',
        '--gres=gpu:8',
        '--ntasks=16',
        '--ntasks-per-node=8',
        '--cpus-per-task=5',
        '--kill-on-bad-exit=1',
    ]
    assert output[8:10] == ['--time=9', '--nodelist=a']
    assert output[-5:] == [
        'tools/train.py',
        'config.py',
        '--work-dir=work',
        '--launcher=slurm',
        '--amp',
    ]


def test_the_first_start_of_a_resumable_run_loads_load_from(trained, tmp_path):
    """MMEngine ignores load_from with --resume, also without a checkpoint."""
    variant, config, work_dir, _ = trained
    start = work_dir / 'epoch_2.pth'
    command = [
        *('tools/train.py', config, '--resume', '--work-dir', tmp_path),
        *('--cfg-options', f'load_from={start}', 'train_cfg.max_epochs=1'),
    ]
    assert f'Load checkpoint from {start}' in run(*command)
    log = run(*command[:-1], 'train_cfg.max_epochs=2')
    assert 'resumed epoch: 1' in log
    assert f'Load checkpoint from {start}' not in log
    # The config in the work directory has `resume=True`.
    dumped = tmp_path / config.name
    log = run('tools/test.py', dumped, tmp_path / 'epoch_2.pth')
    assert 'bbox_mAP' in log and 'resumed' not in log
