"""Supernets of ensembles, and how their members are scored one by one: what members share is run once for all ensembles of a population.

Chen, Fu and Ling, "One-Shot Neural Ensemble Architecture Search", 2021, arXiv 2104.00597; that ensembles are put together from what
members are known to say is an idea of Chebykin et al., "Evolutionary Neural Cascade Search across Supernetworks", 2022, arXiv 2203.04011.
A member's logits depend on its own way through the supernet alone, that of the trunk (the operators of the first member) and then its own.
The members of a population are therefore a population of a chain of their own, in which the walk of `supernet.fitness` shares what begins
alike, also between ensembles that split at different layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
from torch import nn

from evonas.space import Choice, Population, SearchSpace
from supernet.blocks import Block, FixedBlock
from supernet.chain import ChainSupernet, Singles
from supernet.ensemble_block import EnsembleBlock, HeadsBlock, ToMembers


@dataclass(frozen=True)
class Layers:
    """How the choices of ensembles are laid out: the split, and for every member the operators of all layers.

    Attributes:
        members, layers: of the ensembles.
        splits: layers that are shared, by option of the split.
    """

    members: int
    layers: int
    splits: tuple[int, ...]

    def paths(self, population: Population) -> npt.NDArray[np.int64]:
        """The operators of every member, shape (n, members, layers)."""
        return population[:, 1:].reshape(len(population), self.members, self.layers)

    def shared(self, population: Population) -> npt.NDArray[np.bool_]:
        """Which layers are before the split, shape (n, layers)."""
        return np.asarray(np.arange(self.layers) < np.array(self.splits)[population[:, 0], None])

    def rows(self, population: Population, paths: npt.NDArray[np.int64]) -> Population:
        """The splits of a population with other paths."""
        return np.concatenate([population[:, :1], paths.reshape(len(population), self.members * self.layers)], axis=1)

    def canonical(self, population: Population) -> Population:
        """Shared layers as the first member has them, and the private paths in lexicographic order: shape (n, choices)."""
        rows = np.array(population, dtype=np.int64)
        paths = self.paths(rows)
        paths = np.where(self.shared(rows)[:, None], paths[:, :1], paths)
        for row in range(len(rows)):
            order = sorted(range(self.members), key=lambda member, row=row: paths[row, member].tolist())  # type: ignore[misc]
            paths[row] = paths[row, order]
        return self.rows(rows, paths)


class EnsembleSupernet(ChainSupernet):
    """A chain of a stem, one `EnsembleBlock` a layer, and the heads.

    Args:
        space, blocks, image_shape, seed: see `ChainSupernet`.
        laid_out: the choices.
    """

    def __init__(
        self, space: SearchSpace, blocks: list[Block], image_shape: tuple[int, int, int], laid_out: Layers, *, seed: int | None = 0
    ) -> None:
        super().__init__(space, blocks, image_shape, seed=seed)
        self.laid_out = laid_out

    ensembles = True

    def singles(self, population: Population) -> Singles:
        """See `ChainSupernet.singles`."""
        counts = np.array([len(choice.options) for choice in self.space.choices[1 : 1 + self.laid_out.layers]])
        paths, members = self.laid_out.paths(population), np.arange(self.laid_out.members)
        own = members[:, None] * counts + paths
        ways = np.where(self.laid_out.shared(population)[:, None], paths[:, :1], own)
        heads = np.broadcast_to(members[:, None], (len(population), len(members), 1))
        rows = np.concatenate([ways, heads], axis=2).reshape(-1, self.laid_out.layers + 1)
        distinct, which = np.unique(rows, axis=0, return_inverse=True)
        return Singles(self._members(), distinct, which.reshape(len(population), len(members)))

    def _members(self) -> ChainSupernet:
        """A chain whose every layer has the operators of all members; its modules are those of this supernet."""
        stem, *layers, heads = self.chain
        blocks: list[Block] = [FixedBlock("stem", cast(ToMembers, cast(FixedBlock, stem).module).module)]
        choices = []
        for layer in cast(list[EnsembleBlock], layers):
            operators = [operator for member in range(self.laid_out.members) for operator in layer.options_of(member).values()]
            choices.append(Choice(layer.name, tuple(map(str, range(len(operators))))))
            blocks.append(OneOf(layer.name, layer.name, operators))
        choices.append(Choice("heads", tuple(map(str, range(self.laid_out.members)))))
        blocks.append(OneOf("heads", "heads", list(cast(HeadsBlock, heads).heads)))
        return ChainSupernet(SearchSpace(tuple(choices)), blocks, self.image_shape, seed=None)


class OneOf(Block):
    """A block that reads one choice and runs the module of that number.

    Args:
        name, reads: see `Block`.
        modules: one an option.
    """

    def __init__(self, name: str, reads: str, modules: Sequence[nn.Module]) -> None:
        super().__init__(name, [reads])
        self.modules_in_order = nn.ModuleList(modules)

    def active(self, *options: int) -> nn.Module:
        """See `Block.active`."""
        return self.modules_in_order[options[0]]
