"""The mixed-precision space: a residual network whose blocks choose the bits of their weights and activations.

Guo et al., "Single Path One-Shot Neural Architecture Search with Uniform Sampling", 2019, arXiv 1904.00420, over ResNet-18 and -34 (He et
al., 2015, arXiv 1512.03385); no code was released. One floating-point weight serves all numbers of bits and is rounded on the fly
(`supernet.quantisation`). The first and the last layer keep full precision.

Where the paper is silent: an option "w2a4" is two bits for weights and four for activations; both convolutions of a block and the 1x1
convolution of its shortcut take the same; batch norm exists once for each option, clips once for each number of activation bits.
Departure: what blocks hand on stays in full precision and is rounded where a convolution reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor, nn

from evonas.errors import UsageError
from evonas.space import Choice, SearchSpace
from supernet.blocks import FixedBlock, PathsBlock
from supernet.chain import ChainSupernet
from supernet.quantisation import Clip, QuantisedConv
from supernet.spaces.layout import pick
from supernet.spaces.registry import space

BITS = ("w1a2", "w2a2", "w1a4", "w2a4", "w3a4", "w4a4")


@dataclass(frozen=True)
class Layout:
    """A stem and stages of basic blocks; the first block of every stage but the first halves the map.

    Attributes:
        widths: channels of the stages.
        depths: blocks of the stages.
        large_stem: 7x7 with stride 2 and a pooling, for photographs; otherwise 3x3.
    """

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    large_stem: bool

    @property
    def shrinks(self) -> int:
        """By how much the sides of an image are divided."""
        return int(2 ** (len(self.widths) - 1)) * (4 if self.large_stem else 1)


PRESETS: dict[str, Layout] = {
    "tiny": Layout((16, 32, 64), (2, 2, 2), large_stem=False),
    "small": Layout((16, 32, 64), (3, 3, 3), large_stem=False),
    "resnet18": Layout((64, 128, 256, 512), (2, 2, 2, 2), large_stem=True),
    "resnet34": Layout((64, 128, 256, 512), (3, 4, 6, 3), large_stem=True),
}


SIZES = {"tiny": 24, "small": 64, "resnet18": inf}  # largest images, in pixels


@space("quantised", summary="residual blocks: bits of weights, activations", paper="Guo et al. 2019, arXiv 1904.00420")
def quantised(
    image_shape: tuple[int, int, int] = (3, 224, 224),
    classes: int = 1000,
    *,
    layout: str | Layout | None = None,
    bits: Sequence[str] = BITS,
    seed: int = 0,
) -> ChainSupernet:
    """The supernet of the mixed-precision space.

    Args:
        image_shape: (channels, height, width).
        classes: number of logits.
        layout: a preset's name, or widths and depths of your own; chosen by the image size unless told otherwise.
        bits: what a block may take, in ascending order of their product, such as "w2a4": two bits for weights, four for activations.
        seed: of the initial weights.

    Raises:
        UsageError: an unknown layout, bits that cannot be read or do not ascend, or images too small for the strides.
    """
    layout, pairs = pick(layout, PRESETS, SIZES, image_shape), [read_bits(option) for option in bits]
    products = [w * a for w, a in pairs]
    if products != sorted(products):
        raise UsageError(f"The bits {', '.join(bits)} do not ascend in their products {products}; expected the fewest first.")
    blocks: list[PathsBlock | FixedBlock] = [FixedBlock("stem", _stem(image_shape[0], layout))]
    choices, channels = [], layout.widths[0]
    for s, (width, depth) in enumerate(zip(layout.widths, layout.depths, strict=True)):
        for b in range(depth):
            choice = Choice(f"stage{s}.block{b}.bits", tuple(bits))
            choices.append(choice)
            blocks.append(_block(f"stage{s}_block{b}", choice.name, channels, width, 2 if s and not b else 1, pairs))
            channels = width
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))
    return ChainSupernet(SearchSpace(tuple(choices)), [*blocks, FixedBlock("head", head)], image_shape, seed=seed)


def read_bits(option: str) -> tuple[int, int]:
    """(weight bits, activation bits) of an option such as "w2a4".

    Raises:
        UsageError: another form, or no bits.
    """
    weight, _, activation = option.removeprefix("w").partition("a")
    if not (option.startswith("w") and weight.isdecimal() and activation.isdecimal() and int(weight) and int(activation)):
        raise UsageError(f"Malformed bits {option!r}; expected a form such as w2a4: two bits for weights, four for activations.")
    return int(weight), int(activation)


class BasicBlock(nn.Module):
    """Two quantised convolutions and a shortcut: (n, c, h, w) -> (n, out, h / stride, w / stride).

    Args:
        first, second: of the main branch, each with the batch norm that follows it.
        shortcut: the same where the shape changes; None adds the input itself.
    """

    def __init__(self, first: nn.Module, second: nn.Module, shortcut: nn.Module | None) -> None:
        super().__init__()
        self.first, self.second, self.shortcut = first, second, shortcut

    def forward(self, x: Tensor) -> Tensor:
        # the second convolution clips below at 0, which is the ReLU after the first
        return torch.relu(self.second(self.first(x)) + (x if self.shortcut is None else self.shortcut(x)))


def _block(name: str, reads: str, in_channels: int, out_channels: int, stride: int, pairs: Sequence[tuple[int, int]]) -> PathsBlock:
    """A block with one module for every option; they share the floating-point weights, and clips of as many bits."""
    weights = nn.ModuleList(
        [
            nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False),
            nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False),
        ]
    )
    if stride != 1 or in_channels != out_channels:
        weights.append(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False))
    clips = nn.ModuleList(nn.ModuleDict({str(bits): Clip() for bits in sorted({a for _, a in pairs})}) for _ in weights)
    paths: dict[tuple[int, ...], nn.Module] = {}
    norms = nn.ModuleList()
    for option, (weight_bits, activation_bits) in enumerate(pairs):
        layers = []
        for weight, clip in zip(weights, clips, strict=True):
            norms.append(nn.BatchNorm2d(out_channels))
            layers.append(nn.Sequential(QuantisedConv(weight, weight_bits, activation_bits, clip[str(activation_bits)]), norms[-1]))  # type: ignore
        paths[(option,)] = BasicBlock(layers[0], layers[1], layers[2] if len(layers) > 2 else None)
    return PathsBlock(name, [reads], paths, nn.ModuleDict({"weights": weights, "clips": clips, "norms": norms}))


def _stem(in_channels: int, layout: Layout) -> nn.Sequential:
    width = layout.widths[0]
    if layout.large_stem:
        convolution = nn.Conv2d(in_channels, width, 7, 2, 3, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1))
    return nn.Sequential(nn.Conv2d(in_channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
