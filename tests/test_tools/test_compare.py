"""Comparison of methods: real runs, what they show, and interruptions."""

import json
import os
import random
import signal
import statistics
import subprocess
from types import SimpleNamespace

import pytest
import torch
from helpers import CPU, ROOT, TOOL_SERVER, run, wait_until
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope
from tiny import classification, distiller, write_network
from yolo_voc import to_yolo

from mmfmkt.apis.compare import (
    Comparison,
    Executor,
    Method,
    check_methods,
)
from mmfmkt.apis.compare.composition import (
    baseline_of,
    compose_methods,
    set_budget,
)
from mmfmkt.apis.compare.plan import run_config, write_result
from mmfmkt.apis.compare.results import (
    T_QUANTILES,
    ResultRow,
    best_loss_without_flow,
    differences,
    is_significant,
    mean_and_standard_error,
    summarize,
    verdict,
)
from mmfmkt.cli.compare import notes, write_page
from mmfmkt.models.distillers.networks import build_network
from mmfmkt.registry import MODELS
from mmfmkt.utils import ConfigError
from mmfmkt.utils.configs import read_config

pytest.importorskip('mmdet')

TOOL = 'tools/compare.py'
MAP = 'coco/bbox_mAP'


def comparison_of(folder, *methods):
    return Comparison(
        title='',
        metric=None,
        label='',
        results=folder / 'results.json',
        methods=[*methods],
    )


def row(name, values, latency=None, **method):
    method = Method(name, '', list(range(len(values))), **method)
    return ResultRow(
        name,
        method,
        method.steps[0],
        dict(enumerate(values)),
        [],
        latency or {},
    )


def test_differences_are_paired_by_seed():
    one, two = row('a', [0.3, 0.5, 0.4]), row('b', [0.1, 0.4])
    assert differences(one, two) == pytest.approx([0.2, 0.1])
    one.values.pop(0)
    assert differences(one, two) == pytest.approx([0.1])


def test_the_standard_error_is_that_of_the_mean():
    values = [random.Random(0).gauss(0, 1) for _ in range(7)]
    mean, error = mean_and_standard_error(values)
    assert mean == pytest.approx(sum(values) / 7)
    assert error**2 * 7 == pytest.approx(statistics.variance(values))
    assert mean_and_standard_error([0.4]) == (0.4, None)


def test_quantiles_are_those_of_students_t():
    stats = pytest.importorskip('scipy.stats')
    for degrees, quantile in enumerate(T_QUANTILES, 2):
        assert stats.t.ppf(0.975, degrees) == pytest.approx(quantile, abs=1e-3)


def test_equal_methods_rarely_differ_significantly():
    """Of methods that are equal, one in twenty seems to differ."""
    draw = random.Random(0).gauss
    for seeds in (3, 5, 12):
        found = sum(
            is_significant([draw(0, 1) for _ in range(seeds)], MAP)
            for _ in range(4000)
        )
        assert 0.035 < found / 4000 < 0.065
    assert not is_significant([0.5, 0.5], MAP) and not is_significant(
        [0.5], MAP
    )
    # What the table shows as +0.000 is no difference.
    assert not is_significant([0.0004, 0.0004, 0.0004], MAP)


@pytest.mark.parametrize(
    'gains, sentence',
    (
        (
            [0.008, 0.009, 0.007, 0.010, 0.006],
            'FM-KT: +0.008 ± 0.001 box mAP over the distillation loss alone, '
            'in 5 of 5 seeds, at 1.01 x latency.',
        ),
        (
            [0.02, 0.03, 0.03, 0.03, 0.03, 0.03, 0.03, 0.03, -0.001],
            'FM-KT: +0.025 ± 0.003 box mAP over the distillation loss alone, '
            'in 8 of 9 seeds, at 1.01 x latency.',
        ),
        (
            [-0.010, -0.011, -0.009],
            'FM-KT: -0.010 ± 0.001 box mAP against the distillation loss '
            'alone, in 3 of 3 seeds, at 1.01 x latency.',
        ),
        (
            [0.03, -0.01, 0.01],
            'FM-KT: no difference from the distillation loss alone shown by '
            '3 seeds (+0.010 ± 0.012 box mAP).',
        ),
        (
            [0.3],
            'FM-KT: no difference from the distillation loss alone shown by '
            '1 seed (+0.300 box mAP).',
        ),
    ),
)
def test_verdicts_follow_from_the_printed_difference_and_error(
    gains, sentence
):
    direct = row('direct', [0.4, 0.5, 0.3, 0.45, 0.42] * 2)
    for seed in range(len(gains), 10):
        del direct.values[seed]
    gained = [direct.values[x] + gain for x, gain in enumerate(gains)]
    flow = row('FM-KT', gained, dict(ratio=1.011), inference_steps=[1])
    assert verdict(flow, direct, MAP, 'box mAP') == sentence


def test_methods_are_compared_with_the_student_and_the_best_loss(tmp_path):
    values = dict(baseline=0.2, direct=0.3, theta=0.35)
    comparison = comparison_of(
        tmp_path,
        Method('baseline', '', [0], is_baseline=True),
        Method('direct', '', [0], is_loss_without_flow=True),
        Method('theta', '', [0]),
    )
    runs = [
        dict(method=name, seed=0, metrics={'-': {MAP: x}})
        for name, x in values.items()
    ]
    summary = summarize(comparison, dict(runs=runs, cost={}))
    assert summary.cells[0][2:4] == ['', '']
    assert summary.cells[1][2:4] == ['+0.100', '']
    assert summary.cells[2][2:4] == ['+0.150', '+0.050']
    assert [x.split(':')[0] for x in summary.verdicts] == ['direct', 'theta']
    assert 'the baseline' in summary.verdicts[0]
    assert 'the distillation loss alone' in summary.verdicts[1]


def test_all_methods_run_with_the_first_seed_first(tmp_path):
    methods = [Method(name, '', [1, 0]) for name in 'ab']
    runs = comparison_of(tmp_path, *methods).runs()
    order = [(run.method.name, run.seed) for run in runs]
    assert order == [('a', 0), ('b', 0), ('a', 1), ('b', 1)]


@pytest.mark.parametrize('retry', (True, False))
def test_failed_runs_are_repeated_by_the_same_command(retry, tmp_path):
    comparison = comparison_of(tmp_path, Method('a', '', [0]))
    (run,) = comparison.runs()
    (tmp_path / run.folder).mkdir(parents=True)
    failed = dict(
        method='a', seed=0, options={}, error='no', ended='', metrics={}
    )
    write_result(tmp_path / run.folder, failed)
    executor = Executor(comparison, tmp_path, retry=retry)
    assert executor.is_pending(run) == retry


def test_options_of_a_method_override_those_of_all_runs(tmp_path):
    cfg = Config(
        dict(
            model=distiller(),
            default_hooks=dict(
                checkpoint=dict(save_best='coco/bbox_mAP', rule='greater')
            ),
            val_cfg=dict(),
        )
    )
    cfg.dump(tmp_path / 'config.py')
    own, other = {'model.teacher.checkpoint': 'own.pth'}, {}
    for options, expected in ((own, 'own.pth'), (other, 'teacher.pth')):
        method = Method('a', str(tmp_path / 'config.py'), [3], options)
        run = run_config(method, 3, dict(checkpoint='teacher.pth'))
        assert run.model.teacher.checkpoint == expected
        assert run.randomness.seed == 3
        # There is no validation, in which a best checkpoint could be found.
        assert run.val_cfg is None and run.default_hooks.checkpoint == {}


def test_methods_with_results_that_are_not_compared_are_named(tmp_path):
    comparison = comparison_of(tmp_path, Method('a', '', [0]))
    args = SimpleNamespace(
        teacher=None, teacher_checkpoint=None, cfg_options=None
    )
    results = dict(runs=[dict(method=name) for name in 'abc'])
    (note,) = notes(args, comparison, results)
    assert note.startswith('Other methods have results, too: b, c.')


def test_a_baseline_starts_from_the_same_weights():
    cfg = Config(dict(model=distiller(), load_from='student.pth'))
    assert baseline_of(cfg).load_from == 'student.pth'


def test_the_main_metric_is_compared_and_not_that_of_a_class(tmp_path):
    comparison = comparison_of(
        tmp_path,
        Method('baseline', '', [0, 1], is_baseline=True),
        Method('direct', '', [0, 1]),
    )
    nan = float('nan')
    runs = [
        dict(
            method=name,
            seed=seed,
            metrics={'-': {'coco/a_precision': nan, MAP: 0.3 + 0.1 * seed}},
        )
        for name in ('baseline', 'direct')
        for seed in (0, 1)
    ]
    results = dict(runs=runs, cost={})
    assert '0.350' in summarize(comparison, results).cells[0][1]
    runs[0]['metrics']['-'][MAP] = nan
    assert summarize(comparison, results).rows[0].values == {1: 0.4}


def test_the_best_loss_is_chosen_among_those_with_enough_seeds():
    one = row('CWD', [0.9], is_loss_without_flow=True)
    three = row('PKD', [0.1, 0.2, 0.3], is_loss_without_flow=True)
    assert best_loss_without_flow([one, three]) is three
    assert best_loss_without_flow([one]) is one


def learning_rates(cfg, iterations=30):
    """Return the learning rates of a training, relative to the base.

    They are those of each half epoch of ``iterations`` iterations.
    """
    epochs = cfg.train_cfg.max_epochs
    configs = cfg.param_scheduler
    if isinstance(configs, dict):
        configs = [configs]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 1.0)
    schedulers = [
        PARAM_SCHEDULERS.build(
            {'end': epochs, **x},
            default_args=dict(optimizer=optimizer, epoch_length=iterations),
        )
        for x in configs
    ]
    rates = []
    for i in range(1, epochs * iterations + 1):
        rates.append(optimizer.param_groups[0]['lr'])
        for scheduler in schedulers:
            if not scheduler.by_epoch or i % iterations == 0:
                scheduler.step()
    return rates[:: iterations // 2]


@pytest.mark.filterwarnings('ignore::UserWarning')
@pytest.mark.parametrize('budget', [1, 3, 12, 50])
@pytest.mark.parametrize(
    'config',
    [
        'mmdet::yolox/yolox_s_8xb8-300e_coco.py',
        'mmpretrain::swin_transformer/swin-tiny_16xb64_in1k.py',
        'mmpretrain::regnet/regnetx-400mf_8xb128_in1k.py',
        'mmpretrain::mobilenet_v2/mobilenet-v2_8xb32_in1k.py',
    ],
)
def test_schedules_of_any_budget_follow_those_of_the_config(config, budget):
    pytest.importorskip(config.partition('::')[0])
    cfg = read_config(config)
    original = learning_rates(cfg)
    set_budget(cfg, budget)
    rates = learning_rates(cfg)
    for epoch, rate in enumerate(rates[1::2]):
        # The values of the same part of the original training.
        first, last = (
            round(x * (len(original) - 1) / budget) for x in (epoch, epoch + 1)
        )
        part = original[first : last + 1]
        assert min(part) - 0.05 <= rate <= max(part) + 0.05


@pytest.mark.parametrize(
    'model, k',
    [
        (distiller(), 2),
        (distiller(flow=dict(inference_steps=None)), 4),
        (classification(flow=dict(inference_steps=None)), 8),
        (
            distiller(
                taps=[
                    dict(tap='neck', flow=dict(inference_steps=3)),
                    dict(
                        tap='backbone',
                        levels=(3,),
                        flow=dict(inference_steps=5),
                    ),
                ]
            ),
            3,
        ),
    ],
    ids=['set', 'default of maps', 'default of logits', 'taps'],
)
def test_all_taps_of_own_configs_have_the_number_of_steps_in_the_table(
    model, k, tmp_path
):
    if model['flow']['inference_steps'] is None:
        del model['flow']['inference_steps']
    scope = 'mmdet'
    if 'Classification' in model['type']:
        pytest.importorskip('mmpretrain')
        scope = 'mmpretrain'
    own = tmp_path / 'own.py'
    Config(dict(model=model, default_scope=scope)).dump(own)
    (method,) = compose_methods([str(own)], '', None, tmp_path, [0])
    assert method.inference_steps == [k]
    for options, steps in ({}, k), ({'model.flow.inference_steps': 6}, 6):
        cfg = read_config(method.config, options)
        with DefaultScope.overwrite_default_scope(scope):
            flows = MODELS.build(cfg.model).flows
        assert {x.inference_steps for x in flows.values()} == {steps}


@pytest.mark.slow
def test_another_data_set_does_not_replace_the_annotations_of_runs(
    shapes, tmp_path
):
    student = write_network(tmp_path / 'student.py', 16, 8)

    def compose(data_root):
        compose_methods(
            ['online'],
            str(student),
            None,
            tmp_path / 'configs',
            [0],
            data_root=str(data_root),
            annotations=tmp_path,
        )
        return {x: x.read_text() for x in tmp_path.glob('annotations_*.json')}

    annotations = compose(to_yolo(shapes, tmp_path / 'data'))
    assert len(annotations) == 2
    checkpoint = tmp_path / 'ofm-kt/0/last_checkpoint'
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    with pytest.raises(ConfigError, match='other settings'):
        compose(to_yolo(shapes, tmp_path / 'other', limit=4))
    assert {x: x.read_text() for x in annotations} == annotations


def test_results_of_other_options_are_not_taken(tmp_path):
    method = Method('FM-KT', '', [0], options={'model.variant': 'theta'})
    comparison = comparison_of(tmp_path, method)
    result = tmp_path / 'fm-kt/0/result.json'
    result.parent.mkdir(parents=True)
    result.write_text(json.dumps(dict(metrics={'-': {}}, options={})))
    with pytest.raises(ConfigError, match='other options'):
        Executor(comparison, tmp_path).execute(comparison.runs())


def test_a_run_without_detections_counts_as_zero(tmp_path):
    """CocoMetric returns no metrics then."""
    comparison = comparison_of(
        tmp_path,
        Method('baseline', '', [0, 1], is_baseline=True),
        Method('theta', '', [0, 1]),
    )
    metrics = dict(baseline=({}, {MAP: 0.2}), theta=({MAP: 0.1}, {MAP: 0.4}))
    runs = [
        dict(method=name, seed=seed, metrics={'-': x})
        for name, by_seed in metrics.items()
        for seed, x in enumerate(by_seed)
    ]
    baseline, theta = summarize(comparison, dict(runs=runs, cost={})).rows
    assert baseline.values == {0: 0.0, 1: 0.2}
    assert differences(theta, baseline) == pytest.approx([0.1, 0.2])


def test_the_teacher_is_not_validated_without_validation_data(tmp_path):
    hooks = [
        dict(type=f'mmfmkt.{x}Hook') for x in ('TeacherCheck', 'NanGuard')
    ]
    own = tmp_path / 'own.py'
    Config(dict(model=distiller(), custom_hooks=hooks)).dump(own)
    assert (
        run_config(Method('own', str(own), [0]), 0).custom_hooks == hooks[1:]
    )


def test_checks_load_checkpoints_as_the_training_does(tmp_path):
    teacher = distiller()['teacher']['config']
    checkpoint = tmp_path / 'teacher.pth'
    state = build_network(teacher, 'mmdet').state_dict()
    # The class of this object is not one of MMEngine's checkpoints.
    torch.save(dict(state_dict=state, own=SimpleNamespace()), checkpoint)
    model = distiller(teacher=teacher)
    model['teacher']['checkpoint'] = str(checkpoint)
    for is_safe, error in (True, 'could run code'), (False, "'optim_wrapper'"):
        own = tmp_path / f'{is_safe}.py'
        robustness = dict(safe_checkpoints=is_safe)
        cfg = Config(
            dict(model=model, robustness=robustness, default_scope='mmdet')
        )
        cfg.dump(own)
        with pytest.raises(ConfigError, match=error):
            check_methods([Method('own', str(own), [0])])


def test_a_comparison_without_local_logs_gets_no_page(tmp_path, capsys):
    """Such as runs that log to TensorBoard only."""
    comparison = comparison_of(
        tmp_path, Method('baseline', '', [0], is_baseline=True)
    )
    runs = [dict(method='baseline', seed=0, metrics={'-': {MAP: 0.2}})]
    summary = summarize(comparison, dict(runs=runs, cost={}))
    write_page(Executor(comparison, tmp_path), summary)
    assert 'HTML report is not written' in capsys.readouterr().out


def test_results_of_deleted_runs_are_not_mixed_with_new_ones(tmp_path):
    comparison = comparison_of(tmp_path, Method('FM-KT', '', [0]))
    runs = [
        dict(method='FM-KT', seed=seed, metrics={'-': {MAP: 0.2}}, ended='')
        for seed in (0, 1)
    ]
    cost = {'FM-KT': dict(latency={})}
    comparison.results.write_text(json.dumps(dict(runs=runs, cost=cost)))
    result = tmp_path / 'fm-kt/0/result.json'
    result.parent.mkdir(parents=True)
    result.write_text(json.dumps(runs[0]))
    results = Executor(comparison, tmp_path).collect()
    assert results['runs'] == runs[:1] and results['cost'] == cost
    result.unlink()
    results = Executor(comparison, tmp_path).collect()
    assert results['runs'] == [] and results['cost'] == {}


def test_a_failed_evaluation_loses_no_metrics_of_other_steps(tmp_path):
    method = Method('FM-KT', '', [0], [1, 4])
    comparison = comparison_of(tmp_path, method)
    executor, (run,) = Executor(comparison, tmp_path), comparison.runs()
    state = executor._state_at_start(run)
    state.update(checkpoint='a.pth', metrics={'1': {MAP: 0.2}})
    (tmp_path / run.folder).mkdir(parents=True)
    write_result(tmp_path / run.folder, state)
    # Before its end, a run is not in the results.
    assert executor.collect()['runs'] == []
    (tmp_path / run.folder / 'log.txt').touch()
    executor._record(run, 1)
    (result,) = executor.collect()['runs']
    assert result['error'] == 'exit code 1' and 'metrics' not in result
    assert executor._state_at_start(run) == state
    method.checkpoint = 'b.pth'
    state.update(checkpoint='b.pth', metrics={})
    assert executor._state_at_start(run) == state


@pytest.fixture
def command(shapes, tmp_path):
    student = write_network(tmp_path / 'student.py', 16, 8)
    teacher = write_network(tmp_path / 'teacher.py', 24, 16, start_level=0)
    return [
        TOOL,
        student,
        *('--teacher', teacher, '--data-root', shapes, '--steps', 1),
        *('--seeds', 0, '--work-dir', tmp_path / 'run'),
    ]


@pytest.mark.slow
def test_a_comparison_is_interrupted_and_continued(command, tmp_path):
    command += ['--methods', 'baseline', 'fmkt', '--budget', 2, '--jobs', 2]
    folder = tmp_path / 'run'
    log = folder / 'fm-kt' / '0' / 'log.txt'
    process = subprocess.Popen(
        [TOOL_SERVER.executable(), *map(str, command)],
        cwd=ROOT,
        env={**os.environ, **CPU, 'PYTHONPATH': str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: log.is_file() and 'Epoch(train)' in log.read_text())
    finally:
        process.send_signal(signal.SIGTERM)
    assert 'the same command resumes' in process.communicate()[1]
    assert process.returncode == 130
    result = json.loads((log.parent / 'result.json').read_text())
    assert result['metrics'] == {} and 'error' not in result

    output = run(*command)
    assert 'resumed epoch: ' in log.read_text()
    epochs = [
        x.partition('lr:')[0].partition('Epoch')[2]
        for x in log.read_text().splitlines()
        if 'Epoch(train)' in x
    ]
    assert epochs and len(epochs) == len(set(epochs))
    results = json.loads((folder / 'results.json').read_text())
    runs = {(x['method'], x['seed']): x for x in results['runs']}
    assert set(runs) == {('baseline', 0), ('FM-KT', 0)}
    assert runs['FM-KT', 0]['metrics']['1'].get(MAP) is not None
    assert 'FM-KT, K = 1: no difference from the baseline shown by' in output
    assert results['cost']['baseline']['latency']['-']['ratio'] == 1
    assert results['cost']['FM-KT']['latency']['1']['ratio'] > 0.5
    page = (folder / 'report.html').read_text()
    assert 'Accuracy against deployed latency' in page
    assert 'no difference from the baseline shown by 1 seed' in page
    assert output.count('| FM-KT, K = 1 |') == 1
    text = (folder / 'comparison.md').read_text()
    assert text.strip() in output and 'teacher had random weights' in text

    # Nothing is left, and other settings do not mix with these runs.
    assert '2 runs, 0 of them to be run' in run(*command, '--dry-run')
    command[command.index('--budget') + 1] = 3
    assert 'written with other settings' in run(*command, fails=True)


@pytest.mark.slow
def test_a_wrong_path_of_one_method_is_an_error_before_any_training(
    command, tmp_path
):
    own = tmp_path / 'own.py'
    own.write_text(
        "_base_ = './run/configs/fm-kt.py'\n"
        "model = dict(teacher=dict(checkpoint='nowhere.pth'))\n"
    )
    output = run(*command, '--methods', 'baseline', 'fmkt', '--dry-run')
    assert 'FM-KT, seed 0: to be run' in output
    command += ['--methods', 'baseline', 'fmkt', own]
    output = run(*command, fails=True).strip().splitlines()
    assert output[-1].startswith('error: own: model.teacher')
    assert 'nowhere.pth' in output[-1]
    assert [x.name for x in (tmp_path / 'run').iterdir()] == ['configs']

    # Nothing was trained, so the settings may be corrected.
    own.write_text(own.read_text().replace("'nowhere.pth'", 'None'))
    output = run(*command, '--budget', 3, '--dry-run')
    assert 'own, seed 0: to be run' in output

    # The test data are needed, and results of methods are found by name.
    own.write_text(f'{own.read_text()}test_dataloader = None\n')
    output = run(*command, fails=True)
    assert 'error: own: The config has no test_dataloader' in output
    other = own.rename(tmp_path / 'baseline.py')
    output = run(*command[:-1], other, fails=True)
    assert "two methods have the name 'baseline'" in output
