"""Subspaces that evolve: a few options of every choice at a time, of which those in Pareto-optimal networks stay, and new ones follow.

Ci et al., "Evolving Search Space for Neural Architecture Search", 2021, arXiv 2011.10904. Every layer keeps what the members of the front
use there, and fills up with operators that it has not tried, in a random order that is drawn once. Where a layer keeps as many as there is
room for, nothing new enters; how many were never tried is therefore counted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Members = npt.NDArray[np.bool_]  # shape (n, layers, operators): what every network uses


@dataclass(frozen=True)
class Subspaces:
    """Where an evolution of subspaces stands.

    Attributes:
        size: operators of a layer at a time (K).
        current: those of every layer.
        kept: those that a front has used, in every layer; part of `current`.
        pending: those that were not tried yet, in the order in which they will be.
    """

    size: int
    current: tuple[tuple[int, ...], ...]
    kept: tuple[tuple[int, ...], ...]
    pending: tuple[tuple[int, ...], ...]

    def allowed(self, operators: int) -> npt.NDArray[np.bool_]:
        """The current operators as a mask of shape (layers, operators)."""
        mask = np.zeros((len(self.current), operators), dtype=bool)
        for layer, kept in enumerate(self.current):
            mask[layer, list(kept)] = True
        return mask

    @property
    def never_tried(self) -> int:
        """Operators that no layer's subspace has held, added up over layers."""
        return sum(map(len, self.pending))

    def evolved(self, front: Members) -> Subspaces:
        """The next subspaces: what the front uses, and then what comes next.

        Args:
            front: its members, which use current operators alone.
        """
        kept = tuple(tuple(np.flatnonzero(front[:, layer].any(axis=0)).tolist()) for layer in range(len(self.current)))
        room = [max(self.size - len(each), 0) for each in kept]
        current = tuple(each + pending[:n] for each, pending, n in zip(kept, self.pending, room, strict=True))
        return replace(self, current=current, kept=kept, pending=tuple(p[n:] for p, n in zip(self.pending, room, strict=True)))

    def continued(self, known: int, operators: int, rng: np.random.Generator) -> Subspaces:
        """The same in a larger pool: what is kept stays, and only what is new is pending, in an order that is drawn.

        Args:
            known: operators of the pool so far, which are the first ones of the larger pool.
            operators: of the larger pool.
            rng: draws the order.
        """
        order = [tuple((known + rng.permutation(operators - known)).tolist()) for _ in self.current]
        room = [max(self.size - len(each), 0) for each in self.kept]
        current = tuple(each + new[:n] for each, new, n in zip(self.kept, order, room, strict=True))
        return replace(self, current=current, pending=tuple(new[n:] for new, n in zip(order, room, strict=True)))


def first_subspaces(layers: int, operators: int, size: int, rng: np.random.Generator) -> Subspaces:
    """The first `size` operators of an order that is drawn for every layer."""
    order = [tuple(rng.permutation(operators).tolist()) for _ in range(layers)]
    return Subspaces(size, tuple(each[:size] for each in order), ((),) * layers, tuple(each[size:] for each in order))
