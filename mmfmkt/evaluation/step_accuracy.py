"""Accuracy of a classifier with a flow, by number of sampling steps."""

from typing import Dict, List, Sequence

import torch
from mmengine.evaluator import BaseMetric

from mmfmkt.registry import METRICS

STEP_PREFIX = 'pred_score_k'


@METRICS.register_module()
class StepAccuracy(BaseMetric):
    """Top-k accuracy at each K of ``model.report_steps``.

    - ``accuracy/top1``: accuracy of the deployed model, as in MMPretrain.
    - ``accuracy/top1_k4``: accuracy at K = 4 sampling steps.
    - ``accuracy/top1_ensemble``: accuracy of the mean score over all K.

    Students without a flow have only ``accuracy/top1``.

    Args:
        topk (Sequence[int]): Values of k.
        kwargs: Other arguments of BaseMetric.
    """

    default_prefix = 'accuracy'

    def __init__(self, topk: Sequence[int] = (1,), **kwargs) -> None:
        super().__init__(**kwargs)
        self.topk = (topk,) if isinstance(topk, int) else tuple(topk)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Store the rank of each sample's true class, for each score.

        Args:
            data_batch (dict): Unused.
            data_samples (Sequence[dict]): Samples with ``gt_label``,
                ``pred_score`` and, for each K, ``pred_score_k<K>``.
        """
        ranks, suffixes = [], []
        for sample in data_samples:
            scores = {'': sample['pred_score']}
            # 'pred_score_k4' becomes '_k4'.
            scores_by_k = {
                f'_{name.removeprefix(STEP_PREFIX[:-1])}': score
                for name, score in sample.items()
                if name.startswith(STEP_PREFIX)
            }
            if scores_by_k:
                scores.update(scores_by_k)
                mean = sum(scores_by_k.values()) / len(scores_by_k)
                scores['_ensemble'] = mean
            label = sample['gt_label']
            suffixes.append(list(scores))
            ranks += [rank_of(score, label) for score in scores.values()]
        # Synchronize the device once per batch.
        ranks = iter(torch.stack(ranks).tolist())
        self.results += [dict(zip(keys, ranks)) for keys in suffixes]

    def compute_metrics(
        self, results: List[Dict[str, int]]
    ) -> Dict[str, float]:
        """Return the top-k accuracies in percent.

        Args:
            results (list[dict]): Ranks of each sample, by suffix of the
                metric, such as ``'_k4'``.
        """
        return {
            f'top{k}{suffix}': 100.0
            * sum(ranks[suffix] < k for ranks in results)
            / len(results)
            for suffix in results[0]
            for k in self.topk
        }


def rank_of(score: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Return the position of the true class in the order of the scores.

    Of several true classes, the one with the highest score counts. Classes of
    equal scores are in the order of their indices.

    If a score is NaN, the rank is the number of classes, which counts as
    wrong for every k.

    Args:
        score (Tensor): Scores, ``(num_classes, )``.
        label (Tensor): True classes, ``(n, )``.

    Returns:
        Tensor: ``()``, int64, on the device of ``score``.
    """
    label = label.to(score.device)
    label = label[score[label].argmax()]
    ties = torch.arange(len(score), device=score.device) < label
    rank = torch.where(ties, score >= score[label], score > score[label]).sum()
    return torch.where(score.isnan().any(), len(score), rank)
