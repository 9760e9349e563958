"""The DARTS space: a normal and a reducing cell of four nodes, each of fourteen edges with one of eight operators.

Liu et al., "DARTS: Differentiable Architecture Search", 2018, arXiv 1806.09055. Cells read the outputs of their two predecessors; two of
them, after a third and after two thirds, halve the map and double the channels. An architecture names the operator of every edge; the
networks of the paper keep two edges a node and have "none" on all others (`supernet.mixing.strongest`).

Other systems take the same graph: other operators (`operators`), a cell of its own in every place (`own_cells`, 14 choices a cell), a part
of the channels in mixtures (`share`, PC-DARTS: Xu et al., 2019, arXiv 1907.05737), activations to choose (`activations`: Wang et al., 2019,
arXiv 1912.13256).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from evonas.errors import UsageError
from evonas.space import Choice
from supernet.blocks import Block
from supernet.cell import CellBlock, HeadOfTwo, StemForTwo, require_whole_share
from supernet.cell_operators import POOLS, FactorizedReduction, cell_operator, relu_conv_bn
from supernet.chain import ChainSupernet
from supernet.edges import ONLY_RELU, edge_choices, edge_options, edge_space
from supernet.spaces.registry import space

READ = 2  # a cell reads the outputs of two predecessors


@space("darts", summary="normal and reducing cells, one of eight operators an edge", paper="Liu et al. 2018, arXiv 1806.09055")
def darts(
    image_shape: tuple[int, int, int] = (3, 32, 32),
    classes: int = 10,
    *,
    channels: int = 16,
    cells: int = 8,
    nodes: int = 4,
    operators: Sequence[str] = POOLS["darts"],
    activations: Sequence[str] = ONLY_RELU,
    form: str = "pre",
    own_cells: bool = False,
    share: int = 1,
    stem_multiplier: int = 3,
    seed: int = 0,
) -> ChainSupernet:
    """The supernet of cells; the defaults are those of the paper's search on CIFAR-10.

    Args:
        image_shape: (channels, height, width).
        classes: number of logits.
        channels: of every node, before the first reduction.
        cells: in all, at least 3.
        nodes: of a cell, beside the two that it reads.
        operators: of every edge, out of `supernet.cell_operators.OPERATORS`; "none" cuts an edge.
        activations: of the operators, out of `supernet.activations.ACTIVATIONS`; a choice of every edge unless it is ReLU alone.
        form: of a mixture of operators and activations, see `supernet.edges`.
        own_cells: whether every cell has choices of its own, in place of one normal and one reducing cell for all.
        share: of how many channels one goes through the operators.
        stem_multiplier: the stem has this many times `channels`.
        seed: of the initial weights.

    Raises:
        UsageError: fewer than 3 cells, an unknown operator, a share that does not divide the channels, or images too small.
    """
    if cells < READ + 1:
        raise UsageError(f"Got {cells} cells; expected at least {READ + 1}, two of which halve the map.")
    if min(image_shape[1:]) < 4:
        raise UsageError(f"Images of {image_shape[1]}x{image_shape[2]} pixels are too small to be halved twice.")
    require_whole_share(channels, share)
    reductions = (cells // 3, 2 * cells // 3)
    edges = [(source, target) for target in range(READ, READ + nodes) for source in range(target)]
    made: list[Block] = []
    named: dict[str, Choice] = {}
    wide = stem_multiplier * channels
    stem = nn.Sequential(nn.Conv2d(image_shape[0], wide, 3, padding=1, bias=False), nn.BatchNorm2d(wide))
    widths, halved = [wide, wide], [False, False]  # what the cell before last and the last one hand on
    for i in range(cells):
        reducing = i in reductions
        channels = 2 * channels if reducing else channels
        prefix = f"cell{i}" if own_cells else "reduction" if reducing else "normal"
        names = [f"{prefix}.{_node(source)}_to_{_node(target)}.op" for source, target in edges]
        reads = [choice for name in names for choice in edge_choices(name, operators, activations)]
        named |= {choice.name: choice for choice in reads}
        made.append(
            CellBlock(
                f"cell{i}",
                [choice.name for choice in reads],
                edges,
                [
                    edge_options(_options(operators, channels // share, 2 if reducing and source < READ else 1), activations, form)
                    for source, _ in edges
                ],
                outputs=range(READ, READ + nodes),
                adapters=(_adapter(widths[0], channels, halved[1]), relu_conv_bn(widths[1], channels, 1)),
                stride=2 if reducing else 1,
                share=share,
            )
        )
        widths, halved = [widths[1], nodes * channels], [halved[1], reducing]
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[1], classes))
    choices = edge_space(tuple(named.values()), _options(operators, 2, 1), activations)
    return ChainSupernet(choices, [StemForTwo("stem", stem), *made, HeadOfTwo("head", head)], image_shape, seed=seed)


def _node(number: int) -> str:
    """input1 is the cell before last, input2 the last one."""
    return f"input{number + 1}" if number < READ else f"node{number - READ + 1}"


def _options(names: Sequence[str], channels: int, stride: int) -> dict[str, nn.Module | None]:
    return {name: cell_operator(name, channels, stride) for name in names}


def _adapter(in_channels: int, out_channels: int, halves: bool) -> nn.Module:
    """Brings the output before last to the width of a cell and, where the last cell halved the map, to its size."""
    return FactorizedReduction(in_channels, out_channels) if halves else relu_conv_bn(in_channels, out_channels, 1)
