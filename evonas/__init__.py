"""evonas: the search. What a candidate is, how candidates are proposed, bounded, scored and remembered.

Import the names below from here; modules are the homes of their documentation. Torch is not imported.
"""

import warnings

with warnings.catch_warnings():  # in a notebook Optuna's bars, which nobody sees here, ask for ipywidgets
    warnings.filterwarnings("ignore", "IProgress not found")
    import optuna.progress_bar  # noqa: F401

from evonas.agents import AGENTS, Agents, ExponentialAgents, LeastSquaresAgents
from evonas.budget import Bound, Budget, Cost, RequestedBound
from evonas.cells import CellGrowth
from evonas.errors import UsageError
from evonas.explorers import (
    EXPLORERS,
    AgeingEvolutionExplorer,
    AgentsExplorer,
    BayesianExplorer,
    ChoiceGrowth,
    CoordinateDescentExplorer,
    DistributionExplorer,
    EvolutionExplorer,
    Explorer,
    ParetoBayesianExplorer,
    ParetoExplorer,
    ProgressiveExplorer,
    RandomExplorer,
    ScreenedExplorer,
    register_explorer,
)
from evonas.find import Found, find
from evonas.graph import Graph
from evonas.profile import check_reachable, parse_bounds, profile
from evonas.search import Fitness, SearchResult, search
from evonas.space import Architecture, Choice, Population, SearchSpace
from evonas.study import History, open_study, record, suggest
from evonas.successive_rejects import Settled, settle
from evonas.units import format_quantity, parse_quantity

__version__ = "0.1.0"
__all__ = [
    "AGENTS",
    "EXPLORERS",
    "AgeingEvolutionExplorer",
    "Agents",
    "AgentsExplorer",
    "Architecture",
    "BayesianExplorer",
    "Bound",
    "Budget",
    "CellGrowth",
    "Choice",
    "ChoiceGrowth",
    "CoordinateDescentExplorer",
    "Cost",
    "DistributionExplorer",
    "EvolutionExplorer",
    "Explorer",
    "ExponentialAgents",
    "Fitness",
    "Found",
    "Graph",
    "History",
    "LeastSquaresAgents",
    "ParetoBayesianExplorer",
    "ParetoExplorer",
    "Population",
    "ProgressiveExplorer",
    "RandomExplorer",
    "RequestedBound",
    "ScreenedExplorer",
    "SearchResult",
    "SearchSpace",
    "Settled",
    "UsageError",
    "check_reachable",
    "find",
    "format_quantity",
    "open_study",
    "parse_bounds",
    "parse_quantity",
    "profile",
    "record",
    "register_explorer",
    "search",
    "settle",
    "suggest",
]
