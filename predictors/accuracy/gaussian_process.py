"""Accuracy from a Gaussian process over what a search space declares about its architectures.

Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, chapters 2 and 5. The covariance adds two parts:
a linear one (the main effect of every option, and of how often an option is taken) and a stationary one that falls off
exponentially with the squared distance of the features. Graph features and their use for NAS follow White et al., "BANANAS",
2019, arXiv 1910.11858, and Ru et al., "NAS-BOWL", 2020, arXiv 2006.07556.

Why both parts: with a dozen scored networks a stationary process knows only the surroundings of each, and the linear part is what
points to networks far from all of them; from a few dozen on, interactions matter, and the stationary part has them.
Departure: hyper-parameters are one maximum a posteriori under log-normal priors, not a sample: averaging over six draws of
the Laplace approximation cost five times as much and found nothing sooner (docs/evidence.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve, lapack, solve_triangular
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import ThreadpoolController

from evonas.space import Population, SearchSpace
from predictors.accuracy.encoding import option_columns, option_counts, option_numbers, ordered_columns, path_counts

Floats = npt.NDArray[np.float64]

JITTER = 1e-6
REFERENCE_SAMPLE = 1000
SCREENED = 64
SINGLE_PRECISION = 2e-6


class GaussianProcess(RegressorMixin, BaseEstimator):
    """Regression with a spread, at its best between five and a few hundred scored networks.

    Args:
        space: X is then a population of it, and the features are taken from what the space declares: one-hot options, counts of
            options that choices share, the order of options that are numbers, and operations on the paths of its graph. Without
            a space, X is any matrix, one group of features.
        noise: prior median of the noise variance, as a share of the unit variance of the linear and stationary parts.
        spread: standard deviation of the prior of every log inverse squared length scale.
        most: rows used; of more, the best half of this number and an even sample of the others, because the cost grows with the cube.
        tuned_on: rows that the hyper-parameters are fitted on, chosen the same way.
    """

    def __init__(
        self, space: SearchSpace | None = None, *, noise: float = 0.02, spread: float = 0.7, most: int = 500, tuned_on: int = 150
    ) -> None:
        self.space = space
        self.noise = noise
        self.spread = spread
        self.most = most
        self.tuned_on = tuned_on

    def fit(self, X: Any, y: Any) -> GaussianProcess:
        """Standardise the targets, then fit hyper-parameters.

        Args:
            X: shape (n, choices) or (n, features).
            y: targets, shape (n,). Give normal scores where only the order matters.

        Attributes:
            used_: positions of the rows that are used, shape (at most `most`,).
            parameters_: log variances of the linear groups and of the stationary part, log weights of the stationary
                groups, log noise variance.
        """
        X, y = validate_data(self, X, y, y_numeric=True, dtype=np.float64)
        self.used_ = _informative(y, self.most)
        X, y = X[self.used_], y[self.used_]
        with _one_thread().limit(limits=1, user_api="blas"):
            self._condition_on(X, y)
        return self

    def _condition_on(self, X: Floats, y: Floats) -> None:
        self.features_ = Features.of_space(self.space) if self.space is not None else Features.of_matrix(X)
        self.mean_, self.scale_ = float(y.mean()), float(y.std()) or 1.0
        targets = (y - self.mean_) / self.scale_
        self.linear_, self.stationary_ = self.features_(X)
        self.parameters_ = self._most_probable(targets, _informative(targets, self.tuned_on))
        covariance = self._covariance(self.linear_, self.stationary_, self.linear_, self.stationary_)
        self.factor_ = np.linalg.cholesky(
            covariance + np.eye(len(y)) * (np.exp(self.parameters_[-1]) + JITTER * np.trace(covariance) / len(y))
        )
        self.weights_ = cho_solve((self.factor_, True), targets)
        self.variance_ = max(float(targets @ self.weights_) / len(y), 1e-6)

    def predict(self, X: Any, return_std: bool = False) -> Floats | tuple[Floats, Floats]:
        """Posterior mean, shape (n,); with `return_std` also the posterior standard deviation, noise not included."""
        belief = self.belief(X)
        return (belief.mean, belief.std) if return_std else belief.mean

    def belief(self, X: Any) -> Belief:
        """The posterior over the rows of X, which can be conditioned on reading some of them (see `Belief`)."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        with _one_thread().limit(limits=1, user_api="blas"):
            return self._belief(X)

    # of any matrix, features may lie far from zero, where single precision is not enough
    @available_if(lambda self: self.space is not None)  # type: ignore[untyped-decorator]
    def screen(self, X: Any) -> tuple[Floats, Floats]:
        """Ceilings of the posterior mean and standard deviation, in a fraction of the time of `predict`: shape (n,) each.

        In single precision, with what that can be wrong by added; and the spread after the first `SCREENED` rows alone, which all others
        only lower. Whoever looks for the highest of something that rises with both need ask `predict` for few.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        with _one_thread().limit(limits=1, user_api="blas"):
            linear, stationary = self.features_(X, np.float32)
            groups, few = len(linear), min(SCREENED, len(self.weights_))
            weights = np.exp(self.parameters_ / 2).astype(np.float32)
            a, b, c, d = (
                np.concatenate([w * f.astype(np.float32, copy=False) for w, f in zip(weights[begin:], part, strict=False)], axis=1)
                for begin, part in ((0, linear), (0, self.linear_), (groups + 1, stationary), (groups + 1, self.stationary_))
            )
            near = np.exp(self.parameters_[groups].astype(np.float32) - _square_distances(c, d))
            mean = a @ (b.T @ self.weights_.astype(np.float32)) + near @ self.weights_.astype(np.float32)
            prior = (a * a).sum(axis=1) + np.exp(self.parameters_[groups].astype(np.float32))
            factor = self.factor_[:few, :few].astype(np.float32)
            explained = solve_triangular(factor, (near[:, :few] + a @ b[:few].T).T, lower=True, check_finite=False)
        rest = np.maximum(prior - (explained**2).sum(axis=0) + SINGLE_PRECISION * prior, 1e-9).astype(np.float64)
        error = SINGLE_PRECISION * float(np.abs(self.weights_).sum()) * float(prior.max())
        return self.mean_ + self.scale_ * (mean + error), self.scale_ * np.sqrt(self.variance_ * rest)

    def _belief(self, X: Floats) -> Belief:
        linear, stationary = self.features_(X)
        across = self._covariance(linear, stationary, self.linear_, self.stationary_)
        prior = sum(np.exp(p) * (f**2).sum(axis=1) for p, f in zip(self.parameters_, linear, strict=False)) + np.exp(
            self.parameters_[len(linear)]
        )
        return Belief(
            mean=self.mean_ + self.scale_ * (across @ self.weights_),
            scale=self.scale_ * np.sqrt(self.variance_),
            explained=solve_triangular(self.factor_, across.T, lower=True, check_finite=False),
            variance=prior,
            noise=float(np.exp(self.parameters_[-1])),
            covariance=lambda row: self._covariance(
                linear, stationary, [f[row : row + 1] for f in linear], [f[row : row + 1] for f in stationary]
            )[:, 0],
        )

    def _covariance(self, linear: Parts, stationary: Parts, other_linear: Parts, other_stationary: Parts) -> Floats:
        groups = len(linear)
        weights = [np.exp(p / 2) for p in self.parameters_]
        a, b = (np.concatenate([w * f for w, f in zip(weights, part, strict=False)], axis=1) for part in (linear, other_linear))
        c, d = (
            np.concatenate([w * f for w, f in zip(weights[groups + 1 :], part, strict=False)], axis=1)
            for part in (stationary, other_stationary)
        )
        return np.asarray(a @ b.T + np.exp(self.parameters_[groups] - _square_distances(c, d)))

    def _most_probable(self, targets: Floats, rows: npt.NDArray[np.int64]) -> Floats:
        """Maximise the marginal likelihood times the priors, with the overall scale profiled out."""
        similar = np.stack([f[rows] @ f[rows].T for f in self.linear_])
        distant = np.stack([_square_distances(f[rows], f[rows]) for f in self.stationary_])
        centre = np.concatenate([np.zeros(len(similar) + 1), np.log(self.features_.shares), [np.log(self.noise)]])
        width = np.array([1.5] * (len(similar) + 1) + [self.spread] * len(distant) + [1.5])
        bounds = list(zip(centre - 3 * width, centre + 3 * width, strict=True))
        loss = partial(_negative_log_posterior, targets=targets[rows], similar=similar, distant=distant, centre=centre, width=width)
        found = minimize(loss, centre, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 30})
        return np.asarray(found.x)


class Belief:
    """A Gaussian over a fixed list of candidates that learns where, not what, was read.

    Desautels et al., "Parallelizing Exploration-Exploitation Tradeoffs with Gaussian Process Bandit Optimization", 2012,
    arXiv 1206.6402: a batch is picked one by one; a candidate that is to be read lowers the spread of those like it and
    leaves every mean.

    Attributes:
        mean: shape (n,).
    """

    def __init__(self, mean: Floats, scale: float, explained: Floats, variance: Floats, noise: float, covariance: Any) -> None:
        self.mean = mean
        self._scale, self._noise, self._covariance = scale, noise, covariance
        self._explained = explained
        self._rest = np.maximum(variance - (explained**2).sum(axis=0), 1e-9)

    @property
    def std(self) -> Floats:
        """Shape (n,)."""
        return np.asarray(self._scale * np.sqrt(self._rest))

    def condition(self, row: int) -> None:
        """Candidate `row` will be read."""
        between = self._covariance(row) - self._explained.T @ self._explained[:, row]
        step = between / np.sqrt(self._rest[row] + self._noise)
        self._explained = np.concatenate([self._explained, step[None]])
        self._rest = np.maximum(self._rest - step**2, 1e-9)


Parts = list[Floats]


@cache
def _one_thread() -> ThreadpoolController:
    """Limits the linear algebra: a few hundred rows are no faster on many threads, and far slower beside other processes."""
    return ThreadpoolController()


@dataclass(frozen=True)
class Features:
    """Centred and scaled groups of features: linear ones of mean square norm 1, stationary ones of mean square distance 1.

    Attributes:
        shares: prior medians of the weights of the stationary groups; they add up to 1.
    """

    space: SearchSpace | None
    linear: tuple[tuple[Floats, float], ...]
    stationary: tuple[float, ...]
    shares: Floats

    @classmethod
    def of_space(cls, space: SearchSpace) -> Features:
        """Scaled by random architectures of the space."""
        linear, columns, groups = _groups(space, space.sample(REFERENCE_SAMPLE, np.random.default_rng(0)))
        kinds = 1 + sum(_spread(group) > 0 for group in groups)
        varying = max(sum(_spread(column) > 0 for column in columns), 1)
        shares = [1 / kinds / varying] * len(columns) + [1 / kinds] * len(groups)
        return cls(space, tuple(map(_centre, linear)), tuple(map(_inverse, [*columns, *groups])), np.array(shares))

    @classmethod
    def of_matrix(cls, X: Floats) -> Features:
        """Scaled by the rows themselves; a constant column counts for nothing."""
        return cls(None, (_centre(X),), (_inverse(X),), np.ones(1))

    def __call__(self, X: Floats, dtype: type = np.float64) -> tuple[Parts, Parts]:
        """The linear and the stationary groups of the rows of X."""
        if self.space is None:
            linear, stationary = [X], [X]
        else:
            linear, columns, groups = _groups(self.space, self.space.canonical(X.astype(np.int64)))
            stationary = [*columns, *groups]
        return (
            [
                (part.astype(dtype, copy=False) - centre.astype(dtype, copy=False)) * dtype(scale)
                for part, (centre, scale) in zip(linear, self.linear, strict=True)
            ],
            [part.astype(dtype, copy=False) * dtype(scale) for part, scale in zip(stationary, self.stationary, strict=True)],
        )


def _groups(space: SearchSpace, population: Population) -> tuple[Parts, Parts, Parts]:
    """The linear groups (options, counts, numbers), and the stationary ones: one a choice, with the order of its numbers; counts, paths.

    Paths act in the stationary part only, since most cells have few. Numbers are no stationary group of their own: beside the choices that
    have them, it would take its share of the prior from all others.
    """
    counts = option_counts(space, population)
    linear = [np.concatenate(option_columns(space, population), axis=1), counts, option_numbers(space, population)]
    return linear, ordered_columns(space, population), [counts, path_counts(space, population)]


def _spread(part: Floats) -> float:
    return float(part.var(axis=0).sum())


def _inverse(part: Floats) -> float:
    spread = _spread(part)
    return float(1 / np.sqrt(2 * spread)) if spread > 0 else 0.0


def _centre(part: Floats) -> tuple[Floats, float]:
    return part.mean(axis=0), np.sqrt(2) * _inverse(part)


def _square_distances(a: Floats, b: Floats) -> Floats:
    return np.maximum((a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2 * a @ b.T, 0.0)


def _informative(y: Floats, most: int) -> npt.NDArray[np.int64]:
    """All rows, or of too many the best `most // 2` and an even sample of the others."""
    if len(y) <= most:
        return np.arange(len(y))
    order = np.argsort(-y, kind="stable")
    others = order[most // 2 :]
    return np.sort(np.concatenate([order[: most // 2], others[np.linspace(0, len(others) - 1, most - most // 2).astype(int)]]))


def _negative_log_posterior(
    parameters: Floats, targets: Floats, similar: Floats, distant: Floats, centre: Floats, width: Floats
) -> tuple[float, Floats]:
    """Value and gradient; the order of the parameters is that of `GaussianProcess.parameters_`."""
    n, groups = len(targets), len(similar)
    linear, weights = np.exp(parameters[:groups]), np.exp(parameters[groups + 1 : -1])
    similar, distant = similar.reshape(groups, n * n), distant.reshape(len(weights), n * n)  # so that sums over groups are one product
    stationary = np.exp(parameters[groups] - weights @ distant).reshape(n, n)
    covariance = stationary + (linear @ similar).reshape(n, n)
    covariance[np.diag_indices(n)] += np.exp(parameters[-1]) + JITTER * np.trace(covariance) / n
    factor = cho_factor(covariance, lower=True, overwrite_a=True, check_finite=False)
    solved = cho_solve(factor, targets, check_finite=False)
    scale = max(float(targets @ solved) / n, 1e-6)
    surprise = (parameters - centre) / width
    value = 0.5 * n * np.log(scale) + np.log(np.diag(factor[0])).sum() + 0.5 * (surprise**2).sum()
    outer = _inverse_of(factor[0]) - np.outer(solved, solved) / scale
    weighted = outer * stationary
    gradient = np.concatenate(
        [
            linear * (similar @ outer.ravel()),
            [weighted.sum()],
            -weights * (distant @ weighted.ravel()),
            [np.exp(parameters[-1]) * np.trace(outer)],
        ]
    )
    return float(value), 0.5 * gradient + surprise / width


def _inverse_of(factor: Floats) -> Floats:
    """The inverse of the matrix of which this is the lower Cholesky factor; what is above its diagonal counts for nothing."""
    below = np.tril(lapack.dpotri(factor, lower=1)[0])
    return np.asarray(below + np.tril(below, -1).T)
