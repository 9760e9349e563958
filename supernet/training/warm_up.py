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

from evonas.errors import UsageError
from evonas.space import SearchSpace
from supernet.training.registry import way
from supernet.training.uniform import UniformPaths
from supernet.training.way import Moment

SIZES = (".width", ".bits")


@way("warm-up", summary="one path, the largest sizes first", paper="Guo et al. 2019, arXiv 1904.00420")
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

    def check(self, space: SearchSpace | None, epochs: int) -> None:
        """See `Way.check`.

        Raises:
            UsageError: a space without sizes, or too few epochs for every size to be trained.
        """
        if space is not None:
            self._require_sizes(space)
        if (epochs - 1) / epochs < self.all_from:
            fewest = ceil(1 / max(1 - self.all_from, 1e-9))
            raise UsageError(f"Warm-up lets all sizes in after {self.all_from:.0%} of {epochs} epochs; expected {fewest} or more.")

    def opened(self, space: SearchSpace, moment: Moment) -> SearchSpace:
        """The space with the sizes that are let in at an epoch.

        Raises:
            UsageError: a space without sizes.
        """
        self._require_sizes(space)
        progress = (moment.epoch / moment.epochs - self.largest_until) / max(self.all_from - self.largest_until, 1e-9)
        allowed = []
        for choice, options in zip(space.choices, space.allowed, strict=True):
            let_in = 1 if progress < 0 else 2 + int(min(progress, 1.0) * (len(options) - 2)) if len(options) > 1 else 1
            allowed.append(options[-let_in:] if choice.name.endswith(SIZES) else options)
        return replace(space, allowed=tuple(allowed))

    @staticmethod
    def _require_sizes(space: SearchSpace) -> None:
        if not any(name.endswith(SIZES) for name in space.names):
            raise UsageError(f"Warm-up needs widths or bits to choose; this space has {', '.join(space.names[:3])}, ... Use uniform paths.")
