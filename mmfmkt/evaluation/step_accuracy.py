"""Accuracy of a classifier with a flow, by number of steps."""

from typing import Dict, List, Sequence

import torch
from mmengine.evaluator import BaseMetric

from mmfmkt.registry import METRICS

STEPS = 'pred_score_k'


@METRICS.register_module()
class StepAccuracy(BaseMetric):
    """Top-k accuracy, also for each K of ``model.report_steps``.

    Named ``accuracy/top1``, as MMPretrain's metric has it, of what is
    deployed; ``accuracy/top1_k4`` at 4 steps, and
    ``accuracy/top1_ensemble`` of the mean over all reported K. Students
    without a flow have the first alone.

    Args:
        topk (Sequence[int]): The numbers of guesses.
        kwargs: Further arguments of BaseMetric.
    """

    default_prefix = 'accuracy'

    def __init__(self, topk: Sequence[int] = (1,), **kwargs) -> None:
        super().__init__(**kwargs)
        self.topk = (topk,) if isinstance(topk, int) else tuple(topk)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Gather the ranks of the true classes.

        Args:
            data_batch (dict): Unused.
            data_samples (Sequence[dict]): With ``gt_label``, ``pred_score``
                and, by number of steps, ``pred_score_k4`` and so on.
        """
        ranks, names = [], []
        for sample in data_samples:
            scores = {'': sample['pred_score']}
            steps = {
                f'_{name.removeprefix(STEPS[:-1])}': score
                for name, score in sample.items()
                if name.startswith(STEPS)
            }
            if steps:
                scores.update(steps)
                scores['_ensemble'] = sum(steps.values()) / len(steps)
            label = sample['gt_label']
            names.append(list(scores))
            ranks += [rank_of(score, label) for score in scores.values()]
        # One wait for the whole batch.
        ranks = iter(torch.stack(ranks).tolist())
        self.results += [dict(zip(own, ranks)) for own in names]

    def compute_metrics(
        self, results: List[Dict[str, int]]
    ) -> Dict[str, float]:
        """Return the percentages of samples within the guesses.

        Args:
            results (list[dict]): Ranks of all samples.
        """
        return {
            f'top{k}{name}': 100.0
            * sum(ranks[name] < k for ranks in results)
            / len(results)
            for name in results[0]
            for k in self.topk
        }


def rank_of(score: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """How many classes have a higher score than the best of the true ones.

    All of them where a score is NaN: what diverged guesses nothing.

    Args:
        score (Tensor): ``(classes, )``.
        label (Tensor): True classes, ``(n, )``.

    Returns:
        Tensor: ``()``, int64, where ``score`` is.
    """
    label = label.to(score.device)
    rank = (score > score[label].max()).sum()
    return torch.where(score.isnan().any(), len(score), rank)
