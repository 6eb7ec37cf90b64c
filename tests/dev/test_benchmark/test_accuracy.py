"""Benchmark tables: runs, statistics, results pages and metafiles."""

import json
import re
import statistics
import sys

import pytest
import yaml
from helpers import ROOT, run
from tiny import retinanet, write_config

pytest.importorskip('mmdet')

from mmengine.config import Config  # noqa: E402

from mmfmkt.apis.compare import Method, check_methods  # noqa: E402
from mmfmkt.apis.compare.plan import run_config  # noqa: E402
from mmfmkt.utils import ConfigError  # noqa: E402

FOLDER = ROOT / 'tools' / 'dev' / 'benchmark'
TOOL = FOLDER / 'accuracy.py'
TABLES = sorted(x.stem for x in (FOLDER / 'tables').glob('*.yml'))


@pytest.fixture(scope='module')
def protocol():
    sys.path.insert(0, str(FOLDER))
    try:
        from protocol import page, plan, zoo

        yield plan, page, zoo
    finally:
        sys.path.remove(str(FOLDER))


def write_table(folder, **keys):
    """Write a table of invented methods, and a page for it."""
    (folder / 'page.md').write_text(
        'before\n\n<!-- small: table -->\n<!-- small: end of table -->\nafter'
    )
    table = dict(
        title='A small table',
        task='Object Detection',
        dataset='Shapes',
        metric='coco/bbox_mAP',
        label='box mAP',
        page=str(folder / 'page.md'),
        results=str(folder / 'results.json'),
        image_size=[64, 64],
        seeds=[0, 1],
        teacher=dict(config='teacher.py', seed=0),
        methods=dict(
            plain=dict(config='plain.py', is_baseline=True),
            PKD=dict(
                config='pkd.py', is_loss_without_flow=True, seeds=[0, 1, 2]
            ),
            CWD=dict(config='cwd.py', is_loss_without_flow=True),
            flow=dict(config='flow.py', inference_steps=[1, 4]),
        ),
    )
    table.update(keys)
    path = folder / 'small.yml'
    path.write_text(yaml.safe_dump(table, sort_keys=False))
    return path


def results_of(**runs):
    """Return results from lists of values by seed, with a flow by K."""
    found = []
    for method, values in runs.items():
        for seed, value in enumerate(values):
            if isinstance(value, str):
                found.append(dict(method=method, seed=seed, error=value))
                continue
            by_k = value if isinstance(value, dict) else {'-': value}
            metrics = {k: {'coco/bbox_mAP': x} for k, x in by_k.items()}
            found.append(dict(method=method, seed=seed, metrics=metrics))
    cost = dict(flow=dict(latency={'1': dict(ratio=1.011)}))
    return dict(runs=found, cost=cost)


def cells(markdown, name):
    line = next(
        x for x in markdown.splitlines() if x.startswith(f'| {name} |')
    )
    return [x.strip() for x in line.strip('|').split('|')]


def test_means_errors_and_paired_differences(tmp_path, protocol):
    plan, page, _ = protocol
    table = plan.read_table(write_table(tmp_path))
    pkd, flow = [0.46, 0.45, 0.50], [0.48, 0.472]
    results = results_of(
        teacher=[0.5],
        plain=[0.30, 0.40],
        PKD=pkd,
        CWD=[0.44, 'CUDA error'],
        flow=[{'1': x, '4': x + 0.01} for x in flow],
    )
    found = page.markdown(table, results)
    # Differences are paired: only the seeds of both methods count.
    pairs = [a - b for a, b in zip(flow, pkd)]
    error = statistics.stdev(pairs) / 2**0.5
    assert cells(found, 'flow, K = 1') == [
        'flow, K = 1',
        '0.476 ± 0.004',
        f'{sum(pairs) / 2:+.3f} ± {error:.3f}',
        f'{(sum(flow) / 2 - 0.35) / 0.15:.0%}',
        '1.011',
        '0.480, 0.472',
    ]
    assert cells(found, 'PKD')[2] == ''
    assert cells(found, 'CWD')[1] == '0.440'
    assert cells(found, 'CWD')[5] == '0.440, 1 failed'
    assert 'to PKD, the best distillation loss without a flow' in found
    assert 'Teacher: 0.500' in found


def test_the_summary_has_the_flows_with_the_best_loss_without_a_flow(
    tmp_path, protocol
):
    from protocol import summaries

    plan, _, _ = protocol
    methods = {
        'DIST': dict(config='dist.py', is_loss_without_flow=True),
        'Theta by DIST': dict(config='theta.py'),
        'FM-KT by KD': dict(config='kd.py', inference_steps=[1, 8]),
        'FM-KT by DIST': dict(config='fmkt.py', inference_steps=[1, 8]),
    }
    table = plan.read_table(write_table(tmp_path, methods=methods))
    results = results_of(
        **{
            'DIST': [0.1],
            'Theta by DIST': [0.2],
            'FM-KT by KD': [{'1': 0.3, '8': 0.4}],
            'FM-KT by DIST': [{'1': 0.5, '8': 0.6}],
        }
    )
    table.results.write_text(json.dumps(results))
    (line,) = summaries.summary([table], '').splitlines()[2:]
    assert re.findall(r'0\.\d', line) == ['0.1', '0.2', '0.5', '0.6']


def test_unknown_seeds_are_an_error(tmp_path, protocol):
    plan, _, _ = protocol
    table = plan.read_table(write_table(tmp_path))
    with pytest.raises(ConfigError, match='--seeds'):
        table.select_runs(None, [7])


def test_the_pareto_front_has_the_methods_that_no_other_dominates(protocol):
    _, page, _ = protocol
    points = dict(a=(1.0, 0.3), b=(1.0, 0.4), c=(1.2, 0.39), d=(1.3, 0.5))
    assert page.pareto_front(points) == ['b', 'd']


def test_a_page_without_marks_is_an_error_and_stays_unchanged(
    tmp_path, protocol
):
    plan, page, _ = protocol
    table = plan.read_table(write_table(tmp_path))
    (tmp_path / 'page.md').write_text('no marks here')
    (tmp_path / 'results.json').write_text(json.dumps(results_of(PKD=[0.4])))
    with pytest.raises(ConfigError, match='small: table'):
        page.render(table)
    assert (tmp_path / 'page.md').read_text() == 'no marks here'


def test_an_unknown_key_of_a_table_is_an_error(tmp_path, protocol):
    plan, _, _ = protocol
    with pytest.raises(TypeError, match='metod'):
        plan.read_table(write_table(tmp_path, metod={}))


@pytest.mark.parametrize('name', TABLES)
def test_the_table_of_a_page_is_made_from_its_results(name, protocol):
    plan, page, _ = protocol
    table = plan.read_table(FOLDER / 'tables' / f'{name}.yml')
    if not table.results.exists():
        pytest.skip('no run has ended yet')
    results = json.loads(table.results.read_text())
    text = table.page.read_text()
    assert page.replace_table(text, table, results) == text
    for method in (table.teacher, *table.methods):
        assert (ROOT / method.config).is_file()
        if method.name in results['configs']:
            known = results['configs'][method.name]
            assert known['config'] == method.config
    begin = f'<!-- {name}: table -->'
    front, rest = text.split(begin)
    forged = front + begin + re.sub(r'\| (\d+\.)', r'| 1\1', rest, count=1)
    assert page.replace_table(forged, table, results) == text != forged


def test_metafiles_and_pages_are_made_from_results_and_configs(protocol):
    plan, _, zoo = protocol
    tables = plan.all_tables()
    files = zoo.metafiles(tables)
    assert {x: (ROOT / x).read_text() for x in files} == files
    listed = {str(x.relative_to(ROOT)) for x in ROOT.glob('configs/**/*.yml')}
    assert {*listed, zoo.INDEX.name} == set(files)
    shown = zoo.pages(tables)
    assert {x: (ROOT / x).read_text() for x in shown} == shown
    assert {'README.md', 'docs/zoo.md', 'docs/results.md'} <= set(shown)
    listed = [
        entry
        for text in files.values()
        for entry in yaml.safe_load(text).get('Models', [])
    ]
    known = {
        x.method.config
        for table in tables
        for x in zoo.rows_with_values(table)
    }
    assert known == {x['Config'] for x in listed if 'Results' in x} != set()
    for entry in yaml.safe_load(zoo.PUBLISHED.read_text()):
        assert (ROOT / entry['config']).is_file() and entry['source']


@pytest.mark.slow
def test_runs_of_a_table_are_executed_once_and_its_page_is_written(
    tmp_path, shapes
):
    write_config(tmp_path / 'flow.py', shapes, 'fmkt', epochs=1)
    cfg = Config.fromfile(tmp_path / 'flow.py')
    cfg.default_hooks = dict(checkpoint=dict(type='CheckpointHook'))
    cfg.dump(tmp_path / 'flow.py')
    for name, model in (
        ('plain', retinanet()),
        ('teacher', retinanet(24, 16)),
    ):
        cfg.model = model
        cfg.dump(tmp_path / f'{name}.py')
    config = {x: str(tmp_path / f'{x}.py') for x in ('plain', 'flow')}
    table = write_table(
        tmp_path,
        seeds=[0],
        teacher=dict(config=str(tmp_path / 'teacher.py'), seed=0),
        methods=dict(
            plain=dict(config=config['plain'], is_baseline=True),
            broken=dict(
                config=config['flow'],
                options={'model.flow.loss_weight': 1e39},
            ),
            flow=dict(
                config=config['flow'],
                inference_steps=[1, 2],
                options={'model.flow.loss_weight': 2.0},
            ),
        ),
        plot=str(tmp_path / 'plot.png'),
    )
    out = ('--out', tmp_path / 'runs')
    # A config that cannot be built is an error before any training.
    text = table.read_text()
    table.write_text(
        text.replace('1.0e+39', '2.0').replace('flow.py', 'no.py')
    )
    log = run(TOOL, table, *out, fails=True)
    assert 'error: broken: the config' in log and 'no.py' in log
    assert not (tmp_path / 'runs').exists()
    table.write_text(text)
    log = run(TOOL, table, *out, '--jobs', 2)
    results = json.loads((tmp_path / 'results.json').read_text())
    found = {x['method']: x for x in results['runs']}
    assert set(found['flow']['metrics']) == {'1', '2'}
    error = found['broken']['error']
    assert 'NaN or Inf in iteration 1' in error and error in log
    assert found['flow']['seconds'] > 0 and found['flow']['peak_gb'] > 0.1
    assert found['teacher']['metrics']['-']['coco/bbox_mAP'] >= 0
    trained = Config.fromfile(tmp_path / 'runs/flow/0/config.py')
    assert trained.model.flow.loss_weight == 2.0
    assert trained.val_evaluator is None
    assert (tmp_path / 'runs/teacher_cache.sqlite').is_file()
    page = (tmp_path / 'page.md').read_text()
    assert page.startswith('before') and page.endswith('after')
    assert '| flow, K = 2 |' in page and '0 failed' in page
    # Finished runs are not repeated.
    ended = [x['ended'] for x in results['runs']]
    run(TOOL, table, *out)
    again = json.loads((tmp_path / 'results.json').read_text())['runs']
    assert [x['ended'] for x in again] == ended
    run(TOOL, table, '--cost')
    cost = json.loads((tmp_path / 'results.json').read_text())['cost']
    assert set(cost['flow']['latency']) == {'1', '2'}
    assert cost['flow']['parameters'] > cost['plain']['parameters']
    assert cost['flow']['activations'] > cost['plain']['activations']
    assert (tmp_path / 'plot.png').stat().st_size > 1000


def test_a_table_can_turn_off_the_cache_of_the_teacher(tmp_path, protocol):
    plan, *_ = protocol
    table = plan.read_table(FOLDER / 'tables/cifar100.yml')
    assert not table.cache
    for one in table.select_runs(['KD', 'OFM-KT'], [0]):
        teacher = dict(checkpoint='teacher.pth')
        config = run_config(one.method, one.seed, teacher)
        assert 'cache' not in (config.model.teacher or {})
        teacher['cache'] = str(tmp_path / 'cache.sqlite')
        config = run_config(one.method, one.seed, teacher)
        has_teacher = config.model.teacher is not None
        assert ('cache' in (config.model.teacher or {})) == has_teacher


def test_methods_are_checked_in_the_precision_of_their_training(
    tmp_path, shapes
):
    write_config(tmp_path / 'flow.py', shapes, 'fmkt')
    # Only AmpOptimWrapper has this argument.
    options = {'optim_wrapper.dtype': 'bfloat16'}
    method = Method('flow', str(tmp_path / 'flow.py'), [0], options)
    check_methods([method], amp=True)
    with pytest.raises(ConfigError, match='flow: optim_wrapper.*dtype'):
        check_methods([method])
