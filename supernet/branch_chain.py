"""Layers of several operators side by side, and how sets of operators are choices.

Ci et al., "Evolving Search Space for Neural Architecture Search", 2021, arXiv 2011.10904: a layer runs any set P of operators and is the
mean of what they make and, where the shape stays, of what comes in: (x + sum of p(x)) / (|P| + 1). An empty set leaves the layer out; where
the shape changes it is not allowed.

Departure: a layer has at most so many branches, each of which is a choice of an operator or none. A canonical architecture has every
operator once, in their order, and the empty branches behind them; so sets are what all explorers, costs and studies know as choices, an
empty set where it is not allowed cannot be written down, and one branch is a space of single operators.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from evonas.space import Choice, Population, SearchSpace
from supernet.blocks import Block, Part, Shape, registered, require_options
from supernet.branch_operators import NONE
from supernet.chain import ChainSupernet
from supernet.slicing import plain

Sets = npt.NDArray[np.bool_]  # shape (n, layers, operators)


class Branched(nn.Module):
    """The mean of what operators make, and of what comes in where that is counted.

    Args:
        operators: at least one.
        residual: count what comes in.
    """

    def __init__(self, operators: Sequence[nn.Module], residual: bool) -> None:
        super().__init__()
        self.operators, self.residual = nn.ModuleList(operators), residual

    def forward(self, x: Tensor) -> Tensor:
        made = [operator(x) for operator in self.operators]
        total = sum(made[1:], made[0])
        return (total + x) / (len(made) + 1) if self.residual else total / len(made)


class BranchBlock(Block):
    """A layer of several branches.

    Args:
        name: as in `Block`.
        reads: one choice a branch; its options are the operators, and none behind them.
        operators: modules by name, in the order of the options.
        residual: whether the shape stays: what comes in is counted, and all branches may be empty.
    """

    def __init__(self, name: str, reads: Sequence[str], operators: Mapping[str, nn.Module], residual: bool) -> None:
        super().__init__(name, reads)
        self.operators, self.residual = registered(operators), residual
        self._keys, self._in_order = tuple(self.operators), tuple(operators)

    def require(self, choices: Sequence[Choice]) -> None:
        """See `Block.require`."""
        for choice in choices:
            require_options(self.name, choice, (*self._in_order, NONE))

    def require_one_shape(self, choices: Sequence[Choice], input_shape: Shape) -> None:
        """Every operator by itself; see `Block.require_one_shape`."""
        super().require_one_shape([replace(choice, options=self._in_order) for choice in choices], input_shape)

    def active(self, *options: int) -> nn.Module:
        """See `Block.active`."""
        return self.of([operator for operator in sorted(set(options)) if operator < len(self._keys)])

    def of(self, operators: Sequence[int]) -> nn.Module:
        """The layer with a set of operators, by their numbers."""
        if not len(operators):
            return nn.Identity()
        return Branched([self.operators[self._keys[operator]] for operator in operators], self.residual)

    def parts(self, input_shape: Shape) -> list[Part]:
        """One piece a branch."""

        def build(option: int, *, input_shape: Shape) -> nn.Module:
            return plain(self.operators[self._keys[option]]) if option < len(self._keys) else nn.Identity()

        return [Part(f"{self.name}, branch {i}", (i,), (input_shape,), build) for i in range(len(self.reads))]


@dataclass(frozen=True)
class Branches:
    """How sets of operators are laid out as choices: for every layer so many branches.

    Attributes:
        layers, branches, operators: how many.
    """

    layers: int
    branches: int
    operators: int

    def canonical(self, population: Population) -> Population:
        """Every operator of a layer once, in order; the empty branches last: shape (n, choices)."""
        rows = np.sort(self._by_layer(population), axis=2)
        rows[:, :, 1:][rows[:, :, 1:] == rows[:, :, :-1]] = self.operators
        return np.sort(rows, axis=2).reshape(population.shape)

    def sets(self, population: Population) -> Sets:
        """Which operators run in every layer, shape (n, layers, operators)."""
        found = np.zeros((len(population), self.layers, self.operators + 1), dtype=bool)
        np.put_along_axis(found, self._by_layer(population), True, axis=2)
        return found[:, :, : self.operators]

    def population(self, sets: Sets) -> Population:
        """The architectures of sets, of which none is larger than there are branches."""
        numbers = np.where(sets, np.arange(self.operators), self.operators)
        return np.sort(numbers, axis=2)[:, :, : self.branches].reshape(len(sets), self.layers * self.branches)

    def allowed(self, space: SearchSpace) -> Sets:
        """Which operators a space allows, shape (layers, operators)."""
        found = np.zeros((self.layers, self.operators + 1), dtype=bool)
        for layer in range(self.layers):
            found[layer, list(space.allowed[layer * self.branches])] = True
        return found[:, : self.operators]

    def may_be_empty(self, space: SearchSpace) -> npt.NDArray[np.bool_]:
        """Which layers may be left out, shape (layers,)."""
        return np.array([self.operators in space.allowed[layer * self.branches] for layer in range(self.layers)])

    def narrowed(self, space: SearchSpace, allowed: Sets) -> SearchSpace:
        """A space with fewer operators; layers may be left out as before.

        Args:
            space: to narrow.
            allowed: shape (layers, operators).
        """
        kept = {}
        for column, choice in enumerate(space.choices):
            operators = np.flatnonzero(allowed[column // self.branches])
            kept[choice.name] = [choice.options[i] for i in (*operators, self.operators) if i in space.allowed[column]]
        return space.narrow(kept)

    def _by_layer(self, population: Population) -> Population:
        return np.asarray(population, dtype=np.int64).reshape(len(population), self.layers, self.branches)


class BranchSupernet(ChainSupernet):
    """A chain whose layers are `BranchBlock`s.

    Args:
        space, blocks, image_shape, seed: see `ChainSupernet`.
        laid_out: the choices.
    """

    def __init__(
        self, space: SearchSpace, blocks: Sequence[Block], image_shape: tuple[int, int, int], laid_out: Branches, *, seed: int | None = 0
    ) -> None:
        super().__init__(space, blocks, image_shape, seed=seed)
        self.laid_out = laid_out
