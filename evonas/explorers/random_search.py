"""Uniform random search without repetition: the baseline that stands beside every search."""

from __future__ import annotations

from evonas.explorers.base import Explorer
from evonas.sampling import draw_feasible
from evonas.space import Population
from evonas.study import History


class RandomExplorer(Explorer):
    """Feasible architectures, each equally likely, none twice.

    Use it as the control of any other explorer (Li and Talwalkar, "Random Search and Reproducibility for Neural
    Architecture Search", 2019, arXiv 1902.07638: often hard to beat).

    Args:
        space: what is explored.
        budget: bounds that every proposal keeps.
        seed: seeds every generation together with its number.
        generation_size: trials drawn together; the trajectory depends on it, its quality does not.
        first: architectures to try before anything else, see `Explorer`.
    """

    def propose(self, history: History, start: int, size: int) -> Population:
        """See `Explorer.propose`."""
        return draw_feasible(self.space, self.budget, size, self.rng(start), history.before(start).keys)
