"""How well scores rank networks: the measures by which a supernet, a predictor or a cheap score is judged.

Kendall's tau over all networks, with its bootstrap interval and the band in which chance keeps it; the measures that look at
the best networks only; the stability of several rankings; and the ceiling that the truth's own noise sets. From Zhang et al., "Deeper
Insights into Weight Sharing in Neural Architecture Search", 2020, arXiv 2001.01431 (S-Tau, the true rank of the best n predicted), Yu et
al., "Evaluating the Search Phase of Neural Architecture Search", 2019, arXiv 1902.08142 (sparse tau), and White et al., "How Powerful are
Performance Predictors in Neural Architecture Search?", 2021, arXiv 2104.01177 (precision and correlation at the top).

Everywhere `predicted` and `truth` have shape (n,), higher is better, and a `share` in (0, 1] means the best max(round(share n), 1)
networks; of equal ones those that come first in the array.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau, spearmanr

from evonas.errors import UsageError

Floats = npt.NDArray[np.float64]
SHARES = (0.01, 0.05, 0.1)
BEST_OF = (1, 5, 10, 50)
TOP = 0.1
DRAWS = 1000


def tau(predicted: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Kendall's tau-b in [-1, 1]; NaN where one side is constant or holds fewer than two networks."""
    if np.size(predicted) < 2:
        return float("nan")
    return float(kendalltau(predicted, truth).statistic)


def mean_accuracy(runs: npt.ArrayLike) -> Floats:
    """The mean over trainings, shape (n, runs) to (n,), to nine digits: equal sums of the same counts of images stay equal."""
    return np.asarray(np.asarray(runs, dtype=np.float64).mean(axis=1).round(9))


def null_band(n: int) -> float:
    """Half-width of the interval in which tau of n random rankings lies 95 times of 100: 1.96 sqrt(2 (2n + 5) / (9 n (n - 1)))."""
    return float(1.96 * np.sqrt(2 * (2 * n + 5) / (9 * n * (n - 1))))


def bootstrap(
    predicted: Floats, truth: Floats, measure: Callable[[Floats, Floats], float] = tau, *, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float]:
    """The 95 % interval of a measure over networks drawn again with replacement."""
    rng, n = np.random.default_rng(seed), len(truth)
    values = [measure(predicted[rows], truth[rows]) for rows in (rng.integers(n, size=n) for _ in range(draws))]
    low, high = np.nanquantile(values, [0.025, 0.975]) if np.isfinite(values).any() else (np.nan, np.nan)
    return float(low), float(high)


def sparse_tau(predicted: Floats, truth: Floats, delta: float) -> float:
    """Tau against the truth in steps of `delta`, so that differences within its noise do not count."""
    return tau(predicted, np.floor(truth / delta) if delta > 0 else truth)


def best(scores: Floats, share: float) -> npt.NDArray[np.bool_]:
    """Mask of the best share of the networks."""
    mask = np.zeros(len(scores), dtype=bool)
    mask[np.argsort(-np.asarray(scores), kind="stable")[: max(round(share * len(scores)), 1)]] = True
    return mask


def precision(predicted: Floats, truth: Floats, share: float) -> float:
    """How much of the predicted best share is in the true best share."""
    chosen = best(predicted, share)
    return float((chosen & best(truth, share)).sum() / chosen.sum())


def recall_of_worst(predicted: Floats, truth: Floats, share: float = TOP) -> float:
    """How much of the true worst share is in the predicted worst share."""
    return precision(-truth, -predicted, share)


def tau_within(predicted: Floats, truth: Floats, by: Floats, share: float = TOP) -> float:
    """Tau among the best share by one of the two: inside the true top, or inside the predicted one."""
    inside = best(by, share)
    return tau(predicted[inside], truth[inside])


def true_rank(predicted: Floats, truth: Floats, n: int, *, worst: bool = False) -> float:
    """The best (or worst) true rank among the n networks predicted best; 1 is the best of all. TnR of Zhang et al.

    Networks that are predicted equal are taken in the order of the array; equal truths share the better rank.
    """
    chosen = np.argsort(-predicted, kind="stable")[:n]
    ranks = 1 + (truth[None, :] > truth[chosen, None]).sum(axis=1)
    return float(ranks.max() if worst else ranks.min())


def regret(predicted: Floats, truth: Floats) -> float:
    """How much the network predicted best falls short of the true best, in units of the truth."""
    return float(truth.max() - truth[predicted.argmax()])


def stability(rankings: npt.ArrayLike) -> float:
    """S-Tau: the mean tau between two of several score vectors; shape (runs, n). NaN for fewer than two runs."""
    pairs = [tau(first, second) for first, second in combinations(np.asarray(rankings, dtype=np.float64), 2)]
    return float(np.mean(pairs)) if pairs else float("nan")


def noise_ceiling(runs: Floats, share: float = 1.0) -> float:
    """Tau between one training of every network and the mean of its other trainings: nothing that is judged by one training can do better.

    Args:
        runs: accuracies, shape (n, runs).
        share: among the best share by the mean of the others.

    Returns:
        The mean over the runs; NaN where there are fewer than two.
    """
    if runs.shape[1] < 2:
        return float("nan")
    others = [mean_accuracy(np.delete(runs, one, axis=1)) for one in range(runs.shape[1])]
    return float(np.mean([tau_within(runs[:, one], rest, rest, share) for one, rest in enumerate(others)]))


def noise(runs: Floats) -> float:
    """Standard deviation of a network's accuracy between its trainings, pooled over the networks; 0 where each was trained once."""
    return float(np.sqrt(runs.var(axis=1, ddof=1).mean())) if runs.shape[1] > 1 else 0.0


def judge(predicted: Floats, runs: Floats, *, draws: int = DRAWS) -> dict[str, Any]:
    """Everything that one score vector can be told about a truth.

    Args:
        predicted: shape (n,).
        runs: accuracies of the networks trained on their own, shape (n, runs).
        draws: of the bootstrap.

    Returns:
        Plain data: tau with `interval` and `null_band`, spearman, sparse_tau with its `delta` (two standard deviations of the
        truth's noise), taus inside the true and the predicted top tenth (of `top_networks`; below some twenty they say little),
        and, by share or by number, precision, best and worst true ranks as fractions of n, regret in percentage points, recall of
        the worst tenth.

    Raises:
        UsageError: shapes that do not fit, fewer than three networks, or scores that are not finite.
    """
    if runs.ndim != 2 or predicted.shape != (len(runs),) or len(runs) < 3:
        raise UsageError(f"Got scores {predicted.shape} and accuracies {runs.shape}; expected (n,) and (n, runs) of at least 3 networks.")
    if not (np.isfinite(predicted).all() and np.isfinite(runs).all()):
        raise UsageError("Scores or accuracies are not all finite numbers; expected one for each network.")
    truth, n = mean_accuracy(runs), len(runs)
    delta = 2 * noise(runs)
    return {
        "n": n,
        "tau": tau(predicted, truth),
        "interval": list(bootstrap(predicted, truth, draws=draws)),
        "null_band": null_band(n),
        "spearman": float(spearmanr(predicted, truth).statistic),
        "sparse_tau": sparse_tau(predicted, truth, delta),
        "delta": delta,
        "top_networks": int(best(truth, TOP).sum()),
        "tau_in_true_top": tau_within(predicted, truth, truth),
        "tau_in_predicted_top": tau_within(predicted, truth, predicted),
        "precision": {f"{share:g}": precision(predicted, truth, share) for share in SHARES},
        "best_rank": {str(k): true_rank(predicted, truth, k) / n for k in BEST_OF if k <= n},
        "worst_rank": {str(k): true_rank(predicted, truth, k, worst=True) / n for k in BEST_OF if k <= n},
        "regret_points": 100 * regret(predicted, truth),
        "recall_of_worst": recall_of_worst(predicted, truth),
    }
