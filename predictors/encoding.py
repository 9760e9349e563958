"""Architectures as features: a population of option indices to the matrix a regressor takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.preprocessing import OneHotEncoder


def one_hot(sizes: Sequence[int] | np.ndarray) -> OneHotEncoder:
    """A transformer for pipelines: (n, choices) option indices to (n, sum of sizes) zeros and ones.

    The columns follow the un-narrowed space (`SearchSpace.sizes`), so a fitted pipeline stays valid when the space is narrowed.

    Args:
        sizes: number of options of every choice.
    """
    return OneHotEncoder(categories=[np.arange(int(size)) for size in sizes], sparse_output=False, dtype=np.float32)
