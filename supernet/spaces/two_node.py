"""The two-node space: 64 networks of one small cell, small enough to train every one of them on its own.

Zhang et al., "Deeper Insights into Weight Sharing in Neural Architecture Search", 2020, arXiv 2001.01431. A cell has two inner nodes and
three edges (input to first, input to second, first to second), each with one of four operators; the network stacks the same cell
four times, none of them reducing, behind a stem of two 3x3 convolutions.

Where text and code of the paper differ: the fourth operator is the 3x3 dilated separable convolution of the text (the code has
5x5), and a cell gives the sum of its inner nodes, as in the text (the code concatenates them). Departure: a separable convolution
is one depthwise and one 1x1 convolution, not two of each, which halves the time of a space that is for studies.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import cast

from torch import Tensor, nn

from evonas.space import Choice, SearchSpace
from supernet.blocks import FixedBlock, PathsBlock, mixed
from supernet.chain import ChainSupernet
from supernet.spaces.registry import space

EDGES = ("input-first", "input-second", "first-second")
OPERATORS = ("max_pool_3x3", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3")


@space("two-node", summary="64 networks of one cell, all of which can be trained", paper="Zhang et al. 2020, arXiv 2001.01431")
def two_node(
    image_shape: tuple[int, int, int] = (3, 32, 32),
    classes: int = 10,
    *,
    channels: int = 16,
    cells: int = 4,
    stem_multiplier: int = 3,
    bn_momentum: float = 0.4,
    seed: int = 0,
) -> ChainSupernet:
    """The supernet of the two-node space.

    Args:
        image_shape: (channels, height, width).
        classes: number of logits.
        channels: width of the cells.
        cells: how many are stacked.
        stem_multiplier: the first stem convolution has this many times as many channels.
        bn_momentum: of the running statistics of batch norm.
        seed: of the initial weights.
    """
    space = SearchSpace(tuple(Choice(f"{edge}.op", OPERATORS) for edge in EDGES))
    wide = stem_multiplier * channels
    stem = nn.Sequential(
        nn.Conv2d(image_shape[0], wide, 3, padding=1, bias=False),
        nn.BatchNorm2d(wide),
        nn.ReLU(),
        nn.Conv2d(wide, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
    )
    head = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))
    stack = [CellBlock(f"cell{i}", space.names, channels) for i in range(cells)]
    supernet = ChainSupernet(space, [FixedBlock("stem", stem), *stack, FixedBlock("head", head)], image_shape, seed=seed)
    for module in supernet.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = bn_momentum
    return supernet


class Cell(nn.Module):
    """One cell: three operators, given in the order of `EDGES`; (n, c, h, w) -> (n, c, h, w)."""

    def __init__(self, operators: Sequence[nn.Module]) -> None:
        super().__init__()
        self.operators = nn.ModuleList(operators)

    def forward(self, x: Tensor) -> Tensor:
        to_first, to_second, between = self.operators
        first = to_first(x)
        return cast(Tensor, first + to_second(x) + between(first))


class CellBlock(PathsBlock):
    """A cell with all operators on every edge; it reads the choice of each edge.

    Args:
        name: of the block.
        reads: the choices, in the order of `EDGES`.
        channels: width of the cell.
    """

    def __init__(self, name: str, reads: Sequence[str], channels: int) -> None:
        edges = [[operator(option, channels) for option in OPERATORS] for _ in EDGES]
        combinations = product(range(len(OPERATORS)), repeat=len(EDGES))
        cells = {options: Cell([edge[i] for edge, i in zip(edges, options, strict=True)]) for options in combinations}
        super().__init__(name, reads, cells, nn.ModuleList(map(nn.ModuleList, edges)))
        self.edges = tuple(map(tuple, edges))  # the same layers as in `shared`, by edge and operator

    def mixture(self, x: Tensor, *weights: Tensor) -> Tensor:
        """The cell with the weighted sum of all operators on every edge; a vector of weights for each."""
        to_first, to_second, between = self.edges
        first = mixed(x, to_first, weights[0])
        return first + mixed(x, to_second, weights[1]) + mixed(first, between, weights[2])


def operator(name: str, channels: int) -> nn.Module:
    """One of `OPERATORS` for `channels` channels in and out."""
    if name == "max_pool_3x3":
        return nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.BatchNorm2d(channels))
    kernel, dilation = {"sep_conv_3x3": (3, 1), "sep_conv_5x5": (5, 1), "dil_conv_3x3": (3, 2)}[name]
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels, channels, kernel, padding=kernel // 2 * dilation, dilation=dilation, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
    )
