"""The mbconv space: a chain of inverted residual blocks with a free kernel size, expansion and, where shapes allow, existence.

The space of Cai et al., "ProxylessNAS", 2018, arXiv 1812.00332, and Wu et al., "FBNet", 2018, arXiv 1812.03443 (kernels 3, 5,
7; expansions 3, 6; skip), with stage widths and depths as arguments and presets from 8-pixel digits to 224-pixel photographs.
Departure: the skip is also offered in the first block of a stage where stride and width let it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from torch import nn

from evonas.space import Choice, SearchSpace
from supernet.blocks import ChoiceBlock, FixedBlock
from supernet.chain import ChainSupernet
from supernet.operators import InvertedResidual, conv_bn
from supernet.spaces.layout import Layout, Stage, pick, with_stages
from supernet.spaces.registry import space

PRESETS: dict[str, Layout] = {
    "digits": Layout(16, 1, (Stage(16, 2, 1), Stage(24, 3, 2), Stage(40, 3, 2)), 128),
    "tiny": Layout(16, 1, (Stage(16, 2, 1), Stage(24, 3, 2), Stage(48, 3, 2), Stage(64, 2, 2)), 192),
    "small": Layout(24, 1, (Stage(24, 2, 1), Stage(32, 3, 2), Stage(64, 4, 2), Stage(128, 3, 2)), 512),
    "mobile": Layout(
        32,
        2,
        (Stage(16, 1, 1), Stage(24, 4, 2), Stage(40, 4, 2), Stage(80, 4, 2), Stage(96, 4, 1), Stage(192, 4, 2), Stage(320, 1, 1)),
        1280,
    ),
}


SIZES = {"digits": 12, "tiny": 24, "small": 64, "mobile": inf}  # largest images, in pixels


@space("mbconv", summary="chain of inverted residuals: kernel, expansion, skip", paper="Cai et al. 2018, arXiv 1812.00332")
def mbconv(
    image_shape: tuple[int, int, int],
    classes: int,
    *,
    layout: str | Layout | None = None,
    widths: Sequence[int] | None = None,
    depths: Sequence[int] | None = None,
    kernels: Sequence[int] = (3, 5, 7),
    expansions: Sequence[int] = (3, 6),
    squeeze_excite: bool = False,
    dropout: float = 0.0,
    seed: int = 0,
) -> ChainSupernet:
    """A supernet of inverted residual blocks.

    Args:
        image_shape: (channels, height, width).
        classes: number of logits.
        layout: a preset's name, or widths and depths of your own; chosen by the image size unless told otherwise.
        widths: channels of every stage, in place of the layout's.
        depths: blocks of every stage, in place of the layout's.
        kernels: depthwise filter sizes offered in every block.
        expansions: expansion ratios offered in every block.
        squeeze_excite: offer every operator with squeeze-and-excitation as well.
        dropout: before the classifier.
        seed: of the initial weights.

    Raises:
        UsageError: an unknown preset, widths or depths that do not fit its stages, or images too small for its strides.
    """
    layout = with_stages(pick(layout, PRESETS, SIZES, image_shape), widths, depths)

    blocks: list[ChoiceBlock | FixedBlock] = [FixedBlock("stem", conv_bn(image_shape[0], layout.stem_width, 3, layout.stem_stride))]
    choices, channels = [], layout.stem_width
    for s, stage in enumerate(layout.stages):
        for b in range(stage.depth):
            stride = stage.stride if b == 0 else 1
            options = operators(channels, stage.width, stride, kernels, expansions, squeeze_excite)
            choice = Choice(f"stage{s}.block{b}.op", tuple(options))
            choices.append(choice)
            blocks.append(ChoiceBlock(f"stage{s}_block{b}", choice.name, options))
            channels = stage.width
    head = nn.Sequential(
        conv_bn(channels, layout.head_width, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(layout.head_width, classes),
    )
    return ChainSupernet(SearchSpace(tuple(choices)), [*blocks, FixedBlock("head", head)], image_shape, seed=seed)


def operators(
    in_channels: int, out_channels: int, stride: int, kernels: Sequence[int], expansions: Sequence[int], squeeze_excite: bool
) -> dict[str, nn.Module]:
    """The options of one block by name: mb3_k3, mb3_k5, ..., mb6_k7_se, and skip where the shape stays."""
    options: dict[str, nn.Module] = {
        f"mb{expansion}_k{kernel}{'_se' if gate else ''}": InvertedResidual(in_channels, out_channels, kernel, expansion, stride, gate)
        for expansion in expansions
        for kernel in kernels
        for gate in ((False, True) if squeeze_excite else (False,))
    }
    if stride == 1 and in_channels == out_channels:
        options["skip"] = nn.Identity()
    return options
