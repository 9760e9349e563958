"""Width warm-up: a supernet of many widths is trained at its widest first, and narrower ones are let in one after another.

Guo et al., "Single Path One-Shot Neural Architecture Search with Uniform Sampling", 2019, arXiv 1904.00420, search channels on blocks that
were found before; ports that searched both at once could train such a supernet only after training blocks alone at full width. They let
widths in from the largest downwards; how fast is ours: evenly, between a half and three quarters of the epochs.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil

import numpy as np

from evonas.errors import UsageError
from evonas.space import Population, SearchSpace
from supernet.training.uniform import UniformPaths

WIDTH = ".width"


class WidthWarmup(UniformPaths):
    """One uniform path a step, of the widths that have been let in.

    Choices whose name ends in ".width" are widths, their options in ascending order; all others are free from the start.

    Args:
        widest_until: share of the epochs for which only the largest width is trained.
        all_from: share of the epochs after which every width is.
        label_smoothing: of the loss.
    """

    def __init__(self, *, widest_until: float = 0.5, all_from: float = 0.75, label_smoothing: float = 0.1) -> None:
        super().__init__(label_smoothing=label_smoothing)
        self.widest_until, self.all_from = widest_until, all_from
        self._share = 0.0

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """See `Way.begin_epoch`.

        Raises:
            UsageError: too few epochs for every width to be trained.
        """
        if (epochs - 1) / epochs < self.all_from:
            fewest = ceil(1 / max(1 - self.all_from, 1e-9))
            raise UsageError(f"Width warm-up lets all widths in after {self.all_from:.0%} of {epochs} epochs; expected {fewest} or more.")
        self._share = epoch / epochs

    def paths(self, space: SearchSpace, rng: np.random.Generator) -> Population:
        """The path of the next step: shape (1, choices)."""
        return super().paths(self.opened(space, self._share), rng)

    def opened(self, space: SearchSpace, share: float) -> SearchSpace:
        """The space with the widths that are let in after a share of the epochs.

        Raises:
            UsageError: a space without widths.
        """
        if not any(name.endswith(WIDTH) for name in space.names):
            raise UsageError(f"Width warm-up needs a space with widths; this one has {', '.join(space.names[:3])}, ... Use uniform paths.")
        progress = (share - self.widest_until) / max(self.all_from - self.widest_until, 1e-9)
        allowed = []
        for choice, options in zip(space.choices, space.allowed, strict=True):
            let_in = 1 if progress < 0 else 2 + int(min(progress, 1.0) * (len(options) - 2)) if len(options) > 1 else 1
            allowed.append(options[-let_in:] if choice.name.endswith(WIDTH) else options)
        return replace(space, allowed=tuple(allowed))
