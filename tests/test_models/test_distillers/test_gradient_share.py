"""loss_weight='auto' brings the transfer's gradient to a share of the task's,
level by level, at the tapped feature."""

import pytest
import torch
from helpers import run_ranks
from mmengine.config import Config
from mmengine.logging import MessageHub
from resumable_run import InterruptAt, build_runner
from tiny import batch, classification, distiller, image_batch, retinanet

pytest.importorskip('mmdet')

from mmfmkt.apis import export_student  # noqa: E402
from mmfmkt.apis.runner import prepare_cpu_processes  # noqa: E402
from mmfmkt.models.distillers.gradient_share import (  # noqa: E402
    GradientShare,
)
from mmfmkt.registry import MODELS  # noqa: E402
from mmfmkt.utils import ConfigError  # noqa: E402

SHARE = dict(share=0.25, iterations=3)


def build(variant='fmkt', loss_weight=SHARE, **kwargs):
    torch.manual_seed(0)
    flow = dict(loss_weight=loss_weight, num_steps=2)
    return MODELS.build(distiller(variant, flow=flow, **kwargs))


def losses_of(model, seed=0):
    data = model.data_preprocessor(batch(seed=seed), True)
    return model(**data, mode='loss')


def gradients(model, names):
    """Gradients of losses at the levels of the student's neck."""
    levels = []
    handle = model.student.neck.register_forward_hook(
        lambda _module, _args, output: levels.extend(output)
    )
    losses = losses_of(model)
    handle.remove()
    total = sum(
        sum(x) if isinstance(x, list) else x
        for name, x in losses.items()
        if 'loss' in name and names(name)
    )
    return torch.autograd.grad(total, levels[:3], allow_unused=True)


def step(model, scale=1.0):
    total, _ = model.parse_losses(losses_of(model))
    (scale * total).backward()
    model.zero_grad()


@pytest.mark.parametrize('variant', ['fmkt', 'theta', 'direct'])
@pytest.mark.parametrize('scale', [1.0, 1024.0])
def test_gradient_norm_of_each_level_has_the_requested_share(variant, scale):
    model = build(variant)
    for _ in range(4):
        step(model, scale)
    task = gradients(model, lambda name: not name.startswith('neck'))
    transfer = gradients(model, lambda name: name.startswith('neck'))
    for task_grad, transfer_grad in zip(task, transfer):
        share = transfer_grad.norm() / task_grad.norm()
        torch.testing.assert_close(
            share, torch.tensor(0.25), rtol=1e-3, atol=0
        )


def test_the_weight_is_fixed_afterwards_and_survives_a_checkpoint():
    model = build()
    for _ in range(4):
        step(model)
    weights = [
        flow.gradient_share.weight for flow in model.flows.neck.values()
    ]
    assert len({float(x) for x in weights}) == 3
    again = build()
    again.load_state_dict(model.state_dict())
    step(again)
    for flow, weight in zip(again.flows.neck.values(), weights):
        assert not flow.gradient_share.is_measuring
        assert flow.gradient_share.weight == weight


def test_measuring_continues_after_a_checkpoint_as_without():
    model, again = build(), build()
    step(model)
    again.load_state_dict(model.state_dict())
    for _ in range(3):
        step(model)
        step(again)
    for a, b in zip(model.flows.neck.values(), again.flows.neck.values()):
        assert torch.equal(a.gradient_share.weight, b.gradient_share.weight)


def test_weights_follow_the_gradients_while_a_schedule_lowers_the_transfer():
    model = build()
    model.transfer_weight = 0.5
    step(model)
    step(model)
    for flow in model.flows.neck.values():
        assert flow.gradient_share.count == 0
        flow.gradient_share.iterations = 0
    task = gradients(model, lambda name: not name.startswith('neck'))
    transfer = gradients(model, lambda name: name.startswith('neck'))
    for task_grad, transfer_grad in zip(task, transfer):
        share = transfer_grad.norm() / task_grad.norm()
        torch.testing.assert_close(
            share, torch.tensor(0.125), rtol=1e-3, atol=0
        )


@pytest.mark.parametrize('in_sum', (False, True))
def test_the_weight_is_that_of_the_loss_after_its_warm_up(in_sum):
    pytest.importorskip('mmpretrain')
    # The hub of another test may contain an epoch.
    hub, weights = MessageHub.get_instance(f'warm-up {in_sum}'), []
    for warmup_epochs in (0, 4):
        metric = dict(type='DKDLoss', warmup_epochs=warmup_epochs)
        if in_sum:
            metric = dict(type='WeightedSumLoss', losses=[metric])
        torch.manual_seed(0)
        flow = dict(metric=metric, loss_weight=SHARE)
        model = MODELS.build(classification('direct', flow=flow))
        share = model.head_transfer.flow.gradient_share
        for epoch in (0, 3):
            hub.update_info('epoch', epoch)
            for _ in range(4):
                data = model.data_preprocessor(image_batch(), True)
                losses = model(**data, mode='loss')
                model.parse_losses(losses)[0].backward()
            weights.append(share.weight.clone())
            weighted = losses['head.loss_direct'] / share.weight
            if epoch == 0:
                assert share.is_measuring == (warmup_epochs > 0)
                during = weighted
        factor = 0.25 if warmup_epochs else 1.0
        torch.testing.assert_close(during, factor * weighted)
    hub.runtime_info.pop('epoch')
    assert weights[0] > 0
    for weight in weights[1:]:
        torch.testing.assert_close(weight, weights[0])


def test_losses_before_the_first_measurement_have_weight_zero():
    losses = losses_of(build())
    assert not any(x for name, x in losses.items() if name.startswith('neck'))


def test_gradients_that_underflow_in_float16_are_measured():
    share = GradientShare('neck.0', share=0.25, iterations=1)
    feature = torch.randn(4, 8, 8, 8).half().requires_grad_()
    losses = dict(loss_flow=1e-6 * feature.float().square().mean())
    task = 1e-4 * feature.float().mean()
    total = task + share.weigh(feature, losses, 1.0)['loss_flow']
    (2.0**16 * total).backward()  # as a gradient scaler
    share.weigh(feature, losses, 1.0)
    expected = 0.25 * 1e-4 / (2e-6 * feature.float().square().mean().sqrt())
    torch.testing.assert_close(share.weight, expected, rtol=0.01, atol=0)


def test_training_without_labels_needs_a_number():
    with pytest.raises(ConfigError, match='loss_weight.*task_loss=False'):
        build('theta', task_loss=False)


def test_a_student_may_checkpoint_its_activations_reentrantly():
    student = retinanet()
    student.backbone.with_cp = True
    measured = []
    for part in (student, retinanet()):
        model = build(
            student=part, tap='backbone', levels=(1, 2), teacher=None
        )
        for _ in range(4):
            step(model)
        measured.append(
            [
                float(x.gradient_share.weight)
                for x in model.flows.backbone.values()
            ]
        )
    assert measured[0] == pytest.approx(measured[1], rel=1e-4)


def test_a_compiled_transfer_is_measured_too():
    model = build('fmkt', levels=(0,))
    flow = distiller(
        'fmkt',
        levels=(0,),
        flow=dict(
            loss_weight=SHARE, num_steps=2, compile=dict(backend='eager')
        ),
    )
    torch.manual_seed(0)
    compiled = MODELS.build(flow)
    for _ in range(4):
        step(model)
        step(compiled)
    a, b = (x.flows.neck['0'].gradient_share.weight for x in (model, compiled))
    torch.testing.assert_close(a, b, rtol=1e-4, atol=0)


def test_unknown_settings_are_refused():
    with pytest.raises(ConfigError, match='loss_weight.*shares'):
        build(loss_weight=dict(shares=0.5))
    with pytest.raises(ConfigError, match='loss_weight'):
        build(loss_weight='automatic')


def weights_of_rank():
    torch.distributed.init_process_group('gloo')
    model = build()
    for step in range(4):
        # Other images on each rank.
        seed = 10 * torch.distributed.get_rank() + step
        losses = losses_of(model, seed)
        model.parse_losses(losses)[0].backward()
    shares = [x.gradient_share for x in model.flows.neck.values()]
    assert not any(x.is_measuring for x in shares)
    return [float(x.weight) for x in shares]


def test_all_ranks_get_the_weights_of_their_mean_norms():
    first, second = run_ranks(weights_of_rank)
    assert first == second


def test_measuring_on_several_ranks_continues_exactly_after_a_checkpoint(
    tmp_path,
):
    cfg = Config(dict(launcher='pytorch'))

    def train(folder, *hooks, **kwargs):
        folder.mkdir(exist_ok=True)
        runner = build_runner(
            folder,
            *hooks,
            by_epoch=False,
            model=distiller(flow=dict(loss_weight='auto', num_steps=2)),
            launcher='pytorch',
            cfg=cfg,
            **kwargs,
        )
        runner.train()
        neck = runner.model.module.flows.neck
        shares = [x.gradient_share for x in neck.values()]
        assert all(x.is_measuring for x in shares)
        return [float(x.weight) for x in shares]

    def resumed_and_uninterrupted():
        prepare_cpu_processes(cfg)
        weights = train(tmp_path / 'a')
        with pytest.raises(InterruptedError):
            train(tmp_path / 'b', InterruptAt(6))
        path = str(tmp_path / 'b/iter_4.pth')
        return train(tmp_path / 'b', resume=True, load_from=path), weights

    for resumed, weights in run_ranks(resumed_and_uninterrupted):
        assert resumed == weights


def test_gradients_of_classifiers_are_measured_at_the_last_feature():
    pytest.importorskip('mmpretrain')
    torch.manual_seed(0)
    model = MODELS.build(
        classification(flow=dict(loss_weight=SHARE, num_steps=2))
    )
    norms = []
    model.student.backbone.register_forward_hook(
        lambda _module, _args, output: features.append(output[-1])
    )
    for _ in range(4):
        features = []
        data = model.data_preprocessor(image_batch(), True)
        losses = model(**data, mode='loss')
        norms = [
            torch.autograd.grad(
                losses[f'head.loss_{name}'], features[-1], retain_graph=True
            )[0].norm()
            for name in ('flow', 'task')
        ]
        model.parse_losses(losses)[0].backward()
    torch.testing.assert_close(
        norms[0] / norms[1], torch.tensor(0.25), rtol=1e-2, atol=0
    )


def test_the_loss_of_a_classifiers_branch_on_labels_has_no_weight():
    pytest.importorskip('mmpretrain')
    losses = []
    for loss_weight in (1.0, SHARE):
        torch.manual_seed(0)
        flow = dict(loss_weight=loss_weight, num_steps=2)
        model = MODELS.build(classification('theta', flow=flow))
        data = model.data_preprocessor(image_batch(), True)
        losses.append(model(**data, mode='loss'))
    a, b = (x['head.loss_branch'] for x in losses)
    torch.testing.assert_close(a, b)
    assert a > 0 and losses[1]['head.loss_flow'] == 0


@pytest.mark.parametrize('library', ['mmdet', 'mmpretrain'])
def test_exported_students_do_not_have_the_weights(library, tmp_path):
    pytest.importorskip(library)
    make = distiller if library == 'mmdet' else classification
    cfg = make('fmkt', flow=dict(loss_weight='auto'))
    state = MODELS.build(cfg).state_dict()
    assert any('gradient_share' in name for name in state)
    torch.save(dict(state_dict=state), tmp_path / 'epoch_1.pth')
    config = Config(dict(model=cfg, default_scope=library))
    exported = export_student(config, str(tmp_path / 'epoch_1.pth'), tmp_path)
    saved = torch.load(exported.checkpoint, weights_only=False)['state_dict']
    assert any(name.startswith('flows.') for name in saved)
    assert not any('gradient_share' in name for name in saved)
    model = MODELS.build(Config.fromfile(exported.config).model)
    model.load_state_dict(saved, strict=True)


@pytest.mark.parametrize(
    'settings',
    [
        dict(variant='online'),
        dict(flow=dict(compare='velocities', metric=dict(type='MSELoss'))),
    ],
)
def test_losses_without_a_gradient_at_the_start_need_a_number(settings):
    settings['flow'] = dict(settings.get('flow', {}), loss_weight='auto')
    teacher = None if settings.get('variant') == 'online' else retinanet()
    model = MODELS.build(distiller(teacher=teacher, **settings))
    with pytest.raises(ConfigError, match='gradient at the start'):
        model.init_weights()
