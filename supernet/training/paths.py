"""What ways that train paths have in common: a step over one or several paths of a supernet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn.functional import cross_entropy

from evonas.errors import UsageError
from evonas.space import Population, SearchSpace
from supernet.data import Batch
from supernet.training.way import Losses, Moment, Way

MOST_DRAWS = 1000


def connected(space: SearchSpace, draw: Callable[[], Population]) -> Population:
    """The first path drawn that leads from the input to the output, where the space says how its choices are wired: shape (1, choices).

    Raises:
        UsageError: a thousand draws brought none.
    """
    for _ in range(MOST_DRAWS):
        path = draw()
        if space.graph is None or space.graph.connects((choice.options for choice in space.choices), path)[0]:
            return path
    raise UsageError(f"None of {MOST_DRAWS} random paths leads from the input to the output; expected a space that allows some.")


class PathWay(Way):
    """Draws the paths of every step; its loss is the sum of their cross-entropies, as if their gradients were added.

    Args:
        label_smoothing: of the loss.
    """

    def __init__(self, *, label_smoothing: float = 0.1) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def paths(self, space: SearchSpace, rng: np.random.Generator) -> Population:
        """The paths of the next step: shape (k, choices)."""
        raise NotImplementedError(f"{type(self).__name__} has no method `paths`.")

    def opened(self, space: SearchSpace, moment: Moment) -> SearchSpace:
        """The part of the space that is trained at a moment; all of it unless a way says otherwise."""
        return space

    def step(self, network: Any, batch: Batch, moment: Moment, rng: np.random.Generator) -> Tensor | Losses:
        """See `Way.step`; `network` is a supernet."""
        images, labels = batch
        paths = self.paths(self.opened(network.space, moment), rng)
        losses = [cross_entropy(network(images, path).float(), labels, label_smoothing=self.label_smoothing) for path in paths]
        return sum(losses[1:], losses[0])
