"""Benchmark of cost: measures, statistics and reports."""

import json
import runpy
import sys

import pytest
import torch
from helpers import ROOT
from mmengine.config import Config

from mmfmkt.models import flows
from mmfmkt.models.losses import PKDLoss

pytest.importorskip('mmdet')
FOLDER = ROOT / 'tools' / 'dev' / 'benchmark'
ENCODERS = [
    x for x in flows.__all__ if x.endswith('Encoder') and x != 'MetaEncoder'
]


@pytest.fixture(scope='module')
def tools():
    sys.path.insert(0, str(FOLDER))
    try:
        import interleaved_timing
        import reference_implementation

        yield reference_implementation, interleaved_timing
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture
def benchmark(monkeypatch, capsys):
    """Run the command in this process, which has imported the libraries."""

    def run(*options):
        monkeypatch.setattr(sys, 'argv', ['run.py', *map(str, options)])
        monkeypatch.setattr(sys, 'path', [str(FOLDER), *sys.path])
        monkeypatch.chdir(ROOT)
        code = 0
        try:
            runpy.run_path(str(FOLDER / 'run.py'), run_name='__main__')
        except SystemExit as error:
            code = int(error.code or 0)
        return capsys.readouterr().out, code

    return run


@pytest.mark.parametrize('name', ENCODERS)
def test_the_reference_implementation_computes_the_same_losses(name, tools):
    reference, _ = tools
    torch.manual_seed(0)
    source, target = torch.randn(2, 2, 8, 6, 5, dtype=torch.float64).unbind()
    source.requires_grad_()
    encoder = getattr(flows, name)(8, zero_init=False)
    transfer = flows.FMKT(
        flows.VelocityField(encoder, flows.RectifiedFlow()),
        PKDLoss(),
    ).double()
    # Time embeddings are of single precision in both.
    plain = reference.ReferenceEncoder(encoder)
    losses, output = transfer(source, target, 3)
    loss, mean = reference.train(plain, source, target, 3)
    torch.testing.assert_close(losses['loss_flow'], loss, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(output, mean, rtol=1e-6, atol=1e-6)
    grads = [
        torch.autograd.grad(x + y.square().mean(), source)[0]
        for x, y in ((losses['loss_flow'], output), (loss, mean))
    ]
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-6)


def test_ratios_are_medians_over_rounds_with_their_quartiles(tools):
    _, timing = tools
    times = dict(a=[2.0, 4.0, 6.0], b=[1.0, 1.0, 1.0], c=[1.0, 1.0, 1.0])
    row = timing.timing_row('a', times, ['b', 'c'])
    assert (row['ratio'], row['low'], row['high']) == (2.0, 1.5, 2.5)
    assert row['value'] == 4000


def test_activation_memory_counts_storages_once_without_parameters(tools):
    _, timing = tools
    x = torch.randn(10, 10, requires_grad=True)
    weight = torch.randn(10, 10, requires_grad=True)

    def forward():
        y = x.exp()  # stores y
        return (y @ weight) * y  # stores y again, and the product

    assert timing.activation_bytes(forward, [x, weight]) == 2 * 400


@pytest.mark.parametrize('amp', [False, True])
def test_encoder_passes_of_the_lower_bound_have_the_precision_of_the_step(
    amp, tools
):
    from networks import encoder_passes

    class Distiller(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.flows = torch.nn.ModuleDict({'neck': flows.ConvEncoder(8)})

        def forward(self, inputs, data_samples, mode):
            self.flows['neck'](inputs, 1.0)

    distiller = Distiller()
    passes = encoder_passes(distiller, (torch.randn(2, 8, 5, 5), []), 2, amp)
    dtypes = []
    distiller.flows['neck'].register_forward_hook(
        lambda module, inputs, output: dtypes.append(output.dtype)
    )
    passes()
    assert dtypes == 2 * [torch.bfloat16 if amp else torch.float32]


TINY = (
    '--batch-size',
    2,
    '--image-size',
    64,
    64,
    '--repeats',
    1,
    '--encoders',
)


def test_detectors_with_random_weights_detect_nothing(tools):
    """Suppressing boxes everywhere would take most of the latency."""
    import networks

    config = Config.fromfile(
        ROOT / 'configs/deeppcb/fmkt_retinanet_r18w16_deeppcb.py'
    )
    device = torch.device('cpu')
    model = networks.build(config, 'fmkt', None, device).eval()
    images, samples = networks.noise(model, 1, (96, 96))
    with torch.no_grad():
        (sample,) = model.student(images, samples, mode='predict')
    assert len(sample.pred_instances) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    'what, options, names',
    [
        (
            'training',
            ('--variants', 'fmkt', '--with-cp'),
            {
                'student',
                'teacher',
                'without flow',
                'lower bound ConvEncoder N=4',
                'fmkt ConvEncoder N=4',
                'fmkt ConvEncoder N=4 with_cp',
            },
        ),
        (
            'inference',
            ('--variants', 'fmkt', '--inference-steps', 1, 2),
            {'student', 'fmkt ConvEncoder K=1', 'fmkt ConvEncoder K=2'},
        ),
        (
            'memory',
            ('--variants', 'theta', '--num-steps', 1, 2),
            {
                'without flow',
                'theta ConvEncoder N=1',
                'theta ConvEncoder N=2',
            },
        ),
    ],
)
def test_each_measure_prints_a_table_and_writes_json(
    what, options, names, tmp_path, benchmark
):
    config = 'configs/bccd/fmkt_retinanet_r18_bccd.py'
    out = tmp_path / 'out.json'
    command = (what, '--config', config, *TINY, 'ConvEncoder', *options)
    text, code = benchmark(
        *command,
        '--out',
        out,
        '--cfg-options',
        'model.teacher.inherit=None',
    )
    assert code == 0
    report = json.loads(out.read_text())
    assert {row['name'] for row in report['rows']} == names
    assert all(row['ratio'] > 0 for row in report['rows'])
    assert report['torch'] == torch.__version__ and what in report['command']
    assert 'ConvEncoder' in text and 'Init: ' not in text


@pytest.mark.slow
def test_classifiers_are_measured_by_the_same_commands(tmp_path, benchmark):
    pytest.importorskip('mmpretrain')
    config = 'configs/mmpretrain/cifar100/fmkt_resnet56_resnet20.py'
    for what in ('training', 'memory'):
        out = tmp_path / f'{what}.json'
        benchmark(
            *(what, '--config', config, '--image-size', 32, 32),
            *('--batch-size', 4, '--repeats', 1, '--out', out),
            *('--encoders', 'ConvEncoder', '--num-steps', 2),
        )
        names = {x['name'] for x in json.loads(out.read_text())['rows']}
        assert {'without flow', 'theta ConvEncoder N=2'} <= names


@pytest.mark.slow
def test_the_flow_is_timed_against_its_encoder_and_the_reference(
    tmp_path, benchmark
):
    out = tmp_path / 'flow.json'
    command = ('flow', '--map-size', 8, 8, 8, '--num-steps', 2)
    command += ('--encoders', 'BottleneckEncoder', '--repeats', 1)
    benchmark(*command, '--out', out)
    report = json.loads(out.read_text())
    assert [row['name'].partition(' / ')[2] for row in report['rows']] == [
        'encoder',
        'reference',
        'reference',
    ]
