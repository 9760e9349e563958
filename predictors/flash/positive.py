"""Regressors of positive quantities from positive features: what scikit-learn is told of them, and the check of the data."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_non_negative, validate_data

Floats = npt.NDArray[np.float64]


class PositiveRegressor(RegressorMixin, BaseEstimator):
    """Accuracies over NN-Degree, costs over totals: curves with few parameters, which are poor models of arbitrary data."""

    def __sklearn_tags__(self) -> Any:
        """Positive features, positive targets."""
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        tags.target_tags.positive_only = True
        tags.regressor_tags.poor_score = True
        return tags

    def _checked(self, X: Any, y: Any) -> tuple[Floats, Floats]:
        """X of shape (n, features) and y of shape (n,).

        Raises:
            ValueError: a feature or a target is negative.
        """
        X, y = validate_data(self, X, y, y_numeric=True, dtype=np.float64)
        check_non_negative(X, type(self).__name__)
        if (y < 0).any():
            raise ValueError(f"{type(self).__name__} needs targets of at least 0, got {y.min():.3g}")
        return X, y
