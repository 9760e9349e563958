"""A regressor that learns ranks and speaks in accuracies.

Accuracies of random networks have a long lower tail. Least squares spends its flexibility on how bad the worst are; a search wants to
know which are best. Fitted to the normal scores of the ranks, every predictor that was compared ranks NAS-Bench-201 better, by .02 to
.33 in Kendall tau. On NAS-Bench-Macro ridge, trees and Gaussian processes gain .02 to .10; neural ensembles, which minimise the absolute
error, and trees with NN-Degree features gain nothing (docs/evidence.md). The way back is the piecewise linear one through the training
scores.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from evonas.ranks import normal_scores

Floats = npt.NDArray[np.float64]

UPPER_PART = 0.75


class NormalScores(RegressorMixin, BaseEstimator):
    """Fits `regressor` to the normal scores of the targets; predictions are targets again, in the order that the regressor gives.

    Args:
        regressor: cloned, never changed.
    """

    def __init__(self, regressor: Any) -> None:
        self.regressor = regressor

    def fit(self, X: Any, y: Any) -> NormalScores:
        """Fit to X of shape (n, features) and targets y of shape (n,).

        Attributes:
            regressor_: the fitted clone.
            scores_, targets_: the points that lead back, ascending, equal targets once.
        """
        X, y = validate_data(self, X, y, y_numeric=True, dtype=None)
        y = np.asarray(y, dtype=np.float64)
        scores = normal_scores(y)
        self.regressor_ = clone(self.regressor).fit(X, scores)
        self.targets_, first = np.unique(y, return_index=True)
        self.scores_ = scores[first]
        return self

    def predict(self, X: Any, return_std: bool = False) -> Floats | tuple[Floats, Floats]:
        """Targets, shape (n,); with `return_std` also half the distance between what one standard deviation up and down lead back to."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=None)
        if not return_std:
            return self._back(np.asarray(self.regressor_.predict(X), dtype=np.float64))
        mean, std = self.regressor_.predict(X, return_std=True)
        return self._back(mean), (self._back(mean + std) - self._back(mean - std)) / 2

    @available_if(lambda self: hasattr(getattr(self, "regressor_", self.regressor), "belief"))  # type: ignore[untyped-decorator]
    def belief(self, X: Any) -> LedBack:
        """The regressor's belief over the rows of X, in units of the targets (see `evonas.explorers.bayesian.Belief`)."""
        check_is_fitted(self)
        return LedBack(self.regressor_.belief(validate_data(self, X, reset=False, dtype=None)), self._back)

    def _back(self, scores: Floats) -> Floats:
        """Beyond the ends straight on, as steep as the upper and the lower quarter of the training scores, so that no order is lost."""
        if len(self.scores_) == 1:
            return np.full(len(scores), self.targets_[0])
        inside = np.interp(scores, self.scores_, self.targets_)
        at = max(int(UPPER_PART * len(self.scores_)), 1)
        up = (self.targets_[-1] - self.targets_[at - 1]) / (self.scores_[-1] - self.scores_[at - 1])
        down = (self.targets_[-at] - self.targets_[0]) / (self.scores_[-at] - self.scores_[0])
        return np.asarray(inside + up * np.maximum(scores - self.scores_[-1], 0) - down * np.maximum(self.scores_[0] - scores, 0))


class LedBack:
    """A belief about normal scores, as one about targets.

    Args:
        belief: of the regressor.
        back: scores to targets, rising.

    Attributes:
        mean: shape (n,).
    """

    def __init__(self, belief: Any, back: Callable[[Floats], Floats]) -> None:
        self._belief, self._back = belief, back
        self.mean = back(belief.mean)

    @property
    def std(self) -> Floats:
        """Half the distance between what one standard deviation up and down lead back to: shape (n,)."""
        return (self._back(self._belief.mean + self._belief.std) - self._back(self._belief.mean - self._belief.std)) / 2

    def condition(self, row: int) -> None:
        """Candidate `row` will be read."""
        self._belief.condition(row)
