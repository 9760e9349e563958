"""Ranks of scores: what is left of accuracies where only their order matters, and one ranking out of several."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, rankdata


def normal_scores(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Ranks as quantiles of the standard normal distribution, shape (n,); equal scores share theirs.

    Accuracies have a long lower tail, which says nothing about the best networks and to which least squares would give all its weight.
    """
    return np.asarray(norm.ppf((rankdata(scores) - 0.5) / len(scores)))


def fused(scores: npt.NDArray[np.float64], *cheap: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """One ranking of a population out of a dear score and some cheap ones: its normal scores plus the mean of theirs, shape (n,).

    The two sides weigh the same, whatever their number and units: nothing has to be fitted to networks that were trained. Scores depend
    on the company, so that a fused score ranks the population it was made of and no other.
    """
    return np.asarray(normal_scores(scores) + np.mean([normal_scores(other) for other in cheap], axis=0))
