"""The ensemble space: members that share their first inverted residuals and have operators of their own after a split, which is chosen.

Chen, Fu and Ling, "One-Shot Neural Ensemble Architecture Search", 2021, arXiv 2104.00597, over the layouts and operators of `mbconv`. The
order of the members says nothing, and what members after the first would run before the split is not there: a canonical architecture has
the members' private paths in order, and the first member's operators in all before the split.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import nn

from evonas.errors import UsageError
from evonas.space import Choice, SearchSpace
from supernet.blocks import Block, FixedBlock
from supernet.ensemble_block import EnsembleBlock, HeadsBlock, ToMembers
from supernet.ensemble_chain import EnsembleSupernet, Layers
from supernet.operators import conv_bn
from supernet.spaces.layout import Layout, pick, with_stages
from supernet.spaces.mbconv import PRESETS, SIZES, operators
from supernet.spaces.registry import space

SPLIT = "split"


@space("ensemble", summary="members that share layers up to a split", paper="Chen et al. 2021, arXiv 2104.00597")
def ensemble(
    image_shape: tuple[int, int, int],
    classes: int,
    *,
    members: int = 2,
    splits: Sequence[int] | None = None,
    layout: str | Layout | None = None,
    widths: Sequence[int] | None = None,
    depths: Sequence[int] | None = None,
    kernels: Sequence[int] = (3, 5, 7),
    expansions: Sequence[int] = (3, 6),
    seed: int = 0,
) -> EnsembleSupernet:
    """A supernet of ensembles.

    Args:
        image_shape: (channels, height, width).
        classes: number of logits.
        members: of every ensemble; those whose split is the last share everything but their heads.
        splits: layers that may be shared, ascending; every number from none to all unless told otherwise.
        layout: a preset's name, or widths and depths of your own; chosen by the image size unless told otherwise.
        widths: channels of every stage, in place of the layout's.
        depths: blocks of every stage, in place of the layout's.
        kernels: depthwise filter sizes offered in every block.
        expansions: expansion ratios offered in every block.
        seed: of the initial weights.

    Raises:
        UsageError: fewer than two members, splits that are no ascending numbers of layers, an unknown preset, widths or depths that do not
            fit its stages, or images too small for its strides.
    """
    layout = with_stages(pick(layout, PRESETS, SIZES, image_shape), widths, depths)
    layers = sum(stage.depth for stage in layout.stages)
    splits = tuple(range(layers + 1)) if splits is None else tuple(splits)
    if members < 2:
        raise UsageError(f"Got {members} members; expected at least 2 (a single network is one of the space mbconv).")
    if not splits or list(splits) != sorted(set(splits)) or not 0 <= splits[0] <= splits[-1] <= layers:
        raise UsageError(f"Got the splits {splits}; expected ascending numbers of layers, 0 to {layers}.")
    split = Choice(SPLIT, tuple(f"after {count}" for count in splits))
    stem = ToMembers(conv_bn(image_shape[0], layout.stem_width, 3, layout.stem_stride), members)
    blocks: list[Block] = [FixedBlock("stem", stem)]
    own: list[list[Choice]] = [[] for _ in range(members)]
    channels, layer = layout.stem_width, 0
    for s, stage in enumerate(layout.stages):
        for b in range(stage.depth):
            make = partial(operators, channels, stage.width, stage.stride if b == 0 else 1, kernels, expansions, False)
            offered = tuple(make())
            for m in range(members):
                own[m].append(Choice(f"member{m}.stage{s}.block{b}.op", offered))
            blocks.append(EnsembleBlock(f"stage{s}_block{b}", layer, splits, [SPLIT, *(mine[-1].name for mine in own)], make))
            channels, layer = stage.width, layer + 1

    def head() -> nn.Module:
        pooled = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return nn.Sequential(conv_bn(channels, layout.head_width, 1), *pooled, nn.Linear(layout.head_width, classes))

    blocks.append(HeadsBlock(layers, splits, SPLIT, [head() for _ in range(members)]))
    choices = (split, *(choice for mine in own for choice in mine))
    laid_out = Layers(members, layers, splits)
    alike = tuple(tuple(1 + layer + member * layers for member in range(members)) for layer in range(layers))
    return EnsembleSupernet(SearchSpace(choices, canonicalise=laid_out.canonical, alike=alike), blocks, image_shape, laid_out, seed=seed)
