"""Explorers: ways of proposing candidates. One file each; `EXPLORERS` lists them with their papers.

An entry's `make(space, budget, seed)` gives an explorer with its defaults. Those that need a predictor of another room are registered
there (`predictors.explorers`). Whatever is registered is listed by
`evonas list` and run through the conformance suite (`evonas.testing`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from evonas.budget import Budget
from evonas.explorers.ageing import AgeingEvolutionExplorer
from evonas.explorers.agents import AgentsExplorer
from evonas.explorers.base import Explorer
from evonas.explorers.bayesian import BayesianExplorer
from evonas.explorers.coordinate_descent import CoordinateDescentExplorer
from evonas.explorers.distribution import DistributionExplorer
from evonas.explorers.evolution import EvolutionExplorer
from evonas.explorers.pareto import ParetoExplorer
from evonas.explorers.pareto_bayesian import ParetoBayesianExplorer
from evonas.explorers.progressive import ChoiceGrowth, ProgressiveExplorer
from evonas.explorers.random_search import RandomExplorer
from evonas.explorers.screened import ScreenedExplorer
from evonas.registry import Entry, Registry
from evonas.space import SearchSpace

__all__ = [
    "EXPLORERS",
    "AgeingEvolutionExplorer",
    "AgentsExplorer",
    "BayesianExplorer",
    "ChoiceGrowth",
    "CoordinateDescentExplorer",
    "DistributionExplorer",
    "EvolutionExplorer",
    "Explorer",
    "ParetoBayesianExplorer",
    "ParetoExplorer",
    "ProgressiveExplorer",
    "RandomExplorer",
    "ScreenedExplorer",
    "register_explorer",
]


Make = Callable[[SearchSpace, Budget, int], Explorer]
EXPLORERS: Registry[Entry[Make]] = Registry("explorer", "evonas.explorers")
"""Every explorer that is registered, by name: ours, and those of packages that name an entry point."""


def register_explorer(name: str, summary: str, paper: str, make: Make) -> None:
    """Add an explorer to `EXPLORERS`; `make(space, budget, seed)` gives one with its defaults."""
    EXPLORERS.add(Entry(name, summary, paper, make))


def _linear(space: SearchSpace) -> Any:
    """The plainest predictor: enough to begin with, and without another room of the house."""
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    encoder = OneHotEncoder(categories=[range(int(size)) for size in space.sizes], sparse_output=False)
    return make_pipeline(encoder, TransformedTargetRegressor(Ridge(), transformer=StandardScaler()))


register_explorer(
    "random", "uniform, without repetition", "Li & Talwalkar 2019, arXiv 1902.07638", lambda s, b, seed: RandomExplorer(s, b, seed=seed)
)
register_explorer(
    "evolution",
    "generations from the all-time best",
    "Guo et al. 2019, arXiv 1904.00420",
    lambda s, b, seed: EvolutionExplorer(s, b, seed=seed),
)
register_explorer(
    "ageing",
    "the oldest dies, not the worst",
    "Real et al. 2018, arXiv 1802.01548",
    lambda s, b, seed: AgeingEvolutionExplorer(s, b, seed=seed),
)
register_explorer(
    "pareto", "NSGA-II, accuracy against costs", "Deb et al. 2002, IEEE TEC 6(2)", lambda s, b, seed: ParetoExplorer(s, b, seed=seed)
)
register_explorer(
    "agents",
    "an agent a choice, told of the score of all",
    "Carlucci et al. 2019, arXiv 1909.01051",
    lambda s, b, seed: AgentsExplorer(s, b, seed=seed),
)
register_explorer(
    "screened",
    "evolution behind a predictor",
    "Dudziak et al. 2020, arXiv 2007.08668",
    lambda s, b, seed: ScreenedExplorer(EvolutionExplorer(s, b, seed=seed), _linear(s)),
)
register_explorer(
    "distribution",
    "what a learned distribution holds likely",
    "Dong & Yang 2019, arXiv 1910.05733",
    lambda s, b, seed: DistributionExplorer(s, b, seed=seed),
)
register_explorer(
    "coordinate-descent",
    "from the dearest network down to the budget",
    "Yang et al. 2021, arXiv 2104.00031",
    lambda s, b, seed: CoordinateDescentExplorer(s, b, seed=seed),
)
register_explorer(
    "progressive",
    "small first, then one choice more",
    "Liu et al. 2017, arXiv 1712.00559",
    lambda s, b, seed: ProgressiveExplorer(s, b, predictor=_linear(s), beam=16, seed=seed),
)
