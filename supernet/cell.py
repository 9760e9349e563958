"""Cells: small graphs whose edges choose their operators; a block like any other.

A cell with five operators on six edges has 15,625 forms. None of them is built beforehand: a path composes the operators it takes, and
costs are declared edge by edge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from supernet.blocks import Block, Part, Shape, Value, mixed
from supernet.slicing import plain

Edge = tuple[int, int]  # (source, target), source < target; the image enters node 0, the last node is the output


class GraphCell(nn.Module):
    """A cell with one operator an edge: every node is the sum of what its edges bring, (n, c, h, w) -> (n, c, h, w).

    Args:
        edges: those that are there, ordered by their targets.
        operators: one for each of them.
        nodes: how many there are; one that no edge reaches is zero.
    """

    def __init__(self, edges: Sequence[Edge], operators: Sequence[nn.Module], nodes: int) -> None:
        super().__init__()
        self.edges, self.nodes = tuple(edges), nodes
        self.operators = nn.ModuleList(operators)

    def forward(self, x: Tensor) -> Tensor:
        values: list[Tensor | None] = [x, *[None] * (self.nodes - 1)]
        for (source, target), operator in zip(self.edges, self.operators, strict=True):
            brought = operator(_or_zero(values[source], x))
            values[target] = _added(values[target], brought)
        return _or_zero(values[-1], x)


class CellBlock(Block):
    """A cell whose every edge reads a choice.

    Args:
        name: as in `Block`.
        reads: the choice of each edge; cells of a network may read the same ones.
        edges: ordered by their targets.
        operators: for every edge its options by name, in the order of the choice; None cuts the edge.
    """

    def __init__(self, name: str, reads: Sequence[str], edges: Sequence[Edge], operators: Sequence[Mapping[str, nn.Module | None]]) -> None:
        super().__init__(name, reads)
        self.edges = tuple(edges)
        self.nodes = 1 + max(target for _, target in edges)
        self.options = tuple(tuple(options.values()) for options in operators)
        self.operators = nn.ModuleList(
            nn.ModuleDict({option: module for option, module in options.items() if module is not None}) for options in operators
        )

    def active(self, *options: int) -> nn.Module:
        """See `Block.active`; composed anew, it holds the supernet's own operators."""
        taken = [(edge, own[option]) for edge, own, option in zip(self.edges, self.options, options, strict=True)]
        kept = [(edge, operator) for edge, operator in taken if operator is not None]
        return GraphCell([edge for edge, _ in kept], [operator for _, operator in kept], self.nodes)

    def mixture(self, x: Value, *weights: Tensor) -> Value:
        """See `Block.mixture`: on every edge the weighted sum of its operators; a cut edge brings nothing, whatever its weight."""
        values: list[Tensor | None] = [x, *[None] * (self.nodes - 1)]
        for (source, target), own, weight in zip(self.edges, self.options, weights, strict=True):
            there = [i for i, operator in enumerate(own) if operator is not None]
            if weight.detach()[there].any():
                brought = mixed(_or_zero(values[source], x), [m for m in own if m is not None], weight[there])
                values[target] = _added(values[target], brought)
        return _or_zero(values[-1], x)

    def parts(self, input_shape: Shape) -> list[Part]:
        """See `Block.parts`: one an edge."""
        shapes = (input_shape,)
        return [Part(f"{self.name}, {s} to {t}", (i,), shapes, partial(self._alone, i)) for i, (s, t) in enumerate(self.edges)]

    def hands_on(self, *options: int, input_shape: Shape) -> Shape:
        """See `Block.hands_on`: what it gets."""
        return input_shape

    def _alone(self, edge: int, option: int, *, input_shape: Shape) -> nn.Module:
        operator = self.options[edge][option]
        return nn.Identity() if operator is None else plain(operator)


def _or_zero(value: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if value is None else value


def _added(value: Tensor | None, more: Tensor) -> Tensor:
    return more if value is None else value + more
