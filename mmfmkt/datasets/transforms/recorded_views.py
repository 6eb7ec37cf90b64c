"""Augmentations that come back: a few views of each image instead of any."""

import hashlib
import random
from typing import Any, List, Optional

import numpy as np
import torch
from mmengine.dataset import Compose

from mmfmkt.registry import TRANSFORMS
from mmfmkt.utils.random_stream import get_random_states, set_random_states
from mmfmkt.utils.schema import Count


@TRANSFORMS.register_module()
class RecordedViews:
    """Runs a pipeline so that an image is seen in one of a few views.

    Each time a view is drawn, and what the pipeline draws follows from image
    and view alone. So a cache of a teacher's outputs
    (``model.teacher.cache``) finds them again, under crops and colours too
    (as in FKD, arXiv 2112.01528).

    Args:
        views (int): How many views of an image there are.
        transforms (list): The pipeline.
        seed (int): Other seeds give other views.

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
        self, views: Count, transforms: List[Any], seed: int = 0
    ) -> None:
        self.views, self.seed = views, seed
        self.pipeline = Compose(transforms)

    @property
    def transforms(self) -> List[Any]:
        """The transforms of the pipeline."""
        return self.pipeline.transforms

    def __call__(self, results: dict) -> Optional[dict]:
        """Run the pipeline on an image of a data set.

        Args:
            results (dict): With ``sample_idx``, as MMEngine's data sets
                have it.
        """
        view = int(np.random.randint(self.views))
        told = f'{self.seed} {results["sample_idx"]} {view}'
        seed = int.from_bytes(
            hashlib.sha256(told.encode()).digest()[:4], 'little'
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
