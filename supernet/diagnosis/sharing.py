"""The degree of sharing: which networks share which weights.

Zhang et al., "Deeper Insights into Weight Sharing in Neural Architecture Search", 2020, arXiv 2001.01431, and, for groups, Zhao et al.,
"Few-shot Neural Architecture Search", 2020, arXiv 2006.06863. A supernet in which every network shares everything is one end, networks
on their own the other. `split` gives what lies between as a supernet like any other: a block is copied, and a path takes the copy that its
group owns. Copies that are not on a path get no gradient, so that each keeps its own weights and its own momentum.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from torch import nn

from evonas.errors import UsageError
from evonas.space import Population, SearchSpace
from supernet.blocks import Block, Shape, Value
from supernet.chain import ChainSupernet

Groups = Callable[[Population], npt.NDArray[np.int64]]  # architectures (n, choices) to the group of each, shape (n,)


def split(supernet: ChainSupernet, groups: Groups, number: int, *, first: int = 0, seed: int = 0) -> ChainSupernet:
    """A new supernet whose blocks exist once for each group of networks.

    Args:
        supernet: whose blocks are copied; it is not changed.
        groups: gives the group of every architecture, 0 to number - 1.
        number: of groups; 1 shares everything.
        first: the first block that is copied; those before it are shared by all (prefix sharing).
        seed: of the initial weights, of every copy its own.
    """
    blocks: list[Block] = [copy.deepcopy(block) for block in supernet.chain[:first]]
    blocks += [SplitBlock(block, supernet.space, groups, number) for block in supernet.chain[first:]]
    return ChainSupernet(supernet.space, blocks, supernet.image_shape, seed=seed)


def random_groups(space: SearchSpace, number: int, seed: int) -> Groups:
    """Groups of equal size by chance."""
    order = np.random.default_rng(seed).permutation(_size(space, number))
    return lambda population: order[_rank(space, population)] * number // len(order)


def similar_groups(space: SearchSpace, number: int) -> Groups:
    """Groups of equal size by similarity: equal slices of the lexicographic order of the architectures, as the paper cuts them."""
    size = _size(space, number)
    return lambda population: _rank(space, population) * number // size


def own_group(space: SearchSpace) -> Groups:
    """Every network on its own; there are as many groups as architectures."""
    return similar_groups(space, _size(space, 1))


class SplitBlock(Block):
    """A block that exists once for each group of networks; it reads all choices, since they decide the group."""

    def __init__(self, block: Block, space: SearchSpace, groups: Groups, number: int) -> None:
        super().__init__(block.name, space.names, block.shaped_by)
        self._each = tuple(copy.deepcopy(block) for _ in range(number))
        self.copies = nn.ModuleList(self._each)
        self._own = [space.names.index(name) for name in block.reads]
        self._groups = groups

    def active(self, *options: int) -> nn.Module:
        """The module that runs for an architecture; it shares its weights with the networks of its group."""
        return self._copy(options).active(*(options[i] for i in self._own))

    def forward(self, x: Value, *options: int) -> Value:
        return self._copy(options)(x, *(options[i] for i in self._own))

    def extract(self, *options: int, input_shape: Shape) -> nn.Module:
        """A copy of the module that runs for an architecture."""
        return self._copy(options).extract(*(options[i] for i in self._own), input_shape=input_shape)

    def _copy(self, options: tuple[int, ...]) -> Block:
        return self._each[int(self._groups(np.array([options]))[0])]


def _size(space: SearchSpace, number: int) -> int:
    size = int(np.prod([len(options) for options in space.allowed]))
    if not 1 <= number <= size:
        raise UsageError(f"Asked for {number} groups of {size} networks; expected 1 to {size}.")
    return size


def _rank(space: SearchSpace, population: Population) -> npt.NDArray[np.int64]:
    """Position of each architecture in the lexicographic order of the space's option tuples."""
    counts: Sequence[int] = [len(options) for options in space.allowed]
    digits = np.stack([np.searchsorted(options, population[:, i]) for i, options in enumerate(space.allowed)], axis=1)
    weights = np.concatenate([np.cumprod(counts[:0:-1])[::-1], [1]])
    return np.asarray(digits @ weights)
