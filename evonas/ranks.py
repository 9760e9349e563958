"""Ranks of scores: what is left of accuracies where only their order matters."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, rankdata


def normal_scores(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Ranks as quantiles of the standard normal distribution, shape (n,); equal scores share theirs.

    Accuracies have a long lower tail, which says nothing about the best networks and to which least squares would give all its weight.
    """
    return np.asarray(norm.ppf((rankdata(scores) - 0.5) / len(scores)))
