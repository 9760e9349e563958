"""Uniform single-path training: every step draws one path, each equally likely, and trains nothing else.

Guo et al., "Single Path One-Shot Neural Architecture Search with Uniform Sampling", 2019, arXiv 1904.00420.
"""

from __future__ import annotations

import numpy as np

from evonas.space import Population, SearchSpace
from supernet.training.paths import PathWay
from supernet.training.registry import way


@way("uniform", summary="one uniform path a step", paper="Guo et al. 2019, arXiv 1904.00420")
class UniformPaths(PathWay):
    """One uniform path a step, cross-entropy with label smoothing.

    Args:
        label_smoothing: of the loss; the paper's.
    """

    def paths(self, space: SearchSpace, rng: np.random.Generator) -> Population:
        """The path of the next step: shape (1, choices)."""
        return space.sample(1, rng)
