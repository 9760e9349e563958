"""Accuracy from an ensemble of boosted trees.

Chen and Guestrin, "XGBoost: A Scalable Tree Boosting System", 2016, arXiv 1603.02754. An ensemble over row and column
subsamples gives a spread, as Luo et al., "Accuracy Prediction with Non-neural Model for NAS" (GBDT-NAS), 2020,
arXiv 2007.04785, and Shu et al. ("WeakNAS"), 2021, arXiv 2102.10490, use trees without one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

Floats = npt.NDArray[np.float64]


class BoostedTrees(RegressorMixin, BaseEstimator):
    """The mean of a few XGBoost regressors with different seeds, and their spread.

    Put it behind an encoder: `make_pipeline(one_hot(space.sizes), BoostedTrees())`. Good from about 50 scored networks on;
    with fewer, prefer a linear model.

    Args:
        members: regressors in the ensemble.
        n_estimators: trees in each.
        max_depth: of a tree.
        learning_rate: shrinkage of every tree.
        subsample: share of the rows a tree sees.
        colsample_bytree: share of the columns a tree sees.
        random_state: member m is seeded with `random_state * members + m`.
        n_jobs: threads of each regressor.
    """

    def __init__(
        self,
        members: int = 4,
        *,
        n_estimators: int = 100,
        max_depth: int = 4,
        learning_rate: float = 0.15,
        subsample: float = 0.8,
        colsample_bytree: float = 0.6,
        random_state: int = 0,
        n_jobs: int = 1,
    ) -> None:
        self.members = members
        self.n_estimators = n_estimators
        self.max_depth = max_depth
        self.learning_rate = learning_rate
        self.subsample = subsample
        self.colsample_bytree = colsample_bytree
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any) -> BoostedTrees:
        """Fit all members.

        Args:
            X: features, shape (n, f).
            y: targets, shape (n,).
        """
        from xgboost import XGBRegressor

        X, y = validate_data(self, X, y, y_numeric=True, dtype=np.float32)
        if self.members < 1:
            raise ValueError(f"members must be at least 1, got {self.members}")
        settings = {name: value for name, value in self.get_params().items() if name not in ("members", "random_state")}
        self.members_ = [
            XGBRegressor(**settings, tree_method="hist", random_state=self.random_state * self.members + m).fit(X, y)
            for m in range(self.members)
        ]
        return self

    def predict(self, X: Any, return_std: bool = False) -> Floats | tuple[Floats, Floats]:
        """Mean prediction, shape (n,); with `return_std` also the standard deviation over the members."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float32)
        predictions = np.stack([member.predict(X) for member in self.members_]).astype(np.float64)
        mean = predictions.mean(axis=0)
        return (mean, predictions.std(axis=0)) if return_std else mean
