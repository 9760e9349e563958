"""The cell space of PNAS as networks: one cell for all places, grown block by block, each network trained on its own.

Liu et al., "Progressive Neural Architecture Search", 2017, arXiv 1712.00559; the cells are those of `evonas.cells`. A cell reads the
outputs of its two predecessors; a block adds what two operators make of two inputs; the output has the channels of the blocks that no
other block reads one after another (`concat="unused"`, the paper's text) or of all of them (`concat="all"`, the released PNASNet-5).
Of 3 * `repeats` cells, the first after a third and the first after two thirds halve the map (stride 2 on what reads a cell input) and
double the channels.

There is no supernet of it: what progressive search trains are small networks, which is what the paper does. Costs of millions of cells
are counted from tables over halves of blocks: `PnasFamily.tables`, `PnasFamily.totals`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from torch import nn

from evonas.cells import OPERATIONS, cell_blocks, cell_sizes, cell_space
from evonas.errors import UsageError
from evonas.space import Architecture, Population, SearchSpace
from supernet.cell import GraphCell, OfLast, ReadsTwo, Twice
from supernet.cell_operators import FactorizedReduction, cell_operator, relu_conv_bn
from supernet.initialisation import initialise
from supernet.spaces.registry import space

READ = 2
CONCATS = ("unused", "all")
Floats = npt.NDArray[np.float64]
Count = Callable[[nn.Module, tuple[int, ...]], float]


@dataclass(frozen=True)
class Place:
    """A cell's place in a network.

    Attributes:
        channels: of its nodes.
        stride: 2 where it halves the map.
        pixels: height and width of what its cell inputs are brought to.
        halves: whether the output before last is twice as large.
    """

    channels: int
    stride: int
    pixels: tuple[int, int]
    halves: bool

    @property
    def inside(self) -> tuple[int, int]:
        """Height and width of its nodes."""
        return (-(-self.pixels[0] // self.stride), -(-self.pixels[1] // self.stride))


@dataclass(frozen=True)
class PnasFamily:
    """The cells of a space with the networks that they make.

    Attributes:
        space: see `evonas.cells.cell_space`.
        image_shape: (channels, height, width).
        classes: number of logits.
        repeats: cells before, between and after the two that halve the map, those included: 3 * repeats in all.
        filters: channels of the first cells.
        concat: "unused" or "all", see the module.
    """

    space: SearchSpace
    image_shape: tuple[int, int, int]
    classes: int
    repeats: int
    filters: int
    concat: str

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """Where the cell stands, from the image to the head."""
        channels, pixels, halves = self.filters, (self.image_shape[1], self.image_shape[2]), False
        found: list[Place] = []
        for i in range(3 * self.repeats):
            reducing = i in (self.repeats, 2 * self.repeats)
            channels = 2 * channels if reducing else channels
            found.append(Place(channels, 2 if reducing else 1, pixels, halves))
            pixels, halves = found[-1].inside, reducing
        return tuple(found)

    def network(self, architecture: Architecture | npt.NDArray[np.int64], *, seed: int = 0) -> nn.Sequential:
        """The stand-alone network, with fresh weights: images in, logits out."""
        row = self.space.canonical(self.space.population([architecture]))
        blocks = cell_blocks(row)[0][: int(cell_sizes(row)[0])]
        outputs = self._outputs(blocks)
        stem = nn.Sequential(nn.Conv2d(self.image_shape[0], self.filters, 3, padding=1, bias=False), nn.BatchNorm2d(self.filters))
        modules: list[nn.Module] = [Twice(stem)]
        widths = [self.filters, self.filters]
        for place in self.places:
            adapters = [self._adapter(widths[0], place), relu_conv_bn(widths[1], place.channels, 1)]
            edges = [(int(source), READ + b) for b, block in enumerate(blocks) for source in block[:2]]
            halves = [(int(source), int(option)) for block in blocks for source, option in zip(block[:2], block[2:], strict=True)]
            operators = [self._operator(option, place, source) for source, option in halves]
            modules.append(ReadsTwo(adapters, GraphCell(edges, operators, READ + len(blocks), outputs, place.stride)))
            widths = [widths[1], len(outputs) * place.channels]
        head = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[1], self.classes))
        network = nn.Sequential(*modules, OfLast(head))
        initialise(network, seed)
        return network

    def totals(self, population: Population, tables: tuple[Floats, Floats, Floats]) -> Floats:
        """What the networks cost: shape (n,).

        Args:
            population: shape (n, choices).
            tables: of the cost, see `tables`.
        """
        population = self.space.canonical(np.asarray(population))
        blocks, sizes = cell_blocks(population), cell_sizes(population)
        present = np.arange(blocks.shape[1]) < sizes[:, None]
        outer, inner, by_outputs = tables
        half = np.where(blocks[..., :2] < READ, outer[blocks[..., 2:]], inner[blocks[..., 2:]]).sum(-1)
        return np.asarray((half * present).sum(1) + by_outputs[self._output_counts(blocks, present)])

    def tables(self, count: Count) -> tuple[Floats, Floats, Floats]:
        """A cost over all places: of every operator on a cell input, on a block, and of what depends on the number of outputs.

        Args:
            count: of a module for what reaches it, (channels, height, width); 0 for what has no weights.
        """
        names = self.space.choices[READ + 1].options

        def operators(source: int) -> Floats:
            def of(option: int, place: Place) -> float:
                operator = self._operator(option, place, source)
                return count(operator, (place.channels, *(place.pixels if source < READ else place.inside)))

            return np.array([sum(of(option, place) for place in self.places) for option in range(len(names))])

        most = (len(self.space) - 1) // 4
        return operators(0), operators(READ), np.array([self._around(count, outputs) for outputs in range(most + 1)])

    def _around(self, count: Count, outputs: int) -> float:
        """Stem, adapters and classifier, where cells have so many outputs."""
        stem = nn.Sequential(nn.Conv2d(self.image_shape[0], self.filters, 3, padding=1, bias=False), nn.BatchNorm2d(self.filters))
        total, widths = count(stem, self.image_shape), [self.filters, self.filters]
        if not outputs:
            return total
        for place in self.places:
            before = tuple(2 * pixels if place.halves else pixels for pixels in place.pixels)
            total += count(self._adapter(widths[0], place), (widths[0], *before))
            total += count(relu_conv_bn(widths[1], place.channels, 1), (widths[1], *place.pixels))
            widths = [widths[1], outputs * place.channels]
        return total + count(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[1], self.classes)), (widths[1], 1, 1))

    def _adapter(self, in_channels: int, place: Place) -> nn.Module:
        if place.halves:
            return FactorizedReduction(in_channels, place.channels)
        return relu_conv_bn(in_channels, place.channels, 1)

    def _operator(self, option: int, place: Place, source: int) -> nn.Module:
        name = self.space.choices[READ + 1].options[option]
        operator = cell_operator(name, place.channels, place.stride if source < READ else 1, norm_after_pooling=False)
        assert operator is not None
        return operator

    def _outputs(self, blocks: npt.NDArray[np.int64]) -> list[int]:
        """The nodes whose channels a cell gives."""
        read = set() if self.concat == "all" else set(blocks[:, :2].ravel().tolist())
        return [READ + b for b in range(len(blocks)) if READ + b not in read]

    def _output_counts(self, blocks: npt.NDArray[np.int64], present: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        if self.concat == "all":
            return np.asarray(present.sum(1))
        read = np.zeros((len(blocks), READ + blocks.shape[1]), dtype=bool)
        rows = np.broadcast_to(np.arange(len(blocks))[:, None, None], blocks[..., :2].shape)
        there = np.broadcast_to(present[..., None], blocks[..., :2].shape)
        read[rows[there], blocks[..., :2][there]] = True
        return np.asarray((present & ~read[:, READ:]).sum(1))


@space("pnas", summary="cells of one to five blocks, trained on their own", paper="Liu et al. 2017, arXiv 1712.00559", supernet=False)
def pnas_cells(
    image_shape: tuple[int, int, int] = (3, 32, 32),
    classes: int = 10,
    *,
    blocks: int = 5,
    operators: Sequence[str] = OPERATIONS,
    repeats: int = 2,
    filters: int = 24,
    concat: str = "unused",
) -> PnasFamily:
    """The networks of PNAS's cells; the defaults are those of the small networks that its search trains.

    Args:
        image_shape: (channels, height, width).
        classes: number of logits.
        blocks: most blocks of a cell.
        operators: of half a block, out of `supernet.cell_operators.OPERATORS`.
        repeats: a third of the number of cells (N).
        filters: channels of the first cells (F).
        concat: "unused" or "all", see the module.

    Raises:
        UsageError: an unknown operator or `concat`, or images too small.
    """
    if concat not in CONCATS:
        raise UsageError(f"Got concat={concat!r}; expected one of: {', '.join(CONCATS)}.")
    if min(image_shape[1:]) < 4:
        raise UsageError(f"Images of {image_shape[1]}x{image_shape[2]} pixels are too small to be halved twice.")
    if "none" in operators:
        raise UsageError("The operator none cuts an edge, which a block of PNAS has not; leave it out.")
    for name in operators:
        cell_operator(name, 1)
    return PnasFamily(cell_space(blocks, tuple(operators)), image_shape, classes, repeats, filters, concat)
