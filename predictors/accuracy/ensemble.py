"""The mean of several copies of a predictor, each fitted on a random part of the data.

As PNAS predicts (Liu et al., "Progressive Neural Architecture Search", 2017, arXiv 1712.00559): five members, each from scratch on four
fifths of all data. Unlike scikit-learn's bagging it draws without replacement, gives a spread, and seeds members that have a seed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.utils.validation import check_is_fitted, validate_data

Floats = npt.NDArray[np.float64]


class Ensemble(RegressorMixin, BaseEstimator):
    """Mean and spread of `members` copies of `predictor`.

    Args:
        predictor: any scikit-learn regressor; cloned, never changed.
        members: copies.
        share: of the rows that each copy is fitted on.
        random_state: seeds the parts, and the members where they have a `random_state`.
    """

    def __init__(self, predictor: Any, members: int = 5, *, share: float = 0.8, random_state: int = 0) -> None:
        self.predictor = predictor
        self.members = members
        self.share = share
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Ensemble:
        """Fit every member from scratch; X of shape (n, features), y of shape (n,)."""
        X, y = validate_data(self, X, y, y_numeric=True, dtype=np.float64)
        rng = np.random.default_rng(self.random_state)
        wanted = max(round(self.share * len(X)), 1)
        self.members_ = []
        for m in range(self.members):
            rows = rng.permutation(len(X))[:wanted]
            member = clone(self.predictor, safe=False)
            if "random_state" in member.get_params(deep=False):
                member.set_params(random_state=self.random_state * self.members + m)
            self.members_.append(member.fit(X[rows], y[rows]))
        return self

    def predict(self, X: Any, return_std: bool = False) -> Floats | tuple[Floats, Floats]:
        """Mean prediction, shape (n,); with `return_std` also the standard deviation over the members."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        predictions = np.stack([np.asarray(member.predict(X), dtype=np.float64) for member in self.members_])
        return (predictions.mean(axis=0), predictions.std(axis=0)) if return_std else predictions.mean(axis=0)
