"""One of several predictors: the one that ranks networks held out of its training best, by Kendall's tau, and a ranking without training
while there are too few networks to learn from.

Which predictor is best differs from space to space and with the number of networks scored (White et al., "How Powerful are Performance
Predictors in Neural Architecture Search?", 2021, arXiv 2104.01177). The networks that are scored say which: each predictor foretells every
fold from the others. On four tables (docs/evidence/predictors.md) that is level with the best of the three on each, where every one of them
is behind on some.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.utils.validation import check_is_fitted, validate_data

Floats = npt.NDArray[np.float64]


class ChosenByTau(RegressorMixin, BaseEstimator):
    """The regressor of a few that ranks held-out rows best, fitted to all.

    Args:
        regressors: (name, regressor) of each; cloned, never changed.
        untrained: rows to numbers, shape (n,), higher is better: what ranks while there are fewer than `least` rows. Without it a regressor
            is chosen from the beginning.
        least: rows from which on a regressor is chosen.
        folds: of the rows.
        judged: rows that choose at most, drawn evenly; all are fitted to.
    """

    def __init__(
        self,
        regressors: Sequence[tuple[str, Any]],
        untrained: Callable[[Any], npt.ArrayLike] | None = None,
        *,
        least: int = 25,
        folds: int = 4,
        judged: int = 200,
    ) -> None:
        self.regressors = regressors
        self.untrained = untrained
        self.least = least
        self.folds = folds
        self.judged = judged

    def fit(self, X: Any, y: Any) -> ChosenByTau:
        """Choose and fit, to X of shape (n, features) and targets y of shape (n,).

        Attributes:
            chosen_: name of the regressor; None while the ranking is without training.
            taus_: of each regressor on held-out rows, by name.
        """
        X, y = validate_data(self, X, y, y_numeric=True, dtype=None)
        y = np.asarray(y, dtype=np.float64)
        self.taus_: dict[str, float] = {}
        self.chosen_: str | None = None
        if self.untrained is not None and len(y) < self.least:
            self.spread_ = float(y.std()), float(y.mean())
            return self
        rows = np.unique(np.linspace(0, len(y) - 1, min(self.judged, len(y))).astype(np.int64))
        folds = KFold(min(self.folds, len(rows)), shuffle=True, random_state=0)
        for name, regressor in self.regressors:
            foretold = cross_val_predict(clone(regressor), X[rows], y[rows], cv=folds) if len(rows) > 1 else np.zeros(1)
            self.taus_[name] = float(np.nan_to_num(kendalltau(foretold, y[rows]).statistic, nan=-1.0))
        self.chosen_ = max(self.taus_, key=lambda name: self.taus_[name])
        self.regressor_ = clone(dict(self.regressors)[self.chosen_]).fit(X, y)
        return self

    def predict(self, X: Any) -> Floats:
        """Predictions, shape (n,); without training, numbers of the targets' mean and spread in its order."""
        check_is_fitted(self, "taus_")
        X = validate_data(self, X, reset=False, dtype=None)
        if self.chosen_ is not None:
            return np.asarray(self.regressor_.predict(X), dtype=np.float64)
        values = np.asarray(self.untrained(X), dtype=np.float64) if self.untrained is not None else np.zeros(len(X))
        spread, mean = self.spread_
        return mean + spread * (values - values.mean()) / max(float(values.std()), 1e-12)
