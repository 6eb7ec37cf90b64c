"""Accuracy by number of steps, against a count and MMPretrain's metric."""

import pytest
import torch

from mmfmkt.evaluation import StepAccuracy
from mmfmkt.registry import METRICS


def samples(count=50, classes=5, steps=()):
    generator = torch.Generator().manual_seed(0)

    def scores():
        return torch.randn(classes, generator=generator).softmax(0)

    return [
        dict(
            gt_label=torch.randint(classes, (1,), generator=generator),
            pred_score=scores(),
            **{f'pred_score_k{k}': scores() for k in steps},
        )
        for _ in range(count)
    ]


def evaluate(found, **kwargs):
    metric = StepAccuracy(**kwargs)
    metric.process({}, found[:20])
    metric.process({}, found[20:])
    return metric.evaluate(len(found))


def test_accuracy_is_computed_for_each_step_count_and_their_mean():
    found = samples(steps=(1, 4))
    metrics = evaluate(found, topk=(1, 2))
    names = {'': 'pred_score', '_k1': 'pred_score_k1', '_k4': 'pred_score_k4'}
    for suffix, key in names.items():
        for k in (1, 2):
            hits = sum(
                int(x['gt_label']) in x[key].topk(k).indices.tolist()
                for x in found
            )
            assert metrics[f'accuracy/top{k}{suffix}'] == 100 * hits / 50
    hits = sum(
        int(x['gt_label'])
        == (x['pred_score_k1'] + x['pred_score_k4']).argmax()
        for x in found
    )
    assert metrics['accuracy/top1_ensemble'] == 100 * hits / 50


def test_without_steps_it_is_mmpretrains_accuracy():
    theirs = pytest.importorskip('mmpretrain.evaluation').Accuracy(topk=(1, 3))
    found = samples()
    theirs.process({}, found)
    assert evaluate(found, topk=(1, 3)) == pytest.approx(theirs.evaluate(50))


def test_nan_logits_count_as_wrong_predictions():
    found = samples(steps=(1, 4))
    for sample in found[:10]:
        sample['pred_score'] = torch.full((5,), torch.nan)
    assert evaluate(found, topk=(5,))['accuracy/top5'] == 80


def test_equal_scores_are_in_the_order_of_the_classes():
    """A classifier that returns one score for all classes knows nothing."""
    found = samples(steps=(1,))
    for sample in found:
        sample['pred_score_k1'] = torch.full((5,), 0.2)
    metrics = evaluate(found, topk=(1, 3))
    for k in (1, 3):
        hits = sum(int(x['gt_label']) < k for x in found)
        assert metrics[f'accuracy/top{k}_k1'] == 100 * hits / 50


def test_step_accuracy_is_registered():
    assert METRICS.get('StepAccuracy') is StepAccuracy
