"""The optimisation gap: how far scores with shared weights are from what networks score on their own, and where the difference lies.

Zhang et al., "Deeper Insights into Weight Sharing in Neural Architecture Search", 2020, arXiv 2001.01431, and Xie et al.,
"Weight-Sharing Neural Architecture Search: A Battle to Shrink the Optimization Gap", 2020, arXiv 2008.01475. `diagnose` puts into one
piece of plain data what a ranking is worth (`evonas.ranking`), how stable it is, whether anything cheaper ranks as well, which options
and costs it over- or underrates, and which cause of the gap weighs most (`supernet.diagnosis.causes`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from scipy.stats import rankdata, spearmanr

from evonas.errors import UsageError
from evonas.ranking import TOP, Floats, best, bootstrap, judge, mean_accuracy, noise_ceiling, stability, tau, tau_within
from evonas.space import Population, SearchSpace

FEWEST = 50
HISTOGRAM_SHARE = 0.01
CEILINGS = (1.0, 0.1, 0.05)


@dataclass(frozen=True)
class Truth:
    """What networks score when each is trained on its own.

    Attributes:
        population: the networks, shape (n, choices).
        runs: their accuracies in [0, 1], one column a training, shape (n, runs).
        source: a table, or the trainings that were made.
    """

    population: Population
    runs: Floats
    source: str

    @property
    def mean(self) -> Floats:
        """Mean over the trainings, shape (n,)."""
        return mean_accuracy(self.runs)

    def rows(self, rows: Any) -> Truth:
        """Some of the networks."""
        return Truth(self.population[rows], self.runs[rows], self.source)


@dataclass(frozen=True)
class Cause:
    """One cause of the gap, present and removed.

    Attributes:
        name: such as "A fairness".
        present, removed: what was compared, in a few words.
        tau_present, tau_removed: with the truth, of the same networks.
        interval: 95 % bootstrap interval of the difference.
        networks: how many.
        details: further figures by name.
    """

    name: str
    present: str
    removed: str
    tau_present: float
    tau_removed: float
    interval: tuple[float, float]
    networks: int
    details: Mapping[str, Any] = field(default_factory=dict)


def compared(
    name: str,
    present: tuple[str, Floats, Floats],
    removed: tuple[str, Floats, Floats],
    details: Mapping[str, Any] | None = None,
) -> Cause:
    """A cause from (what it is, scores, truth) with it present and with it removed; all of shape (m,)."""
    values = np.stack([present[1], present[2], removed[1], removed[2]], axis=1)
    interval = bootstrap(values, values, lambda v, _: tau(v[:, 2], v[:, 3]) - tau(v[:, 0], v[:, 1]), draws=500)
    taus = tau(present[1], present[2]), tau(removed[1], removed[2])
    return Cause(name, present[0], removed[0], *taus, interval, len(values), details or {})


@dataclass(frozen=True)
class Repeated:
    """Scores of the same networks from several supernets, epochs or steps.

    Attributes:
        scores: shape (k, m).
        rows: which networks of the truth they are, shape (m,).
    """

    scores: Floats
    rows: np.ndarray


def diagnose(
    space: SearchSpace,
    truth: Truth,
    shared: Floats,
    *,
    baselines: Mapping[str, Floats],
    features: Mapping[str, Floats],
    variants: Mapping[str, Floats] | None = None,
    repeated: Mapping[str, Repeated] | None = None,
    causes: Sequence[Cause] = (),
) -> dict[str, Any]:
    """The whole diagnosis as plain data: what the recipe `gap` writes and draws.

    Args:
        space: of the networks.
        truth: at least 50 networks, so that tau means something (its standard deviation is .08 at 50).
        shared: accuracies in [0, 1] with shared weights, shape (n,).
        baselines: scores that cost little, by name, higher is better, shape (n,); what the supernet has to beat.
        features: numbers of a network (MACs, layers) whose bias is looked for, shape (n,).
        variants: other scores with the same shared weights, by name, shape (n,); judged like `shared`.
        repeated: by name ("seeds", "epochs", "steps").
        causes: measured by `supernet.diagnosis.causes`.

    Returns:
        Plain data without NaN: None stands for what cannot be known, such as the noise of a truth of one training. The largest
        cause is named only among those whose interval lies above 0.

    Raises:
        UsageError: fewer than 50 networks, or scores that do not fit them.
    """
    if len(truth.population) < FEWEST:
        raise UsageError(f"Got {len(truth.population)} networks; expected at least {FEWEST}: below, chance alone moves tau by .15 or more.")
    own = judge(shared, truth.runs)
    effects = {cause.name: cause.tau_removed - cause.tau_present for cause in causes}
    beyond_noise = {cause.name: effects[cause.name] for cause in causes if cause.interval[0] > 0}
    found = {
        "truth": {
            "source": truth.source,
            "networks": len(truth.population),
            "trainings": truth.runs.shape[1],
            "ceiling": {f"{share:g}": noise_ceiling(truth.runs, share) for share in CEILINGS},
        },
        "supernet": own,
        "variants": {name: judge(scores, truth.runs) for name, scores in (variants or {}).items()},
        "baselines": {name: _baseline(scores, shared, truth) for name, scores in baselines.items()},
        "stability": {name: _stability(found, truth) for name, found in (repeated or {}).items()},
        "profile": profile(space, truth, shared, features),
        "causes": [asdict(cause) | {"effect": effects[cause.name]} for cause in causes],
        "largest_cause": max(beyond_noise, key=lambda name: beyond_noise[name]) if beyond_noise else None,
    }
    plain: dict[str, Any] = _without_nan(found)
    return plain


def profile(space: SearchSpace, truth: Truth, shared: Floats, features: Mapping[str, Floats]) -> dict[str, Any]:
    """Where shared weights are wrong.

    Returns:
        gap_points: mean and standard deviation of accuracy alone minus accuracy shared, in percentage points.
        options: for every choice and option, by how many percentiles the ranking overrates the networks that take it, others equal
            (least squares on all options, each choice's effects centred on the networks' own mix).
        features: Spearman correlation of a feature with that overrating; positive where large values are overrated.
        top_options: share of each option among the best hundredth predicted, and among the truly best.
    """
    n = len(shared)
    overrated = 100 * (rankdata(shared) - rankdata(truth.mean)) / n
    gap = 100 * (truth.mean - shared)
    columns, taken = [], []
    for i, choice in enumerate(space.choices):
        for option in range(len(choice.options)):
            mask = truth.population[:, i] == option
            columns.append(mask - mask.mean())
            taken.append(bool(mask.any()))
    effects = np.linalg.lstsq(np.stack(columns, axis=1), overrated, rcond=None)[0]
    chosen = {"predicted": best(shared, HISTOGRAM_SHARE), "true": best(truth.mean, HISTOGRAM_SHARE)}
    options: dict[str, dict[str, float | None]] = {}
    top: dict[str, dict[str, dict[str, float]]] = {}
    at = iter(zip(effects.tolist(), taken, strict=True))
    for i, choice in enumerate(space.choices):
        raw = [next(at) for _ in choice.options]
        share = [float((truth.population[:, i] == option).mean()) for option in range(len(choice.options))]
        centre = sum(effect * weight for (effect, _), weight in zip(raw, share, strict=True))
        options[choice.name] = {o: effect - centre if seen else None for o, (effect, seen) in zip(choice.options, raw, strict=True)}
        top[choice.name] = {
            option: {name: float((truth.population[mask, i] == index).mean()) for name, mask in chosen.items()}
            for index, option in enumerate(choice.options)
        }
    return {
        "gap_points": {"mean": float(gap.mean()), "sd": float(gap.std())},
        "options": options,
        "features": {name: _spearman(values, overrated) for name, values in features.items()},
        "top_options": top,
    }


def _baseline(scores: Floats, shared: Floats, truth: Truth) -> dict[str, Any]:
    """A baseline, and by how much the supernet is ahead of it: the bootstrap interval of the difference on the same networks.

    Where less of it is better on these networks, the supernet has to beat that: what it is held against is the better direction.
    """
    signed = tau(scores, truth.mean)
    scores = -scores if signed < 0 else scores
    ahead = bootstrap(np.stack([shared, scores], axis=1), truth.mean, lambda both, true: tau(both[:, 0], true) - tau(both[:, 1], true))
    return {
        "tau": signed,
        "tau_in_true_top": tau_within(scores, truth.mean, truth.mean, TOP) * (-1 if signed < 0 else 1),
        "supernet_ahead": list(ahead),
    }


def _stability(found: Repeated, truth: Truth) -> dict[str, Any]:
    taus = [tau(scores, truth.mean[found.rows]) for scores in found.scores]
    return {
        "runs": len(taus),
        "networks": len(found.rows),
        "s_tau": stability(found.scores),
        "gt_tau_mean": float(np.mean(taus)),
        "gt_tau_std": float(np.std(taus)),
        "gt_taus": taus,
    }


def _without_nan(value: Any) -> Any:
    """Plain data in which None stands for what is not a number, which JSON has no word for."""
    if isinstance(value, Mapping):
        return {key: _without_nan(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _spearman(values: Floats, overrated: Floats) -> float | None:
    return float(spearmanr(values, overrated).statistic) if np.ptp(values) > 0 else None
