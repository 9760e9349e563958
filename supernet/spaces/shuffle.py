"""The ShuffleNetV2 space: which of four operators each block runs and, where widths are offered, how wide it is inside.

Guo et al., "Single Path One-Shot Neural Architecture Search with Uniform Sampling", 2019, arXiv 1904.00420, over the units of Ma et al.,
"ShuffleNet V2", 2018, arXiv 1807.11164: three shuffle units with kernels 3, 5 and 7 and one like Xception. A unit passes half of its
channels on as they are; widths scale the channels inside of the other half's branch, so that what blocks hand on never changes its shape.

Batch norm of the supernet has no scale and no shift, that of a network on its own has, as in the official code. Departures: batch norm
has its own statistics for every width (`supernet.slicing`), and images are normalised.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from evonas.errors import UsageError
from evonas.space import Choice, SearchSpace
from supernet.blocks import FixedBlock, PathsBlock
from supernet.chain import ChainSupernet
from supernet.slicing import SlicedConv, WideConv
from supernet.spaces.layout import Layout, Stage, pick
from supernet.spaces.registry import space

OPERATORS = ("shuffle_k3", "shuffle_k5", "shuffle_k7", "xception")
WIDTHS = ("0.2", "0.4", "0.6", "0.8", "1.0", "1.2", "1.4", "1.6")


PRESETS: dict[str, Layout] = {
    "digits": Layout(16, 1, (Stage(32, 2, 1), Stage(64, 3, 2)), 128),
    "tiny": Layout(16, 1, (Stage(32, 2, 1), Stage(64, 3, 2), Stage(128, 2, 2)), 256),
    "cifar": Layout(16, 1, (Stage(64, 4, 1), Stage(160, 4, 2), Stage(320, 8, 2), Stage(640, 4, 1)), 1024),
    "imagenet": Layout(16, 2, (Stage(64, 4, 2), Stage(160, 4, 2), Stage(320, 8, 2), Stage(640, 4, 2)), 1024),
}


SIZES = {"digits": 12, "tiny": 24, "cifar": 64, "imagenet": inf}  # largest images, in pixels


@space("shuffle", summary="ShuffleNetV2 units: kernel or Xception, and width", paper="Guo et al. 2019, arXiv 1904.00420")
def shuffle(
    image_shape: tuple[int, int, int] = (3, 224, 224),
    classes: int = 1000,
    *,
    layout: str | Layout | None = None,
    widths: Sequence[str] = ("1.0",),
    dropout: float = 0.1,
    seed: int = 0,
) -> ChainSupernet:
    """The supernet of the ShuffleNetV2 space.

    Args:
        image_shape: (channels, height, width).
        classes: number of logits.
        layout: a preset's name, or widths and depths of your own; chosen by the image size unless told otherwise.
        widths: how wide a block may be inside, relative to half of its output channels, ascending; `WIDTHS` are the paper's. With a single
            one, there is nothing to choose.
        dropout: before the classifier.
        seed: of the initial weights.

    Raises:
        UsageError: an unknown layout or one that units cannot be built for, widths that are no ascending positive numbers or leave a block
            without channels, or images too small for the strides.
    """
    layout, scales = pick(layout, PRESETS, SIZES, image_shape), _scales(widths)
    _require_units(layout, scales)
    blocks: list[PathsBlock | FixedBlock] = [FixedBlock("stem", _stem(image_shape[0], layout.stem_width, layout.stem_stride))]
    choices, channels = [], layout.stem_width
    for s, stage in enumerate(layout.stages):
        for b in range(stage.depth):
            reads = [Choice(f"stage{s}.block{b}.op", OPERATORS)]
            if len(widths) > 1:
                reads.append(Choice(f"stage{s}.block{b}.width", tuple(widths)))
            names = [choice.name for choice in reads]
            blocks.append(_block(f"stage{s}_block{b}", names, channels, stage.width, stage.stride if b == 0 else 1, scales))
            choices += reads
            channels = stage.width
    head = nn.Sequential(
        nn.Conv2d(channels, layout.head_width, 1, bias=False),
        nn.BatchNorm2d(layout.head_width, affine=False),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(layout.head_width, classes, bias=False),
    )
    return ChainSupernet(SearchSpace(tuple(choices)), [*blocks, FixedBlock("head", head)], image_shape, seed=seed)


class ShuffleUnit(nn.Module):
    """A unit of two branches whose channels are joined: (n, c, h, w) -> (n, out, h / stride, w / stride).

    Args:
        main: the branch that computes; without a projection it gets every second channel.
        projection: the other branch where the map shrinks; None passes the remaining channels on as they are.
    """

    def __init__(self, main: nn.Module, projection: nn.Module | None) -> None:
        super().__init__()
        self.main, self.projection = main, projection

    def forward(self, x: Tensor) -> Tensor:
        if self.projection is None:
            return torch.cat((x[:, 0::2], self.main(x[:, 1::2])), dim=1)  # taking every second channel is the shuffle
        return torch.cat((self.projection(x), self.main(x)), dim=1)


def inner_width(out_channels: int, scale: Fraction) -> int:
    """Channels inside of a block's main branch."""
    return int(out_channels // 2 * scale)


def _block(name: str, reads: Sequence[str], in_channels: int, out_channels: int, stride: int, scales: Sequence[Fraction]) -> PathsBlock:
    """All units of a block: one for every operator and width; those of an operator share their weights."""
    paths: dict[tuple[int, ...], nn.Module] = {}
    shared = nn.ModuleDict()
    into = in_channels if stride == 2 else in_channels // 2
    inner = [inner_width(out_channels, scale) for scale in scales]
    for o, operator in enumerate(OPERATORS):
        kernel = 3 if operator == "xception" else int(operator[-1])
        weights = _weights(operator, into, max(inner), out_channels - into, kernel, stride)
        projection = None if stride == 1 else _projection(in_channels, kernel)
        mains = [_main(operator, weights, into, width, out_channels - into) for width in inner]
        for w, main in enumerate(mains):
            paths[(o, w) if len(reads) > 1 else (o,)] = ShuffleUnit(main, projection)
        norms = nn.ModuleList(layer for main in mains for layer in main if isinstance(layer, nn.BatchNorm2d))
        shared[operator] = nn.ModuleDict({"weights": weights, "norms": norms})
        if projection is not None:
            shared[operator]["projection"] = projection  # type: ignore[operator]
    return PathsBlock(name, reads, paths, shared)


def _weights(operator: str, into: int, inner: int, out: int, kernel: int, stride: int) -> nn.ModuleList:
    """The convolutions of a main branch at its greatest width, in order."""
    if operator == "xception":
        return nn.ModuleList(
            [
                WideConv(into, into, 3, stride, depthwise=True),
                WideConv(into, inner, 1),
                WideConv(inner, inner, 3, depthwise=True),
                WideConv(inner, inner, 1),
                WideConv(inner, inner, 3, depthwise=True),
                WideConv(inner, out, 1),
            ]
        )
    return nn.ModuleList([WideConv(into, inner, 1), WideConv(inner, inner, kernel, stride, depthwise=True), WideConv(inner, out, 1)])


def _main(operator: str, weights: nn.ModuleList, into: int, inner: int, out: int) -> nn.Sequential:
    """A main branch of the width `inner`: the leading parts of the weights, with batch norm of its own; 1x1 convolutions end in a ReLU."""
    widths = [into, into, inner, inner, inner, inner, out] if operator == "xception" else [into, inner, inner, out]
    layers: list[nn.Module] = []
    for weight, (before, after) in zip(weights, pairwise(widths), strict=True):
        assert isinstance(weight, WideConv)
        layers += [SlicedConv(weight, after, before), nn.BatchNorm2d(after, affine=False)]
        if not weight.depthwise:
            layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def _projection(channels: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, kernel, 2, kernel // 2, groups=channels, bias=False),
        nn.BatchNorm2d(channels, affine=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels, affine=False),
        nn.ReLU(inplace=True),
    )


def _stem(in_channels: int, width: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width, affine=False), nn.ReLU(inplace=True)
    )


def _scales(widths: Sequence[str]) -> list[Fraction]:
    try:
        scales = [Fraction(width) for width in widths if isinstance(width, str)]
    except (ValueError, ZeroDivisionError):
        scales = []
    if not scales or len(scales) < len(widths) or scales != sorted(set(scales)) or scales[0] <= 0:
        raise UsageError(f"Got the widths {tuple(widths)}; expected ascending positive numbers as texts, such as ('0.5', '1.0').")
    return scales


def _require_units(layout: Layout, scales: Sequence[Fraction]) -> None:
    channels = layout.stem_width
    for s, stage in enumerate(layout.stages):
        if (
            stage.stride not in (1, 2)
            or (stage.stride == 1 and channels % 2)
            or stage.width % 2
            or stage.width <= channels // (3 - stage.stride)
        ):
            raise UsageError(
                f"Stage {s} of the layout takes {channels} channels to {stage.width} with stride {stage.stride}; expected even numbers, "
                f"stride 1 or 2, and with stride 2 more channels than before."
            )
        if inner_width(stage.width, scales[0]) < 1:
            raise UsageError(
                f"A width of {float(scales[0]):g} leaves no channel inside of a block of {stage.width}; expected a larger one."
            )
        channels = stage.width


@space("shuffle-widths", summary="the same with eight widths for every block", paper="Guo et al. 2019, arXiv 1904.00420")
def shuffle_widths(image_shape: tuple[int, int, int] = (3, 224, 224), classes: int = 1000, **settings: Any) -> ChainSupernet:
    """`shuffle` with the widths of the paper."""
    return shuffle(image_shape, classes, **{"widths": WIDTHS, **settings})
