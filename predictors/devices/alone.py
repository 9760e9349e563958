"""Latency of a new device from about ten networks measured on it, where no other device is known: what this host says, and counts.

The host's own table (measured blocks) is the known device: the log latency of the new one is a straight line over the host's. Where they
differ, it is mostly by operation: one runs depthwise convolutions badly, another pays for every layer. How often each option is taken is
therefore weighed beside the host's table. How much it may say is not known beforehand: each of a few weights is a hypothesis, which
the measurements give its Bayesian evidence, and the prediction is the average, as in `predictors.devices.transfer`, whose method it is.

Of 15,625 real cells on eight devices that are not like this host, ten measurements give a Spearman correlation of .94, where a ridge
regression over the options gives .52, the host's table alone .90 and multiply-accumulates alone .84 (docs/evidence/phone.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from evonas.budget import Cost
from evonas.space import SearchSpace
from predictors.accuracy.encoding import option_columns, option_counts
from predictors.devices.transfer import posterior

Floats = npt.NDArray[np.float64]

REFERENCE_SAMPLE = 1000


class LikeThisHost(RegressorMixin, BaseEstimator):
    """Milliseconds on a device from what this host takes for the same networks and from counts of options.

    Args:
        space: of the architectures.
        host: milliseconds of this host, a cost over the space.
        weights: prior variances of what counts of options say, as shares of that of the host's table, which are weighed.
        noises: variances of the noise that are weighed, in the same unit.
    """

    def __init__(
        self,
        space: SearchSpace,
        host: Cost,
        *,
        weights: Sequence[float] = (0.0, 0.03, 0.1, 0.3, 1.0),
        noises: Sequence[float] = (0.0003, 0.003, 0.03, 0.3),
    ) -> None:
        self.space = space
        self.host = host
        self.weights = weights
        self.noises = noises

    def fit(self, X: Any, y: Any) -> LikeThisHost:
        """Weigh the hypotheses.

        Args:
            X: shape (n, choices).
            y: milliseconds on the new device, shape (n,), positive.

        Attributes:
            slopes_: of the log latency over the features, the average of all hypotheses, shape (features,).

        Raises:
            ValueError: a latency is not positive.
        """
        X, y = np.asarray(X, dtype=np.int64), np.asarray(y, dtype=np.float64)
        if not (y > 0).all():
            raise ValueError("latencies must be positive milliseconds")
        sampled = self._columns(self.space.sample(REFERENCE_SAMPLE, np.random.default_rng(0)))
        self.scales_ = tuple(1 / np.sqrt(max(float(part.var(axis=0).sum()), 1e-12)) for part in sampled)
        host, counts = (part * scale for part, scale in zip(self._columns(X), self.scales_, strict=True))
        self.centre_, self.mean_ = np.concatenate([host.mean(axis=0), counts.mean(axis=0)]), float(np.log(y).mean())
        rows = np.concatenate([host, counts], axis=1) - self.centre_
        spreads = np.array([[1.0] * host.shape[1] + [weight] * counts.shape[1] for weight in self.weights])
        kernels = np.einsum("hf,if,jf->hij", spreads, rows, rows)
        _, duals, _, evidence = posterior(kernels, np.log(y) - self.mean_, self.noises)
        shares = np.exp(evidence - evidence.max())
        self.slopes_ = np.einsum("gh,hf,ghi,if->f", shares / shares.sum(), spreads, duals, rows)
        return self

    def predict(self, X: Any) -> Floats:
        """Milliseconds, shape (n,)."""
        check_is_fitted(self)
        parts = self._columns(np.asarray(X, dtype=np.int64))
        rows = np.concatenate([part * scale for part, scale in zip(parts, self.scales_, strict=True)], axis=1) - self.centre_
        return np.asarray(np.exp(self.mean_ + rows @ self.slopes_))

    def _columns(self, population: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
        """The log latency of this host, and counts of options; of a space whose choices share none, the options themselves."""
        population = self.space.canonical(population)
        counts = option_counts(self.space, population)
        if counts.shape[1] == 0:
            counts = np.concatenate(option_columns(self.space, population), axis=1)
        return np.log(np.asarray(self.host(population), dtype=np.float64))[:, None], counts
