"""Cells: small graphs whose edges choose their operators; a block like any other.

A cell with five operators on six edges has 15,625 forms. None of them is built beforehand: a path composes the operators it takes, and
costs are declared edge by edge. A cell reads what the block before hands on (NAS-Bench-201), or, with `adapters`, what its two predecessors
made (DARTS: Liu et al., 2018, arXiv 1806.09055; PNAS): then it hands on a pair, its predecessor's output beside its own.

In a mixture only a part of the channels may go through the operators (PC-DARTS: Xu et al., 2019, arXiv 1907.05737). Departure: what passes
by an edge is weighted by the operators that the edge has, so that a cut edge brings nothing, in a mixture as in a path.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from evonas.errors import UsageError
from evonas.space import Choice
from supernet.blocks import Block, FixedBlock, Part, Shape, Value, require_options, run_once, shape_of, zeros
from supernet.edges import FactorizedEdge, OperatorEdge, of_those_there
from supernet.slicing import plain

Edge = tuple[int, int]  # (source, target), source < target; what is read enters the first nodes


class GraphCell(nn.Module):
    """A cell with one operator an edge: every node is the sum of what its edges bring.

    Maps what it reads, a tensor (n, c, h, w) or one for each of the first nodes, to (n, c, h, w), or to (n, c * outputs, h, w).

    Args:
        edges: those that are there, ordered by their targets.
        operators: one for each of them.
        nodes: how many there are; one that no edge reaches is zero.
        outputs: nodes whose channels it gives one after another; the last node unless told otherwise.
        stride: by which maps shrink between what is read and the other nodes.
    """

    def __init__(
        self, edges: Sequence[Edge], operators: Sequence[nn.Module], nodes: int, outputs: Sequence[int] = (), stride: int = 1
    ) -> None:
        super().__init__()
        self.edges, self.nodes, self.outputs, self.stride = tuple(edges), nodes, tuple(outputs) or (nodes - 1,), stride
        self.operators = nn.ModuleList(operators)

    def forward(self, x: Value) -> Tensor:
        read = (x,) if isinstance(x, Tensor) else tuple(x)
        return _wired(read, self.nodes, self.outputs, self.stride, list(zip(self.edges, self.operators, strict=True)))


class ReadsTwo(nn.Module):
    """A cell that reads the outputs of its two predecessors, adapted to its width and size, and hands on a pair for the next one.

    Args:
        adapters: of the output before last and of the last one.
        cell: reads both, adapted.
    """

    def __init__(self, adapters: Iterable[nn.Module], cell: nn.Module) -> None:
        super().__init__()
        self.adapters, self.cell = nn.ModuleList(adapters), cell

    def forward(self, x: Value) -> Value:
        before_last, last = x
        return last, self.cell((self.adapters[0](before_last), self.adapters[1](last)))


class Twice(nn.Module):
    """A stem for cells that read two: hands on what it makes as both."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Value:
        made = self.module(x)
        return made, made


class OfLast(nn.Module):
    """A head after cells that read two: sees the last output."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Value) -> Tensor:
        return cast(Tensor, self.module(x[1]))


class PartOfChannels(nn.Module):
    """An operator for the first channels; the others pass by, through max pooling where maps shrink, and all are interleaved.

    Args:
        operator: for one in `share` channels.
        share: of how many channels one goes through the operator.
        stride: of the operator.
    """

    def __init__(self, operator: nn.Module, share: int, stride: int) -> None:
        super().__init__()
        self.operator, self.share, self.stride = operator, share, stride

    def forward(self, x: Tensor) -> Tensor:
        return _passing_by(x, self.share, self.stride, self.operator)


class CellBlock(Block):
    """A cell whose every edge reads a choice, or two (`supernet.edges`).

    Args:
        name: as in `Block`.
        reads: the choices of each edge, one after another; cells of a network may read the same ones.
        edges: ordered by their targets.
        operators: for every edge its options by name, in the order of the choice, None cuts the edge; or an edge with more to choose.
        outputs: see `GraphCell`.
        adapters: for a cell that reads two predecessors, see `ReadsTwo`; one that reads the block before has none.
        stride: 2 where the edges from what is read halve the map.
        share: of how many channels one goes through the operators, which are for as many.
    """

    def __init__(
        self,
        name: str,
        reads: Sequence[str],
        edges: Sequence[Edge],
        operators: Sequence[Mapping[str, nn.Module | None] | FactorizedEdge],
        *,
        outputs: Sequence[int] = (),
        adapters: Sequence[nn.Module] = (),
        stride: int = 1,
        share: int = 1,
    ) -> None:
        super().__init__(name, reads)
        self.edges = tuple(edges)
        self.nodes = 1 + max(target for _, target in edges)
        self.outputs, self.stride, self.share = tuple(outputs), stride, share
        self.read = len(adapters) or 1
        choosing = [each if isinstance(each, FactorizedEdge) else OperatorEdge(each) for each in operators]
        self.operators = nn.ModuleList(choosing)
        self.adapters = nn.ModuleList(adapters)
        self._edges = tuple(choosing)
        ends = list(itertools.accumulate(len(edge.offered) for edge in choosing))
        self._spans = tuple(slice(end - len(edge.offered), end) for end, edge in zip(ends, choosing, strict=True))

    @property
    def options(self) -> tuple[tuple[nn.Module | None, ...], ...]:
        """For every edge its operators, None where one cuts it."""
        return tuple(edge.options for edge in self._edges)

    @property
    def operator_choices(self) -> tuple[int, ...]:
        """For every edge the position of its operator's choice among those that are read."""
        return tuple(span.start for span in self._spans)

    def require(self, choices: Sequence[Choice]) -> None:
        """See `Block.require`."""
        for choice, names in zip(choices, itertools.chain(*(edge.offered for edge in self._edges)), strict=True):
            require_options(self.name, choice, names)

    def require_one_shape(self, choices: Sequence[Choice], input_shape: Shape) -> None:
        """See `Block.require_one_shape`: every operator keeps the channels and divides the map by the stride of its edge."""
        for i, part in enumerate(self.parts(input_shape)[len(self.adapters) :]):
            channels, *size = part.input_shape
            expected = (channels, *(-(-pixels // self._stride(self.edges[i])) for pixels in size))
            first = [0] * (len(self._edges[i].offered) - 1)
            for option, name in enumerate(self._edges[i].offered[0]):
                if (
                    self._edges[i].options[option] is not None
                    and (made := run_once(part.build(option, *first), part.name, name, part.input_shape)) != expected
                ):
                    raise UsageError(f"Operator {name!r} of {part.name!r} makes {made} of {part.input_shape}; expected {expected}.")

    def active(self, *options: int) -> nn.Module:
        """See `Block.active`; composed anew, it holds the supernet's own operators."""
        kept: dict[Edge, nn.Module] = {}
        for edge, own, span in zip(self.edges, self._edges, self._spans, strict=True):
            if (operator := own.chosen(*options[span])) is not None:
                kept[edge] = operator if self.share == 1 else PartOfChannels(operator, self.share, self._stride(edge))
        cell = GraphCell(list(kept), list(kept.values()), self.nodes, self.outputs, self.stride)
        return ReadsTwo(self.adapters, cell) if len(self.adapters) else cell

    def mixture(self, x: Value, *weights: Tensor) -> Value:
        """See `Block.mixture`: on every edge the weighted sum of its operators; a cut edge brings nothing, whatever its weight."""
        read = tuple(adapter(value) for adapter, value in zip(self.adapters, x, strict=True)) if len(self.adapters) else (x,)
        brings: list[tuple[Edge, Callable[[Tensor], Tensor]]] = []
        for edge, own, span in zip(self.edges, self._edges, self._spans, strict=True):
            if of_those_there(own, weights[span.start]).detach().any():
                brings.append((edge, partial(self._mixed, edge, own, weights[span])))
        made = _wired(read, self.nodes, self.outputs or (self.nodes - 1,), self.stride, brings)
        return (x[1], made) if len(self.adapters) else made

    def _mixed(self, edge: Edge, own: OperatorEdge | FactorizedEdge, weights: Sequence[Tensor], x: Tensor) -> Tensor:
        if self.share == 1:
            return own.mixture(x, *weights)
        by = of_those_there(own, weights[0]).sum()
        return _passing_by(x, self.share, self._stride(edge), lambda part: own.mixture(part, *weights), by)

    def parts(self, input_shape: Shape) -> list[Part]:
        """See `Block.parts`: one an edge, and one for the adapters."""
        if not len(self.adapters):
            arriving, found = input_shape, []
        else:
            arriving = self._adapted(input_shape)[-1]
            each = zip(self.adapters, input_shape, strict=True)
            found = [Part(f"{self.name}, input {i}", (), (shape,), partial(_alone, own)) for i, (own, shape) in enumerate(each)]
        inner = (arriving[0], *(-(-size // self.stride) for size in arriving[1:]))
        for i, (source, target) in enumerate(self.edges):
            shape = arriving if source < self.read else inner
            reads = tuple(range(self._spans[i].start, self._spans[i].stop))
            found.append(
                Part(
                    f"{self.name}, {source} to {target}",
                    reads,
                    (shape,),
                    partial(self._alone, i),
                    ways=partial(self.ways_through, i),
                    ways_of=tuple(range(len(self.reads))),
                )
            )
        return found

    def ways_through(self, edge: int, options: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """How many ways from a node that is read to one that is handed on lead through an edge, none of whose edges is cut.

        Args:
            edge: its position.
            options: of all choices of the cell, shape (n, choices).
        """
        there = np.stack(
            [
                np.array([operator is not None for operator in own.options])[options[:, span.start]]
                for own, span in zip(self._edges, self._spans, strict=True)
            ]
        ).astype(np.int64)
        arriving = np.zeros((self.nodes, len(options)), dtype=np.int64)
        arriving[: self.read] = 1
        leaving = np.zeros_like(arriving)
        leaving[list(self.outputs or (self.nodes - 1,))] = 1
        for i, (source, target) in enumerate(self.edges):  # ordered by their targets
            arriving[target] += arriving[source] * there[i]
        for i, (source, target) in sorted(enumerate(self.edges), key=lambda each: -each[1][0]):
            leaving[source] += leaving[target] * there[i]
        source, target = self.edges[edge]
        return np.asarray(arriving[source] * there[edge] * leaving[target])

    def hands_on(self, *options: int, input_shape: Shape) -> Shape:
        """See `Block.hands_on`: the size of what it gets, divided by the stride; a pair where it reads one."""
        channels, *size = self._adapted(input_shape)[-1] if len(self.adapters) else input_shape
        made = (channels * (len(self.outputs) or 1), *(-(-pixels // self.stride) for pixels in size))
        return (input_shape[1], made) if len(self.adapters) else made

    def _adapted(self, input_shape: Shape) -> Shape:
        with torch.no_grad():
            adapters = [plain(adapter).to("cpu").eval() for adapter in self.adapters]
            return shape_of(tuple(adapter(value) for adapter, value in zip(adapters, zeros(input_shape), strict=True)))

    def _stride(self, edge: Edge) -> int:
        return self.stride if edge[0] < self.read else 1

    def _alone(self, edge: int, *options: int, input_shape: Shape) -> nn.Module:
        operator = self._edges[edge].chosen(*options)
        if operator is None:
            return nn.Identity()
        return plain(operator if self.share == 1 else PartOfChannels(operator, self.share, self._stride(self.edges[edge])))


class StemForTwo(FixedBlock):
    """A stem for cells that read two, see `Twice`."""

    def __init__(self, name: str, module: nn.Module) -> None:
        super().__init__(name, Twice(module))

    def parts(self, input_shape: Shape) -> list[Part]:
        """See `Block.parts`."""
        return [Part(self.name, (), (input_shape,), partial(_alone, cast(Twice, self.module).module))]


class HeadOfTwo(FixedBlock):
    """A head after cells that read two, see `OfLast`."""

    def __init__(self, name: str, module: nn.Module) -> None:
        super().__init__(name, OfLast(module))

    def parts(self, input_shape: Shape) -> list[Part]:
        """See `Block.parts`."""
        return [Part(self.name, (), (input_shape[1],), partial(_alone, cast(OfLast, self.module).module))]


def _alone(module: nn.Module, *, input_shape: Shape) -> nn.Module:
    return plain(module)


def strided(x: Tensor, stride: int) -> Tensor:
    """Zeros in the shape that a stride makes of `x`."""
    return torch.zeros_like(x if stride == 1 else x[:, :, ::stride, ::stride])


def _wired(
    read: Sequence[Tensor],
    nodes: int,
    outputs: Sequence[int],
    stride: int,
    brings: Sequence[tuple[Edge, Callable[[Tensor], Tensor]]],
) -> Tensor:
    """What the outputs are worth, where edges, ordered by their targets, bring something from node to node."""
    values: list[Tensor | None] = [*read, *[None] * (nodes - len(read))]

    def value(node: int) -> Tensor:
        found = values[node]
        return strided(read[0], stride) if found is None else found

    for (source, target), operator in brings:
        brought, there = operator(value(source)), values[target]
        values[target] = brought if there is None else there + brought
    return value(outputs[0]) if len(outputs) == 1 else torch.cat([value(node) for node in outputs], dim=1)


def _passing_by(x: Tensor, share: int, stride: int, operator: Callable[[Tensor], Tensor], weight: Tensor | float = 1.0) -> Tensor:
    """`operator` of the first of `share` parts of the channels beside the others, weighted, and interleaved with them."""
    count = x.shape[1] // share
    past = x[:, count:]
    past = past if stride == 1 else nn.functional.max_pool2d(past, stride, stride, ceil_mode=True)
    joined = torch.cat([operator(x[:, :count]), past if isinstance(weight, float) else weight * past], dim=1)
    n, channels, height, width = joined.shape
    return joined.reshape(n, share, channels // share, height, width).transpose(1, 2).reshape(n, channels, height, width)


def require_whole_share(channels: int, share: int) -> None:
    """Channels that divide.

    Raises:
        UsageError: they do not.
    """
    if share < 1 or channels % share:
        raise UsageError(f"One in {share} of {channels} channels is no whole number; expected a share that divides the channels.")
