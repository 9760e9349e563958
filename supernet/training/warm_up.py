"""Warm-up of a supernet of many sizes: the largest is trained first, and smaller ones are let in one after another.

Guo et al., "Single Path One-Shot Neural Architecture Search with Uniform Sampling", 2019, arXiv 1904.00420, search channels on blocks that
were found before; ports that searched both at once could train such a supernet only after training blocks alone at full width. They let
widths in from the largest downwards; how fast is ours: evenly, between a half and three quarters of the epochs. Cai et al., "Once for
All", 2019, arXiv 1908.09791, train sizes in that order as well.

Bits of weights and activations are sizes, too: weights that are trained for few bits first lose what more bits could tell apart.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil

import numpy as np

from evonas.errors import UsageError
from evonas.space import Population, SearchSpace
from supernet.training.uniform import UniformPaths

SIZES = (".width", ".bits")


class WarmUp(UniformPaths):
    """One uniform path a step, of the sizes that have been let in.

    Choices whose names end in ".width" or ".bits" are sizes, their options in ascending order; all others are free from the start.

    Args:
        largest_until: share of the epochs for which only the largest size is trained.
        all_from: share of the epochs after which every size is.
        label_smoothing: of the loss.
    """

    def __init__(self, *, largest_until: float = 0.5, all_from: float = 0.75, label_smoothing: float = 0.1) -> None:
        super().__init__(label_smoothing=label_smoothing)
        self.largest_until, self.all_from = largest_until, all_from
        self._share = 0.0

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """See `Way.begin_epoch`.

        Raises:
            UsageError: too few epochs for every size to be trained.
        """
        if (epochs - 1) / epochs < self.all_from:
            fewest = ceil(1 / max(1 - self.all_from, 1e-9))
            raise UsageError(f"Warm-up lets all sizes in after {self.all_from:.0%} of {epochs} epochs; expected {fewest} or more.")
        self._share = epoch / epochs

    def paths(self, space: SearchSpace, rng: np.random.Generator) -> Population:
        """The path of the next step: shape (1, choices)."""
        return super().paths(self.opened(space, self._share), rng)

    def opened(self, space: SearchSpace, share: float) -> SearchSpace:
        """The space with the sizes that are let in after a share of the epochs.

        Raises:
            UsageError: a space without sizes.
        """
        if not any(name.endswith(SIZES) for name in space.names):
            raise UsageError(f"Warm-up needs widths or bits to choose; this space has {', '.join(space.names[:3])}, ... Use uniform paths.")
        progress = (share - self.largest_until) / max(self.all_from - self.largest_until, 1e-9)
        allowed = []
        for choice, options in zip(space.choices, space.allowed, strict=True):
            let_in = 1 if progress < 0 else 2 + int(min(progress, 1.0) * (len(options) - 2)) if len(options) > 1 else 1
            allowed.append(options[-let_in:] if choice.name.endswith(SIZES) else options)
        return replace(space, allowed=tuple(allowed))
