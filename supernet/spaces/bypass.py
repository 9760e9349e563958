"""The bypass space: a chain of inverted residuals with any share of their filters, down to none, and a free kernel.

Yang, Liao and Sze, "NetAdaptV2", 2021, arXiv 2104.00031: width and depth are one dimension (`supernet.bypass_block`), kernels are free. All
widths and kernels of a block are parts of one weight. The paper starts from MobileNetV3 with more filters and does not say how it divides
them; here they are quarters, in multiples of 8 where those tell the quarters apart, and the layouts are those of `mbconv`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evonas.errors import UsageError
from evonas.space import Choice, Population, SearchSpace
from supernet.blocks import Block, FixedBlock
from supernet.bypass_block import BypassBlock, BypassHead
from supernet.chain import ChainSupernet
from supernet.operators import conv_bn
from supernet.spaces.layout import Layout, pick, with_stages
from supernet.spaces.mbconv import PRESETS, SIZES
from supernet.spaces.registry import space

SHARES = ("0.25", "0.5", "0.75", "1")
NOTHING = "0"
MULTIPLES = (8, 4, 2, 1)  # of which numbers of filters are, the first that tells the shares apart


@space("bypass", summary="inverted residuals: filters down to none, and kernel", paper="Yang et al. 2021, arXiv 2104.00031")
def bypass(
    image_shape: tuple[int, int, int],
    classes: int,
    *,
    layout: str | Layout | None = None,
    widths: Sequence[int] | None = None,
    depths: Sequence[int] | None = None,
    kernels: Sequence[int] = (3, 5, 7),
    expansion: int = 6,
    fill: float = 1.0,
    dropout: float = 0.0,
    seed: int = 0,
) -> ChainSupernet:
    """A supernet of inverted residuals with channel-level bypass connections.

    Args:
        image_shape: (channels, height, width).
        classes: number of logits.
        layout: a preset's name, or widths and depths of your own; chosen by the image size unless told otherwise.
        widths: most filters of the blocks of every stage, in place of the layout's.
        depths: blocks of every stage, in place of the layout's.
        kernels: depthwise filter sizes offered in every block, ascending and odd.
        expansion: channels inside of a block for each of its filters.
        fill: share of a block's width that copied channels fill up to (T).
        dropout: before the classifier.
        seed: of the initial weights.

    Raises:
        UsageError: an unknown preset, widths or depths that do not fit its stages, images too small for its strides, or kernels that are
            not ascending odd numbers.
    """
    if list(kernels) != sorted(set(kernels)) or not kernels or any(kernel % 2 == 0 for kernel in kernels):
        raise UsageError(f"Got the kernels {tuple(kernels)}; expected ascending odd numbers, such as (3, 5, 7).")
    if not 0 < fill <= 1:
        raise UsageError(f"Got fill={fill}; expected a share of a block's width, above 0 and at most 1.")
    layout = with_stages(pick(layout, PRESETS, SIZES, image_shape), widths, depths)
    blocks: list[Block] = [FixedBlock("stem", conv_bn(image_shape[0], layout.stem_width, 3, layout.stem_stride))]
    choices: list[Choice] = []
    channels = layout.stem_width
    for s, stage in enumerate(layout.stages):
        for b in range(stage.depth):
            stride = stage.stride if b == 0 else 1
            filters = [*([0] if stride == 1 else []), *numbers_of_filters(stage.width)]
            name = f"stage{s}.block{b}"
            own = (
                Choice(f"{name}.filters", ((NOTHING,) if stride == 1 else ()) + SHARES),
                Choice(f"{name}.kernel", tuple(map(str, kernels))),
            )
            reads = (own[0].name, own[1].name)
            filled = max(round(fill * stage.width), 1)
            blocks.append(
                BypassBlock(name.replace(".", "_"), reads, channels, filters, kernels, expansion=expansion, stride=stride, fill=filled)
            )
            choices += own
            channels = stage.width
    bypassable = tuple((i, i + 1) for i, choice in enumerate(choices) if choice.options[0] == NOTHING)
    blocks.append(BypassHead(channels, layout.head_width, classes, dropout))
    return ChainSupernet(SearchSpace(tuple(choices), canonicalise=_WithoutIdleKernels(bypassable)), blocks, image_shape, seed=seed)


def numbers_of_filters(width: int) -> tuple[int, ...]:
    """Filters for every share of a width, ascending: multiples of 8 where these are different ones, or else of 4, 2 or 1.

    Raises:
        UsageError: the width has fewer filters than there are shares.
    """
    for multiple in MULTIPLES:
        counts = tuple(math.ceil(float(share) * width / multiple) * multiple for share in SHARES)
        if len(set(counts)) == len(counts) and counts[-1] == width:
            return counts
    raise UsageError(f"A stage of {width} filters cannot be divided into {len(SHARES)} widths; expected at least {len(SHARES)}.")


@dataclass(frozen=True)
class _WithoutIdleKernels:
    """A block without filters has the first kernel: there is nothing that it could be the kernel of."""

    pairs: tuple[tuple[int, int], ...]

    def __call__(self, population: Population) -> Population:
        rows = np.array(population, dtype=np.int64)
        for filters, kernel in self.pairs:
            rows[rows[:, filters] == 0, kernel] = 0
        return rows
