"""The NAS-Bench-201 space: one cell of six edges and five operators, in every place of the network the same.

Dong and Yang, "NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search", 2020, arXiv 2001.00326; exactly the networks
whose accuracies its table holds: a stem of 16 channels, three stages of five cells (16, 32, 64 channels), a residual block that halves the
map before the second and the third, batch norm, pooling and a classifier. With other `activations` than ReLU they are networks that no
table has (Wang et al., 2019, arXiv 1912.13256).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from evonas.errors import UsageError
from evonas.tabular import CELL_EDGES, CELL_OPERATIONS, nasbench201_space
from supernet.blocks import Block, FixedBlock
from supernet.cell import CellBlock
from supernet.cell_operators import relu_conv_bn
from supernet.chain import ChainSupernet
from supernet.edges import ONLY_RELU, edge_choices, edge_options, edge_space
from supernet.spaces.registry import space


@space("nasbench201", summary="cells of NAS-Bench-201, whose 15,625 accuracies are published", paper="Dong & Yang 2020, arXiv 2001.00326")
def nasbench201(
    image_shape: tuple[int, int, int] = (3, 32, 32),
    classes: int = 10,
    *,
    widths: Sequence[int] = (16, 32, 64),
    cells: int = 5,
    activations: Sequence[str] = ONLY_RELU,
    form: str = "pre",
    seed: int = 0,
) -> ChainSupernet:
    """The supernet of NAS-Bench-201.

    Args:
        image_shape: (channels, height, width); the table's accuracies and costs are of 32-pixel images with 3 channels.
        classes: number of logits.
        widths: channels of the stages.
        cells: in each stage.
        activations: of the convolutions, out of `supernet.activations.ACTIVATIONS`; a choice of every edge unless it is ReLU alone.
        form: of a mixture of operators and activations, see `supernet.edges`.
        seed: of the initial weights.

    Raises:
        UsageError: images too small for the stages.
    """
    if min(image_shape[1:]) < 2 ** (len(widths) - 1):
        raise UsageError(f"Images of {image_shape[1]}x{image_shape[2]} pixels are too small for {len(widths)} stages.")
    choices = nasbench201_space()
    if tuple(activations) != ONLY_RELU:
        pairs = [choice for op in choices.names for choice in edge_choices(op, CELL_OPERATIONS, activations)]
        choices = edge_space(pairs, {name: operator(name, 2) for name in CELL_OPERATIONS}, activations)
    stem = nn.Sequential(nn.Conv2d(image_shape[0], widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0]))
    blocks: list[Block] = [FixedBlock("stem", stem)]
    channels = widths[0]
    for stage, width in enumerate(widths):
        if stage:
            blocks.append(FixedBlock(f"reduction{stage}", Reduction(channels, width)))
        for cell in range(cells):
            operators = [edge_options({name: operator(name, width) for name in CELL_OPERATIONS}, activations, form) for _ in CELL_EDGES]
            blocks.append(CellBlock(f"stage{stage}_cell{cell}", choices.names, CELL_EDGES, operators))
        channels = width
    head = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))
    return ChainSupernet(choices, [*blocks, FixedBlock("head", head)], image_shape, seed=seed)


class Reduction(nn.Module):
    """A residual block that halves the map: (n, c, h, w) -> (n, out, h / 2, w / 2)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.first = relu_conv_bn(in_channels, out_channels, 3, 2)
        self.second = relu_conv_bn(out_channels, out_channels, 3)
        self.shortcut = nn.Sequential(nn.AvgPool2d(2, 2), nn.Conv2d(in_channels, out_channels, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return torch.add(self.shortcut(x), self.second(self.first(x)))


def operator(name: str, channels: int) -> nn.Module | None:
    """One of `evonas.tabular.CELL_OPERATIONS` for `channels` channels in and out; None cuts the edge."""
    if name == "none":
        return None
    if name == "skip_connect":
        return nn.Identity()
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, 1, 1, count_include_pad=False)
    return relu_conv_bn(channels, channels, int(name[-1]))
