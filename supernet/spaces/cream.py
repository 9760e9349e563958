"""The space of Cream: inverted residuals with squeeze-and-excitation and Swish, a kernel and an expansion to choose in every block.

Peng et al., "Cream of the Crop", 2020, arXiv 2010.15821, as its code builds it: a stem, a fixed depthwise-separable block, five stages
whose blocks choose one of kernels 3, 5, 7 with expansions 4, 6, a convolution to 320 channels, and a head that widens after pooling. How
deep the stages are is no choice: it follows from a range of multiply-accumulates (`depths_within`), as in the paper.

Departure: layouts for small images, with fewer strides.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from torch import nn
from torch.nn.functional import hardsigmoid

from evonas.errors import UsageError
from evonas.space import Choice, SearchSpace
from supernet.blocks import ChoiceBlock, FixedBlock
from supernet.chain import ChainSupernet
from supernet.operators import InvertedResidual, Residual, SqueezeExcite, conv_bn
from supernet.spaces.layout import Layout, Stage, pick, with_stages
from supernet.spaces.registry import space

KERNELS, EXPANSIONS = (3, 5, 7), (4, 6)
PRESETS = {
    "digits": Layout(16, 1, (Stage(24, 2, 2), Stage(40, 2, 2)), 128),
    "tiny": Layout(16, 1, (Stage(24, 2, 1), Stage(40, 3, 2), Stage(80, 3, 2)), 256),
    "cifar": Layout(16, 1, (Stage(24, 3, 1), Stage(40, 3, 2), Stage(80, 3, 2), Stage(96, 3, 1), Stage(192, 3, 2)), 640),
    "paper": Layout(16, 2, (Stage(24, 4, 2), Stage(40, 4, 2), Stage(80, 4, 2), Stage(96, 4, 1), Stage(192, 4, 2)), 1280),
}
SIZES = {"digits": 12, "tiny": 24, "cifar": 64, "paper": inf}  # largest images, in pixels
MOST_BLOCKS = 4  # of a stage
LAST = 320 / 192  # channels after the last convolution, for those of the last stage


@space("cream", summary="inverted residuals with squeeze-and-excitation: kernel, expansion", paper="Peng et al. 2020, arXiv 2010.15821")
def cream(
    image_shape: tuple[int, int, int],
    classes: int,
    *,
    layout: str | Layout | None = None,
    widths: Sequence[int] | None = None,
    depths: Sequence[int] | None = None,
    seed: int = 0,
) -> ChainSupernet:
    """The supernet of Cream.

    Args:
        image_shape: (channels, height, width).
        classes: number of logits.
        layout: a preset's name, or one of your own; chosen by the image size unless told otherwise.
        widths, depths: channels and blocks of every searchable stage, in place of the layout's; `depths_within` gives depths for a range.
        seed: of the initial weights.

    Raises:
        UsageError: an unknown preset, widths or depths that do not fit its stages, or images too small for its strides.
    """
    layout = with_stages(pick(layout, PRESETS, SIZES, image_shape), widths, depths)
    stem = conv_bn(image_shape[0], layout.stem_width, 3, layout.stem_stride, activation=nn.SiLU)
    blocks: list[ChoiceBlock | FixedBlock] = [FixedBlock("stem", stem), FixedBlock("separable", _separable(layout.stem_width))]
    choices, channels = [], layout.stem_width
    for s, stage in enumerate(layout.stages):
        for b in range(stage.depth):
            options: dict[str, nn.Module] = {
                f"mb{expansion}_k{kernel}": InvertedResidual(
                    channels, stage.width, kernel, expansion, stage.stride if b == 0 else 1, True, nn.SiLU, hardsigmoid
                )
                for kernel in KERNELS
                for expansion in EXPANSIONS
            }
            choices.append(Choice(f"stage{s}.block{b}.op", tuple(options)))
            blocks.append(ChoiceBlock(f"stage{s}_block{b}", choices[-1].name, options))
            channels = stage.width
    last = round(channels * LAST)
    head = nn.Sequential(
        conv_bn(channels, last, 1, activation=nn.SiLU),
        nn.AdaptiveAvgPool2d(1),
        nn.Conv2d(last, layout.head_width, 1),
        nn.SiLU(inplace=True),
        nn.Flatten(),
        nn.Linear(layout.head_width, classes),
    )
    return ChainSupernet(SearchSpace(tuple(choices)), [*blocks, FixedBlock("head", head)], image_shape, seed=seed)


def depths_within(
    fixed: float, smallest: Sequence[Sequence[float]], largest: Sequence[Sequence[float]], lower: float, upper: float
) -> list[int]:
    """How many blocks each stage gets, so that the networks of the space spread over a range of multiply-accumulates.

    Stages grow in turn from one block, those in the middle first, as long as the largest network stays within the range.

    Args:
        fixed: what every network costs.
        smallest, largest: what the cheapest and the dearest option of every block cost, stage by stage.
        lower, upper: the range.

    Raises:
        UsageError: even the shallowest networks cost more, or the largest of the deepest ones less.
    """
    depths = [1] * len(largest)
    if fixed + sum(blocks[0] for blocks in smallest) > upper:
        raise UsageError(
            f"The smallest network of this space costs more than {upper:.4g} MACs; expected more, smaller images, or a smaller --layout."
        )
    middle = [*range(len(depths) // 2, len(depths)), *reversed(range(len(depths) // 2))]
    grown = True
    while grown:
        grown = False
        for stage in middle:
            deeper = [depth + (i == stage) for i, depth in enumerate(depths)]
            if deeper[stage] <= len(largest[stage]) and fixed + _sum(largest, deeper) <= upper:
                depths, grown = deeper, True
    if fixed + _sum(largest, depths) < lower:
        raise UsageError(
            f"The largest network of this space costs less than {lower:.4g} MACs; expected less, larger images, or a larger --layout."
        )
    return depths


def _sum(costs: Sequence[Sequence[float]], depths: Sequence[int]) -> float:
    return sum(sum(blocks[:depth]) for blocks, depth in zip(costs, depths, strict=True))


def _separable(channels: int) -> nn.Module:
    """A depthwise filter, squeeze-and-excitation, and a 1x1 convolution, beside a residual."""
    return Residual(
        nn.Sequential(
            conv_bn(channels, channels, 3, groups=channels, activation=nn.SiLU),
            SqueezeExcite(channels, max(channels // 4, 4), hardsigmoid),
            conv_bn(channels, channels, 1, activation=None),
        )
    )
