"""From weights of edges to a mixture of a supernet of cells, and from a mixture to one architecture.

`edge_normalised` is the edge normalisation of PC-DARTS (Xu et al., 2019, arXiv 1907.05737): edges that enter the same node compete as well.
`strongest` is the derivation of DARTS (Liu et al., 2018, arXiv 1806.09055, section 2.4): every node keeps its two strongest edges, by their
strongest operator that is not "none".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from evonas.errors import UsageError
from evonas.space import Architecture, SearchSpace
from supernet.cell import CellBlock
from supernet.chain import ChainSupernet

CUT = "none"


def nodes_of(supernet: ChainSupernet) -> Iterator[list[int]]:
    """For every node of every kind of cell, the operators' choices of the edges that enter it: positions in the space."""
    seen: set[tuple[int, ...]] = set()
    for block, columns in zip(supernet.chain, supernet.columns, strict=True):
        if isinstance(block, CellBlock) and columns not in seen:
            seen.add(columns)
            edges = list(zip(block.edges, (columns[position] for position in block.operator_choices), strict=True))
            for node in dict.fromkeys(target for _, target in block.edges):
                yield [column for (_, target), column in edges if target == node]


def edge_normalised(supernet: ChainSupernet, weights: Sequence[Tensor], strengths: Tensor) -> list[Tensor]:
    """Weights of a mixture, each edge's multiplied by its share of the node that it enters.

    Args:
        supernet: of cells.
        weights: for every choice a vector, shape (options,).
        strengths: of the edges, before a softmax over those that enter a node: shape (choices,).
    """
    result = list(weights)
    for columns in nodes_of(supernet):
        shares = torch.softmax(strengths[columns], 0)
        for column, share in zip(columns, shares, strict=True):
            result[column] = share * weights[column]
    return result


def strongest(supernet: ChainSupernet, weights: Sequence[npt.NDArray[np.floating]], keep: int | None = 2) -> Architecture:
    """The architecture that a mixture stands for.

    Args:
        supernet: of cells or of other blocks; choices that are no edges take their heaviest option.
        weights: for every choice a vector, shape (options,). Options that are not allowed are not taken.
        keep: edges that a node keeps, the others are cut; None keeps the heaviest option of every edge, "none" like any other.

    Raises:
        UsageError: edges have to be cut and may not be.
    """
    space = supernet.space

    def heaviest(column: int, options: Sequence[int]) -> int:
        return max(options, key=lambda option: (weights[column][option], -option))

    taken = [heaviest(column, indices) for column, indices in enumerate(space.allowed)]
    if keep is None:
        return _canonical(space, taken)
    for columns in nodes_of(supernet):
        order: list[tuple[float, int, int]] = []
        for column in columns:
            options = space.choices[column].options
            there = [option for option in space.allowed[column] if options[option] != CUT]
            if there:
                best = heaviest(column, there)
                order.append((-float(weights[column][best]), column, best))
        kept = {column: best for _, column, best in sorted(order)[:keep]}
        for column in columns:
            if column not in kept and CUT not in [space.choices[column].options[option] for option in space.allowed[column]]:
                raise UsageError(f"The edge {space.names[column]} has to be cut and has no option {CUT!r}; expected one, or keep=None.")
            taken[column] = kept[column] if column in kept else space.choices[column].options.index(CUT)
    return _canonical(space, taken)


def _canonical(space: SearchSpace, row: Sequence[int]) -> Architecture:
    return tuple(space.canonical(np.array([row]))[0].tolist())
