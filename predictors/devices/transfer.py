"""Latency of a new device from about ten networks measured on it, and from devices that were measured before.

The setting of Lee et al., "HELP: Hardware-Adaptive Efficient Latency Prediction for NAS via Meta-Learning", 2021, arXiv 2106.08630; the
method is our own and has no network to train. Every known device is a hypothesis: *the new device is like this one*, its log latency a
straight line over that device's, with a little of all the others, and noise. Ten measurements give each hypothesis (and each of a few
noise levels) its Bayesian evidence; the prediction is their average. A ridge over all devices has to learn from the same ten which of
them matter; here evidence tells at once when one device alone explains them.

Two departures from plain model averaging, both measured in docs/evidence.md: devices are smoothed first (`KnownDevices`), and a
hypothesis under which what is slow elsewhere is fast here is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import qr
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

Floats = npt.NDArray[np.float64]

SCALE_PRIOR = 0.002


class DeviceTransfer(RegressorMixin, BaseEstimator):
    """Milliseconds on a new device from what known devices say: use it behind `KnownDevices`.

        model = make_pipeline(KnownDevices(space, devices), DeviceTransfer()).fit(population, milliseconds)

    Args:
        share: of the prior variance that all known devices have together, the rest being the one that a hypothesis names.
        noises: variances of the noise that are weighed, as shares of the prior variance.
    """

    def __init__(self, *, share: float = 0.05, noises: Sequence[float] = (0.0003, 0.003, 0.03, 0.3, 3.0)) -> None:
        self.share = share
        self.noises = noises

    def __sklearn_tags__(self) -> Any:
        """Milliseconds are positive."""
        tags = super().__sklearn_tags__()
        tags.target_tags.positive_only = True
        return tags

    def fit(self, X: Any, y: Any) -> DeviceTransfer:
        """Weigh the hypotheses.

        Args:
            X: standardised log latencies on known devices, shape (n, devices).
            y: milliseconds on the new one, shape (n,), positive.

        Attributes:
            probabilities_: how likely the new device is to be like each known one, shape (devices,).

        Raises:
            ValueError: a latency is not positive.
        """
        X, y = validate_data(self, X, y, y_numeric=True, dtype=np.float64)
        if not (y > 0).all():
            raise ValueError("latencies must be positive milliseconds")
        self.centre_, self.mean_ = X.mean(axis=0), float(np.log(y).mean())
        self.rows_, targets = X - self.centre_, np.log(y) - self.mean_
        devices = X.shape[1]
        alike = (1 - self.share) * np.einsum("id,jd->dij", self.rows_, self.rows_) + self.share * self.rows_ @ self.rows_.T / devices
        self.inverses_, self.duals_, self.scales_, evidence = posterior(alike, targets, self.noises)
        rising = np.einsum("gdi,id->gd", self.duals_, self.rows_) > 0
        evidence = np.where(rising | ~rising.any(), evidence, -np.inf)
        weights = np.exp(evidence - evidence.max())
        self.weights_ = weights / weights.sum()
        self.probabilities_ = self.weights_.sum(axis=0)
        return self

    def predict(self, X: Any, return_std: bool = False) -> Floats | tuple[Floats, Floats]:
        """Milliseconds, shape (n,); with `return_std` also the standard deviation of the average, noise of a measurement not included."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64) - self.centre_
        share = self.share / X.shape[1]
        own = (1 - self.share) * np.einsum("gd,gdi,id->d", self.weights_, self.duals_, self.rows_)
        logs = X @ (own + share * self.rows_.T @ np.einsum("gd,gdi->i", self.weights_, self.duals_))
        milliseconds = np.exp(self.mean_ + logs)
        return (milliseconds, milliseconds * self._spread(X, logs)) if return_std else milliseconds

    def _spread(self, X: Floats, mean: Floats) -> Floats:
        """Of the log latency: within the hypotheses that carry weight, and between them."""
        share, variance = self.share / X.shape[1], np.zeros(len(X))
        together = share * X @ self.rows_.T
        prior = share * (X**2).sum(axis=1)
        for g, d in np.argwhere(self.weights_ > 1e-4):
            across = together + (1 - self.share) * np.outer(X[:, d], self.rows_[:, d])
            explained = ((across @ self.inverses_[g, d].T) ** 2).sum(axis=1)
            rest = np.maximum(prior + (1 - self.share) * X[:, d] ** 2 - explained, 0.0)
            variance += self.weights_[g, d] * (self.scales_[g, d] * rest + (across @ self.duals_[g, d] - mean) ** 2)
        return np.sqrt(variance)


def posterior(kernels: Floats, targets: Floats, noises: Sequence[float]) -> tuple[Floats, Floats, Floats, Floats]:
    """Gaussian processes whose scale has an inverse gamma prior, one for each kernel and noise.

    Args:
        kernels: prior covariances of the rows, shape (kernels, n, n).
        targets: centred, shape (n,).
        noises: variances of the noise, in the unit of the kernels.

    Returns:
        Inverses of the Cholesky factors, shape (noises, kernels, n, n), dual weights (noises, kernels, n), scales and log evidence, both of
        shape (noises, kernels).
    """
    n = len(targets)
    factors = np.linalg.cholesky(kernels + np.array(noises)[:, None, None, None] * np.eye(n))
    inverses = np.linalg.inv(factors)
    whitened = inverses @ targets
    duals = np.einsum("gdji,gdj->gdi", inverses, whitened)
    scales = (SCALE_PRIOR + (whitened**2).sum(-1) / 2) / (1 + n / 2)
    return inverses, duals, scales, -np.log(np.diagonal(factors, axis1=-2, axis2=-1)).sum(-1) - (1 + n / 2) * np.log(scales)


def worth_measuring(features: Floats, n: int) -> npt.NDArray[np.int64]:
    """Which networks to run on a new device: extreme ones, of which each tells something that those before it do not.

    The pivots of a QR decomposition of the features, as many as there are devices; the others at even steps through the mean latency.

    Args:
        features: of candidate networks, from `KnownDevices.transform`: shape (candidates, devices).
        n: networks wanted.

    Returns:
        Positions in the candidates, shape (n,).
    """
    pivots = qr(features.T, mode="economic", pivoting=True)[2][: min(n, features.shape[1])]
    order = np.argsort(features.mean(axis=1), kind="stable")
    order = order[~np.isin(order, pivots)]
    even = order[np.linspace(0, len(order) - 1, n - len(pivots)).round().astype(int)]
    return np.concatenate([pivots, even]).astype(np.int64)
