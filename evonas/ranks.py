"""Ranks of scores: what is left of accuracies where only their order matters, and one ranking out of several."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def normal_scores(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Ranks as quantiles of the standard normal distribution, shape (n,); equal scores share theirs.

    Accuracies have a long lower tail, which says nothing about the best networks and to which least squares would give all its weight.
    """
    from scipy.stats import norm, rankdata  # half a second to import, which `import evonas` and `evonas --help` do not pay

    return np.asarray(norm.ppf((rankdata(scores) - 0.5) / len(scores)))


def fused(scores: npt.NDArray[np.float64], *cheap: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """One ranking of a population out of a dear score and some cheap ones: its normal scores plus the mean of theirs, shape (n,).

    The two sides weigh the same, whatever their number and units: nothing has to be fitted to networks that were trained. Scores depend
    on the company, so that a fused score ranks the population it was made of and no other.
    """
    return np.asarray(normal_scores(scores) + np.mean([normal_scores(other) for other in cheap], axis=0))


class NormalScale:
    """Normal scores against a reference that stays: what a number would have got among the reference values, whatever its company now.

    Between two reference values it is linear. Beyond each end it goes on with the slope of that half of the reference (accuracies have a
    long lower tail, whose slope says nothing about the best): a network better than all of the reference is still told from one that is
    better yet.

    Args:
        reference: values that the scale is made of, shape (n,); those that are not finite are left out. Of equal values only, or of
            none, everything is 0.
    """

    def __init__(self, reference: npt.NDArray[np.float64]) -> None:
        reference = np.asarray(reference, dtype=np.float64)
        reference = reference[np.isfinite(reference)]
        self._values, first = np.unique(reference, return_index=True)
        self._scores = normal_scores(reference)[first]

    def __call__(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Normal scores of values, shape (n,); NaN of NaN."""
        values = np.asarray(values, dtype=np.float64)
        if len(self._values) < 2:
            return np.where(np.isnan(values), np.nan, 0.0)
        low, middle, high = (int(i) for i in (0, len(self._values) // 2, len(self._values) - 1))
        below = self._slope(low, max(middle, 1)) * np.minimum(values - self._values[low], 0)
        above = self._slope(min(middle, high - 1), high) * np.maximum(values - self._values[high], 0)
        return np.asarray(np.interp(values, self._values, self._scores) + below + above)

    def _slope(self, low: int, high: int) -> float:
        return float((self._scores[high] - self._scores[low]) / (self._values[high] - self._values[low]))
