"""FLASH: the network of most accuracy for its latency, energy and area, all from formulas, found in a fraction of a second.

Li, Mandal, Ogras and Marculescu, "FLASH: Fast Neural Architecture Search with Hardware Optimization", 2021, arXiv 2108.00568. Maximises
`accuracy / (latency * energy * area)` under bounds; minimised as its negative logarithm, which has the same optimum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evonas.budget import Budget
from evonas.errors import UsageError
from evonas.space import Population, SearchSpace
from predictors.flash.two_level import Optimum, two_level_search

Floats = npt.NDArray[np.float64]

ACCURACY = "accuracy"


@dataclass(frozen=True)
class PredictedAccuracy:
    """A predictor as a cost, so that a budget can bound it from below.

    Attributes:
        model: a fitted regressor over populations.
    """

    model: Any
    unit: str = ""

    def __call__(self, population: Population) -> Floats:
        """The prediction for every row: shape (n,)."""
        return np.asarray(self.model.predict(population), dtype=np.float64)


def require_accuracy_bound(bounded_below: Iterable[str]) -> None:
    """Refuse to weigh accuracy against costs alone.

    Args:
        bounded_below: names of the costs that have a lower bound.

    Raises:
        UsageError: `accuracy` is not among them.
    """
    if ACCURACY not in bounded_below:
        raise UsageError(
            "Accuracy per cost needs a lower bound on accuracy: costs shrink by orders of magnitude where accuracy loses a few points, so "
            "without a bound the smallest network always wins. Add one, for example accuracy=0.7.. or accuracy=80%.. (of random networks)."
        )


def accuracy_per_cost(costs: Sequence[str]) -> Callable[[Mapping[str, Floats]], Floats]:
    """The objective: `-log(accuracy / product of costs)`, from values by name; all of shape (n,)."""

    def value(values: Mapping[str, Floats]) -> Floats:
        logs = {name: np.log(np.maximum(values[name], 1e-12)) for name in (ACCURACY, *costs)}
        return np.asarray(sum(logs[name] for name in costs) - logs[ACCURACY])

    return value


def flash_search(space: SearchSpace, budget: Budget, costs: Sequence[str], **settings: Any) -> Optimum:
    """The best network of a space of ordered options.

    Args:
        space: of the architectures.
        budget: knows `accuracy` and every name in `costs`; bounds `accuracy` from below.
        costs: what accuracy is divided by, out of latency, energy and area.
        settings: of `two_level_search`.

    Raises:
        UsageError: accuracy has no lower bound, or nothing keeps all bounds.
    """
    require_accuracy_bound([bound.cost for bound in budget.bounds if bound.lower > 0])
    return two_level_search(space, budget, accuracy_per_cost(costs), **settings)
