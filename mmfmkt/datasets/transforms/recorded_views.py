"""Random augmentation with a limited number of views per image."""

import hashlib
import random
from typing import Any, List, Optional

import numpy as np
import torch
from mmengine.dataset import Compose

from mmfmkt.registry import TRANSFORMS
from mmfmkt.utils.random_stream import get_random_states, set_random_states
from mmfmkt.utils.schema import PositiveInt


@TRANSFORMS.register_module()
class RecordedViews:
    """Limits a random pipeline to a number of augmentations (views) per image.

    Each call draws one of the views. The random numbers of the pipeline
    depend only on seed, image and view, so a cache of teacher outputs
    (``model.teacher.cache``) has hits under random augmentation (as in FKD,
    arXiv 2112.01528).

    Args:
        views (int): Number of augmentations per image.
        transforms (list): Transforms of the pipeline.
        seed (int): Random seed of the augmentations.

    Examples:
        >>> train_pipeline = [
        ...     dict(
        ...         type='mmfmkt.RecordedViews',
        ...         views=8,
        ...         transforms=_base_.train_pipeline,
        ...     )
        ... ]
    """

    def __init__(
        self, views: PositiveInt, transforms: List[Any], seed: int = 0
    ) -> None:
        self.views, self.seed = views, seed
        self.pipeline = Compose(transforms)
        self.transforms = self.pipeline.transforms

    def __call__(self, results: dict) -> Optional[dict]:
        """Run the pipeline on a sample.

        Args:
            results (dict): Sample of a MMEngine dataset, with
                ``sample_idx``.
        """
        view = int(np.random.randint(self.views))
        view_key = f'{self.seed} {results["sample_idx"]} {view}'
        seed = int.from_bytes(
            hashlib.sha256(view_key.encode()).digest()[:4], 'little'
        )
        states = get_random_states()
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            return self.pipeline(results)
        finally:
            set_random_states(states)

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.views}, {self.pipeline})'
