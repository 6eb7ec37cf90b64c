"""Statistics of the report, and the runs that it reads."""

import json
from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace as Namespace

import pytest
import torch
from helpers import run
from mmengine.config import Config, ConfigDict
from mmengine.structures import InstanceData
from tiny import distiller, faster_rcnn, retinanet, write_config

from mmfmkt.models.flows import (
    FMKT,
    BottleneckEncoder,
    MapTransform,
    RectifiedFlow,
    VelocityField,
)
from mmfmkt.models.losses import PKDLoss
from mmfmkt.utils import ConfigError

pytest.importorskip('mmdet')

from mmdet.structures import DetDataSample  # noqa: E402

from mmfmkt.models.distillers.networks import build_network  # noqa: E402
from mmfmkt.visualization.report import (  # noqa: E402
    read_work_dir,
    write_report,
)
from mmfmkt.visualization.report.curves import (  # noqa: E402
    loss_curves,
    metric_curves,
    transfer_curves,
)
from mmfmkt.visualization.report.detections import (  # noqa: E402
    detect,
    match,
    shared_labels,
)
from mmfmkt.visualization.report.features import (  # noqa: E402
    LevelFeatures,
    linear_cka,
    measure_steps,
    read_features,
    sampling_trajectories,
    spaced_indices,
)
from mmfmkt.visualization.report.loading import load_run  # noqa: E402
from mmfmkt.visualization.report.page import (  # noqa: E402
    cost_section,
    results_section,
)
from mmfmkt.visualization.report.runs import (  # noqa: E402
    differences,
    make_names_unique,
)


def instances(*boxes, labels=None):
    labels = labels or [0] * len(boxes)
    return InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float).reshape(-1, 4),
        labels=torch.tensor(labels),
    )


def test_each_object_is_matched_once_by_the_highest_score_of_its_class():
    objects = instances((0, 0, 10, 10), (20, 0, 30, 10), labels=[0, 1])
    detected = instances(
        (0, 0, 10, 9),
        (0, 0, 10, 10),
        (20, 0, 30, 10),
        (20, 0, 30, 9),
        (50, 50, 60, 60),
        labels=[0, 0, 0, 1, 0],
    )
    assert match(detected, objects) == [0, -1, -1, 1, -1]
    empty = instances()
    assert match(empty, objects) == [] == match(empty, empty)
    assert match(detected, empty) == [-1] * 5


def test_cka_is_invariant_to_rotation_and_scale_only():
    torch.manual_seed(0)
    x = torch.randn(2, 6, 9, 8)
    rotation = torch.linalg.qr(torch.randn(6, 6))[0]
    rotated = torch.einsum('bchw,cd->bdhw', x, rotation) * 3 + 1
    assert linear_cka(x, rotated) == pytest.approx(1)
    independent = torch.randn(2, 10, 9, 8)
    cka = linear_cka(x, independent)
    assert 0 <= cka < 0.3
    assert cka == pytest.approx(linear_cka(independent, x))


def level_features(channels=6, target_channels=9):
    torch.manual_seed(0)
    transfer = FMKT(
        VelocityField(
            BottleneckEncoder(channels, width=4, zero_init=False),
            RectifiedFlow(),
        ),
        PKDLoss(),
        MapTransform(channels, target_channels),
    )
    maps = (
        torch.randn(2, channels, 7, 5),
        torch.randn(2, target_channels, 7, 5),
    )
    return LevelFeatures('neck.0', transfer, *maps, 4)


def test_sampling_trajectories_end_at_the_deployed_output():
    level = level_features()
    with torch.no_grad():
        deployed = level.transfer.sample(level.source, 4)
        transformed = level.transfer.transform(deployed, level.target)
        flat = level.target.movedim(1, -1).flatten(0, -2).double()
        plane = torch.linalg.svd(flat - flat.mean(0))[2][:2].T
        projected = transformed.movedim(1, -1).flatten(0, -2).double()
        projected = (projected - flat.mean(0)) @ plane
    trajectories = sampling_trajectories(level)
    assert (
        len(trajectories['states']) == 5 and len(trajectories['targets']) == 40
    )
    expected = projected[torch.tensor(spaced_indices(len(projected), 40))]
    last = torch.tensor(trajectories['states'][-1], dtype=torch.double)
    # The signs of the principal axes are arbitrary.
    torch.testing.assert_close(
        last.abs(), expected.abs(), atol=1e-4, rtol=1e-4
    )
    assert 0 < sum(trajectories['explained_variance']) < 1
    values = measure_steps(level)
    assert len(values['distance']) == len(values['cka']) == 6
    metric = level.transfer.metric(transformed, level.target)
    assert values['distance'][-1] == pytest.approx(metric.item(), rel=1e-4)


def write_run(folder, lines, config='model = dict(type="X")\n', day=1):
    vis_data = folder / f'2026010{day}_000000' / 'vis_data'
    vis_data.mkdir(parents=True)
    (vis_data / 'config.py').write_text(config)
    (vis_data / 'scalars.json').write_text('\n'.join(lines))
    return str(folder)


def test_logs_of_a_running_and_resumed_training_are_read(tmp_path):
    lines = [
        dict(loss=3.0, iter=1, epoch=1, step=1),
        dict(loss=2.0, iter=2, epoch=1, step=2),
        {'flow/neck.0/velocity': 0.5, 'step': 2},
        {
            'coco/bbox_mAP': 0.1,
            'accuracy/top1_k8': 61.5,
            'accuracy/top1_k1': 60.0,
            'step': 1,
        },
        dict(loss=1.5, iter=2, epoch=1, step=2),
    ]
    text = [*map(json.dumps, lines), '{"loss": 1.0, "it']
    run_a = read_work_dir(write_run(tmp_path / 'a' / 'run', text))
    assert [x['loss'] for x in run_a.train] == [3.0, 1.5]
    assert run_a.metrics[0] == 'coco/bbox_mAP' and len(run_a.flow) == 1
    assert run_a.metrics_by_steps() == {'accuracy/top1': {1: 60.0, 8: 61.5}}
    assert run_a.checkpoint is None and not run_a.is_distillation
    run_b = read_work_dir(
        write_run(
            tmp_path / 'b' / 'run',
            text,
            'model = dict(type="X", depth=2)\nwork_dir = "b"\n',
        )
    )
    make_names_unique([run_a, run_b])
    assert (run_a.name, run_b.name) == ('a/run', 'b/run')
    assert differences([run_a, run_b]) == {'model.depth': ['', '2']}


def test_the_config_of_a_test_does_not_replace_that_of_the_training(tmp_path):
    write_run(tmp_path, ['{"loss": 1.0, "iter": 1}'])
    test_config = 'model = dict(type="X", inference_steps=1)\n'
    write_run(tmp_path, [], test_config, day=2)
    (tmp_path / '20260102_000000/vis_data/scalars.json').unlink()
    assert read_work_dir(str(tmp_path)).config.model == dict(type='X')


def test_a_restarted_training_replaces_the_log_of_the_first(tmp_path):
    for day, epochs in ((1, 4), (2, 2)):
        lines = [
            json.dumps(x)
            for i in range(1, epochs + 1)
            for x in (
                dict(loss=day, iter=10 * i, step=10 * i),
                {'flow/neck.0/velocity': day, 'step': 10 * i},
                {'coco/bbox_mAP': day, 'step': i},
            )
        ]
        write_run(tmp_path, lines, day=day)
    training = read_work_dir(str(tmp_path))
    assert [(x['iter'], x['loss']) for x in training.train] == [
        (10, 2),
        (20, 2),
    ]
    assert [(x['step'], x['coco/bbox_mAP']) for x in training.val] == [
        (1, 2),
        (2, 2),
    ]
    assert [x['step'] for x in training.flow] == [10, 20]


def test_hierarchical_logs_by_iteration_are_plotted_over_iterations(tmp_path):
    lines = [
        json.dumps(x)
        for i in (10, 20)
        for x in (
            {'train/loss': 1.0, 'train/loss_cls': 0.5, 'iter': i, 'step': i},
            {'val/coco/bbox_mAP': 0.1, 'step': i},
        )
    ]
    config = (
        'model = dict(type="X")\n'
        'default_hooks = dict(logger=dict(log_metric_by_epoch=False))\n'
    )
    training = read_work_dir(write_run(tmp_path / 'run', lines, config))
    assert training.losses() == ['loss', 'loss_cls']
    assert training.metrics == ['coco/bbox_mAP']
    (figure,) = metric_curves([training])
    assert figure.layout.xaxis.title.text == 'iteration'


@pytest.fixture(scope='module')
def two_stage_run(tmp_path_factory, shapes):
    """A run of a Faster R-CNN with a compiled flow, without a test set."""
    folder = tmp_path_factory.mktemp('two_stage')
    config = Config.fromfile(write_config(folder / 'c.py', shapes, 'fmkt'))
    student, teacher = faster_rcnn(), retinanet(24, 16)
    student.roi_head.bbox_head.num_classes = 6
    student.test_cfg.rcnn.score_thr = 0.0
    neck = dict(start_level=0, end_level=0, num_outs=1, add_extra_convs=False)
    teacher.neck.update(neck)
    teacher.bbox_head.anchor_generator.strides = [4]
    config.model = ConfigDict(
        distiller(student=student, teacher=teacher, levels=(1,))
    )
    config.model.flow.compile = True
    config.test_dataloader = config.test_evaluator = None
    run = folder / 'run'
    write_run(run, ['{"loss": 1.0, "iter": 1}'], config.pretty_text)
    config.model.flow.compile = False
    state = build_network(config.model, 'mmdet').state_dict()
    torch.save(dict(state_dict=state), run / 'epoch_1.pth')
    return read_work_dir(str(run))


def test_two_stage_students_are_shown_and_evaluated_on_the_validation_set(
    two_stage_run, tmp_path
):
    path = write_report([two_stage_run], tmp_path / 'r.html', 1, steps=(1,))
    text = path.read_text()
    assert 'is not shown' not in text
    assert 'bbox_mAP by number of sampling steps' in text


@pytest.mark.parametrize(
    'names, labels',
    [
        (['star', 'dog', 'circle'], {0: 5, 2: 0}),
        (['dog'], {}),
        (None, {}),
    ],
)
def test_the_teachers_detections_are_those_of_shared_classes(
    names, labels, two_stage_run
):
    loaded = load_run(two_stage_run)
    holder = loaded.model.teacher_holder
    holder._settings = dict(holder._settings, classes=names)
    holder.network.bbox_head.num_classes = len(names or 'unknown')
    assert shared_labels(holder, loaded.dataset) == labels
    holder.is_backbone = True  # a classifier
    assert not shared_labels(holder, loaded.dataset)


def test_the_deployment_cost_excludes_what_only_training_uses(two_stage_run):
    loaded = load_run(two_stage_run)
    (table,) = cost_section([loaded]).items
    (teacher, _, size, _), (name, k, deployed, gflops) = table['rows']
    model = loaded.model
    parts = [x.field for x in model.flows['neck'].values()]
    expected = [model.student, *parts]
    assert (teacher, name, k) == ('teacher', 'run', 2) and float(gflops) > 0
    for modules, shown in ((expected, deployed), ([model.teacher], size)):
        count = sum(p.numel() for x in modules for p in x.parameters())
        assert shown == f'{count:,}'


def test_runs_of_different_teachers_have_one_cost_for_each(two_stage_run):
    loaded = load_run(two_stage_run)
    other = replace(
        two_stage_run, name='b', config=deepcopy(loaded.run.config)
    )
    other.config.model.teacher.scale = 0.5
    (table,) = cost_section([loaded, loaded._replace(run=other)]).items
    assert [row[0] for row in table['rows']] == [
        'teacher of run',
        'teacher of b',
        'run',
        'b',
    ]


def test_maps_of_another_stride_have_the_size_of_the_targets_in_training(
    two_stage_run,
):
    loaded = load_run(two_stage_run)
    levels = read_features(loaded.model, loaded.dataset, [0])
    sizes = [(x.source.shape[-1], x.target.shape[-1]) for x in levels]
    transfer = loaded.model.flows['neck']
    assert set(transfer.stride_ratios.values()) != {1.0}
    for level, (source, target) in zip(transfer, sizes):
        assert target == round(source * transfer.stride_ratios[level])


def test_folders_without_a_training_log_are_refused(tmp_path):
    with pytest.raises(ConfigError, match='not a work directory'):
        read_work_dir(str(tmp_path))
    output = run('tools/report.py', tmp_path, fails=True)
    assert output.strip().splitlines()[-1].startswith('error: ')


def test_the_teacher_is_in_the_table_of_runs(tmp_path):
    lines = [
        {'teacher/coco/bbox_mAP': 0.4321, 'step': 0},
        {'coco/bbox_mAP': 0.1, 'step': 1},
    ]
    teacher = tmp_path / 'teacher'
    config = (
        'model = dict(student=dict(type="X"), teacher=dict(config="x.py", '
        f'checkpoint="{teacher}/epoch_1.pth"))\n'
    )
    text = [json.dumps(x) for x in lines]
    runs = [read_work_dir(write_run(tmp_path / 'run', text, config))]
    header, rows = results_section(runs).items[0].values()
    assert header[-1] == 'coco/bbox_mAP'
    assert [(row[0], row[1], row[-1]) for row in rows] == [
        ('run', 'fmkt', 0.1),
        ('teacher', 'teacher', 0.4321),
    ]
    # Without TeacherCheckHook, the validation of its checkpoint is shown.
    runs[0].teacher = {}
    later = json.dumps({'coco/bbox_mAP': 0.2, 'step': 2})
    teacher_run = read_work_dir(write_run(teacher, [text[1], later]))
    header, rows = results_section(runs).items[0].values()
    assert [row[-1] for row in rows] == [0.1, 0.1]
    header, rows = results_section([*runs, teacher_run]).items[0].values()
    assert [row[0] for row in rows] == ['run', 'teacher']


def test_task_losses_at_the_head_are_not_plotted_as_distillation_losses(
    tmp_path,
):
    task_losses = ['loss', 'head.loss_task', 'head.task_loss_aux']
    distillation_losses = [
        'head.loss_branch',
        'head.loss_flow',
        'head.metric_of_mean',
        'stages.1.0.loss_direct',
    ]
    line = dict.fromkeys([*task_losses, *distillation_losses], 0.5)
    text = json.dumps(dict(line, iter=1, epoch=1, step=1))
    training = read_work_dir(write_run(tmp_path / 'run', [text]))
    titles = [x.layout.title.text for x in loss_curves([training])]
    assert sorted(titles) == sorted(task_losses)
    (figure,) = transfer_curves(training)
    assert sorted(x.name for x in figure.data) == distillation_losses


def test_networks_without_boxes_have_no_detections():
    """Such as MaskFormer, which segments only."""
    dataset, network = [dict(inputs=torch.zeros(3, 4, 4))], Namespace()
    network.test_step = lambda batch: [DetDataSample()]
    assert not len(detect(network, dataset, 0, threshold=0.3))


def test_logs_only_reports_load_nothing_from_the_internet(tmp_path):
    line = {
        'loss': 1.0,
        'loss_cls': 0.4,
        'neck.0.loss_flow': 0.6,
        'iter': 1,
        'step': 1,
    }
    folder = write_run(tmp_path / 'run', [json.dumps(line)])
    out = tmp_path / 'report.html'
    output = run('tools/report.py', folder, '--logs-only', '--out', out)
    assert 'report.html' in output
    page = out.read_text()
    assert 'neck.0.loss_flow' in page and 'loss_cls' in page
    head = page.split('<script>')[0] + page.rsplit('</script>', 1)[1]
    for word in ('http://', 'https://', '<link', 'src='):
        assert word not in head
    assert '<script src' not in page
