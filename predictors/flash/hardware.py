"""Latency, energy and area as non-negative sums of what a network's layers add up to.

The hardware models of Li et al., "FLASH", 2021, arXiv 2108.00568: each cost is linear in totals over the layers (MACs, weights, traffic
of activations, number of layers and of connections that skip some, a constant), with coefficients from least squares on measured
networks. Departures: coefficients are never negative, so a larger network never costs less, and errors are weighed relative to what
was measured; the paper's features of in-memory computing tiles stand behind a device's own coefficients, which a file may give:

    {"device": "my accelerator",
     "energy": {"unit": "mJ", "macs": 4.6e-9, "activations": 2.1e-7, "constant": 0.02},
     "area": {"unit": "mm2", "params": 1.3e-6, "constant": 0.8}}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls
from sklearn.utils.validation import check_is_fitted, validate_data

from evonas.errors import UsageError
from evonas.files import read_as
from evonas.space import Population
from predictors.devices.schema import FEATURES, UNITS, HardwareFile
from predictors.flash.positive import PositiveRegressor

Floats = npt.NDArray[np.float64]
Totals = Callable[[Population], Mapping[str, Floats]]

FOLDS = 5


class NonNegativeLinear(PositiveRegressor):
    """Least squares with coefficients that are not negative, on relative errors; a constant is one of them."""

    def fit(self, X: Any, y: Any) -> NonNegativeLinear:
        """Fit.

        Args:
            X: totals, shape (n, features).
            y: costs, shape (n,), positive.

        Attributes:
            coef_: shape (features,).
            intercept_: the constant.
            relative_error_: root mean square of the relative errors, with the degrees of freedom taken off.

        Raises:
            ValueError: a cost is not positive, or a total negative.
        """
        X, y = self._checked(X, y)
        if not (y > 0).all():
            raise ValueError("costs must be positive")
        design = np.column_stack([X, np.ones(len(X))])
        scale = np.maximum(design.max(axis=0), np.finfo(float).tiny)
        solved, _ = nnls(design / scale / y[:, None], np.ones(len(y)))
        self.coef_, self.intercept_ = (solved / scale)[:-1], float(solved[-1])
        errors = self.predict(X) / y - 1
        self.relative_error_ = float(np.sqrt((errors**2).sum() / max(len(y) - (solved > 0).sum(), 1)))
        return self

    def predict(self, X: Any, return_std: bool = False) -> Floats | tuple[Floats, Floats]:
        """Costs, shape (n,); with `return_std` also the standard deviation of a network around them."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        mean = X @ self.coef_ + self.intercept_
        return (mean, self.relative_error_ * mean) if return_std else mean


@dataclass(frozen=True)
class HardwareCost:
    """A cost of an architecture from the totals over its layers.

    Attributes:
        unit: of the cost.
        coefficients: by feature, and `constant`.
        totals: gives the features of a population.
    """

    unit: str
    coefficients: Mapping[str, float]
    totals: Totals

    def __call__(self, population: Population) -> Floats:
        """The cost of every row: shape (n,)."""
        totals = self.totals(population)
        cost = np.full(len(population), self.coefficients.get("constant", 0.0))
        for feature, coefficient in self.coefficients.items():
            if feature != "constant":
                cost += coefficient * totals[feature]
        return cost


@dataclass(frozen=True)
class HeldOut:
    """How well a model foretells networks that it was not fitted to: R^2, mean and worst relative error."""

    networks: int
    r2: float
    mean: float
    worst: float

    def __str__(self) -> str:
        errors = f"mean error {100 * self.mean:.1f} %, worst {100 * self.worst:.1f} %"
        return f"R^2 {self.r2:.3f}, {errors} on {self.networks} networks that it was not fitted to"


def matrix(totals: Totals, population: Population, features: tuple[str, ...] = FEATURES) -> Floats:
    """The totals as columns: shape (n, features)."""
    found = totals(population)
    return np.stack([np.asarray(found[feature], dtype=np.float64) for feature in features], axis=1)


def fit_hardware(
    totals: Totals,
    population: Population,
    measured: npt.ArrayLike,
    unit: str = "ms",
    *,
    features: tuple[str, ...] = FEATURES,
) -> tuple[HardwareCost, HeldOut]:
    """A cost fitted to measured networks, and how well fits to the others foretell each fifth of them.

    Args:
        totals: gives the features of a population.
        population: the networks, at least ten.
        measured: their costs, shape (n,), positive.
        unit: of them.
        features: totals to use.

    Raises:
        UsageError: too few networks.
    """
    X, y = matrix(totals, population, features), np.asarray(measured, dtype=np.float64)
    if len(y) < 10:
        raise UsageError(f"Got {len(y)} measured networks; expected 10 or more to fit a hardware model.")
    fold = np.random.default_rng(0).permutation(len(y)) % FOLDS
    predicted = np.empty_like(y)
    for part in range(FOLDS):
        predicted[fold == part] = NonNegativeLinear().fit(X[fold != part], y[fold != part]).predict(X[fold == part])
    errors = np.abs(predicted / y - 1)
    r2 = 1 - float(((predicted - y) ** 2).sum() / ((y - y.mean()) ** 2).sum())
    model = NonNegativeLinear().fit(X, y)
    coefficients = {**dict(zip(features, model.coef_.tolist(), strict=True)), "constant": model.intercept_}
    return HardwareCost(unit, coefficients, totals), HeldOut(len(y), r2, float(errors.mean()), float(errors.max()))


def read_hardware(path: str | Path, totals: Totals) -> dict[str, HardwareCost]:
    """Costs whose coefficients a file gives: any of latency (ms), energy (mJ) and area (mm2).

    Raises:
        UsageError: the file is missing or damaged, names another cost, unit or feature, or holds a negative number.
    """
    content = read_as(Path(path), HardwareFile)
    given = {name: getattr(content, name) for name in UNITS}
    return {name: HardwareCost(UNITS[name], found, totals) for name, found in given.items() if found is not None}
