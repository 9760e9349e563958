"""A predictor in front of another explorer: draw many candidates, evaluate the few that look best.

The scheme of Dudziak et al., "BRP-NAS: Prediction-based NAS using GCNs", 2020, arXiv 2007.08668, and of many before it, with
the pool drawn by an explorer rather than listed, so that it serves spaces of any size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from evonas.explorers.base import Explorer, require
from evonas.space import Architecture, Population
from evonas.study import History


class Predictor(Protocol):
    """A scikit-learn regressor of scores; pipelines are."""

    def fit(self, X: Any, y: Any) -> Any: ...

    def predict(self, X: Any) -> Any: ...

    def get_params(self, deep: bool = True) -> dict[str, Any]: ...


class ScreenedExplorer(Explorer):
    """Ranks a large pool of another explorer's proposals with a predictor that is fitted anew for every generation.

    Use it when a fitness evaluation costs more than a few milliseconds. Until `warm_up` trials are scored, the other
    explorer's proposals pass unscreened.

    Args:
        explorer: draws the pool; its space, budget and seed are used.
        predictor: a scikit-learn regressor, fitted on (population, scores); it is cloned, never changed.
        generation_size: trials chosen together out of one pool.
        pool: proposals drawn for a generation.
        exploration: share of a generation that is taken at random from the pool, whatever the predictor says.
        warm_up: scored trials before the predictor is asked.
        first: architectures to try before anything else, see `Explorer`.
    """

    def __init__(
        self,
        explorer: Explorer,
        predictor: Predictor,
        *,
        generation_size: int = 50,
        pool: int = 1000,
        exploration: float = 0.1,
        warm_up: int = 50,
        first: Sequence[Architecture] | Population = (),
    ) -> None:
        require(type(self), at_least_one={"generation_size": generation_size, "pool": pool}, probability={"exploration": exploration})
        super().__init__(
            explorer.space, explorer.budget, seed=explorer.seed, generation_size=generation_size, first=list(first) or explorer.first
        )
        self.explorer = explorer
        self.predictor = predictor
        self.pool = pool
        self.exploration = exploration
        self.warm_up = warm_up

    def propose(self, history: History, start: int, size: int) -> Population:
        """See `Explorer.propose`. The pool is the other explorer's generation, so it is feasible and new already."""
        from sklearn.base import clone

        history = history.before(start)
        scored = history.scored
        if len(scored) < max(self.warm_up, 2):
            return self.explorer.propose(history, start, size)
        pool = self.explorer.propose(history, start, max(self.pool, size))
        predictor = clone(self.predictor).fit(history.population[scored], history.scores[scored])
        ranked = np.argsort(-np.asarray(predictor.predict(pool)), kind="stable")
        best = ranked[: size - int(self.exploration * size)]
        others = np.random.default_rng([self.seed, start, 1]).permutation(np.setdiff1d(ranked, best))
        return pool[np.concatenate([best, others])[:size]]


def foretold(history: History, predictor: Predictor, generation: int = 50) -> list[tuple[float, float]]:
    """(predicted, measured) of every trial after the first generation, predicted from the generations before it."""
    from sklearn.base import clone

    pairs: list[tuple[float, float]] = []
    scored = np.isfinite(history.scores)
    for start in range(generation, len(history), generation):
        before, now = scored.copy(), scored.copy()
        before[start:] = False
        now[:start] = now[start + generation :] = False
        if before.sum() >= 2 and now.any():
            fitted = clone(predictor).fit(history.population[before], history.scores[before])
            pairs += zip(fitted.predict(history.population[now]).tolist(), history.scores[now].tolist(), strict=True)
    return pairs
