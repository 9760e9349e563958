"""Accuracy as a saturating curve of NN-Degree, fitted to as few as 25 trained networks.

Li, Mandal, Ogras and Marculescu, "FLASH: Fast Neural Architecture Search with Hardware Optimization", 2021, arXiv 2108.00568:
`accuracy(g) = 1 / (a + exp(b / g + c))`, three numbers by least squares.

Departures: accuracies are divided by the largest one before the fit, so that any positive score will do; the fit starts from the
straight line that remains when `a` is held. Further columns enter as powers (`+ e log x` in the exponent), because NN-Degree alone
cannot tell networks apart that differ in kernels (docs/evidence.md).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares
from sklearn.utils.validation import check_is_fitted, validate_data

from predictors.flash.positive import PositiveRegressor

Floats = npt.NDArray[np.float64]

SMALLEST = 1e-9
FLOOR = 1e-3
CEILING_START = 0.98
STEEPEST = 30.0


class DegreeAccuracy(PositiveRegressor):
    """The analytical accuracy model of FLASH.

    X has NN-Degree in its first column; further columns, such as MACs, add a term each. All are positive; targets are at least 0.

    Args:
        ridge: pull of the coefficients towards 0, in units of the residuals; keeps a fit to very few networks from bending.
    """

    def __init__(self, *, ridge: float = 1e-3) -> None:
        self.ridge = ridge

    def fit(self, X: Any, y: Any) -> DegreeAccuracy:
        """Least squares.

        Args:
            X: shape (n, features), the first NN-Degree.
            y: accuracies or other scores, shape (n,), at least 0.

        Attributes:
            coefficients_: a, b, c, and e for every further column, for standardised features.
            covariance_: of them, shape (features + 2, features + 2).

        Raises:
            ValueError: a target or a feature is negative.
        """
        X, y = self._checked(X, y)
        self.scale_ = float(y.max()) or 1.0
        raw = _terms(X)
        self.centre_, self.width_ = raw.mean(axis=0), np.maximum(raw.std(axis=0), SMALLEST)
        design, targets = self._design(X), np.maximum(y / self.scale_, FLOOR)
        start = np.concatenate([[CEILING_START], np.clip(self._line(design, targets), -STEEPEST / 2, STEEPEST / 2)])
        reach = np.full(len(start) - 1, STEEPEST)
        bounds = (np.concatenate([[0.1], -reach]), np.concatenate([[1 + CEILING_START], reach]))
        found = least_squares(self._residuals, start, bounds=bounds, args=(design, targets))
        self.coefficients_ = found.x
        residuals = _curve(found.x, design) - targets
        variance = float(residuals @ residuals) / max(len(y) - len(found.x), 1)
        self.covariance_ = variance * np.linalg.pinv(found.jac.T @ found.jac)
        return self

    def predict(self, X: Any, return_std: bool = False) -> Floats | tuple[Floats, Floats]:
        """Accuracies, shape (n,); with `return_std` also the standard deviation that the fit leaves (not that of a training)."""
        check_is_fitted(self)
        design = self._design(validate_data(self, X, reset=False, dtype=np.float64))
        mean = self.scale_ * _curve(self.coefficients_, design)
        if not return_std:
            return mean
        bend = design * _exponential(self.coefficients_, design)[:, None]
        slope = np.column_stack([np.ones(len(design)), bend]) * (mean**2 / self.scale_)[:, None]
        return mean, np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", slope, self.covariance_, slope), 0.0))

    def _design(self, X: Floats) -> Floats:
        terms = (_terms(X) - self.centre_) / self.width_
        return np.column_stack([terms[:, 0], np.ones(len(X)), terms[:, 1:]])

    def _line(self, design: Floats, targets: Floats) -> Floats:
        """Where the fit starts: the coefficients that a straight line gives when `a` is held."""
        columns = design.shape[1]
        pulled = np.vstack([design, np.sqrt(self.ridge) * np.eye(columns)])
        wanted = np.concatenate([np.log(1 / targets - CEILING_START), np.zeros(columns)])
        return np.asarray(np.linalg.lstsq(pulled, wanted, rcond=None)[0])

    def _residuals(self, coefficients: Floats, design: Floats, targets: Floats) -> Floats:
        pull = np.sqrt(self.ridge / len(targets)) * np.delete(coefficients, [0, 2])
        return np.concatenate([_curve(coefficients, design) - targets, pull])


def _terms(X: Floats) -> Floats:
    """1 / g, and the logarithm of whatever else there is."""
    X = np.maximum(X, SMALLEST)
    return np.column_stack([1 / X[:, 0], np.log(X[:, 1:])])


def _exponential(coefficients: Floats, design: Floats) -> Floats:
    return np.asarray(np.exp(np.clip(design @ coefficients[1:], -60, 60)))


def _curve(coefficients: Floats, design: Floats) -> Floats:
    return np.asarray(1 / (coefficients[0] + _exponential(coefficients, design)))
