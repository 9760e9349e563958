"""The branches space: a chain whose every layer runs up to so many operators of a large pool side by side.

Ci et al., "Evolving Search Space for Neural Architecture Search", 2021, arXiv 2011.10904. The space is too large for one supernet, which is
what `evonas nse` is for: it searches a few operators a layer at a time. Layouts are those of `mbconv`.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from evonas.errors import UsageError, unknown
from evonas.space import Choice, SearchSpace
from supernet.blocks import Block, FixedBlock
from supernet.branch_chain import BranchBlock, Branches, BranchSupernet
from supernet.branch_operators import NONE, POOLS, SECOND
from supernet.operators import conv_bn
from supernet.spaces.layout import Layout, pick, with_stages
from supernet.spaces.mbconv import PRESETS, SIZES
from supernet.spaces.registry import space


@space("branches", summary="layers that run several operators of a large pool side by side", paper="Ci et al. 2021, arXiv 2011.10904")
def branches(
    image_shape: tuple[int, int, int],
    classes: int,
    *,
    pool: str = "first",
    operators: Sequence[str] | None = None,
    most: int = 2,
    layout: str | Layout | None = None,
    widths: Sequence[int] | None = None,
    depths: Sequence[int] | None = None,
    seed: int = 0,
) -> BranchSupernet:
    """A supernet of layers with several branches.

    Args:
        image_shape: (channels, height, width).
        classes: number of logits.
        pool: first (18 operators), or second (27 more, with grouped convolutions).
        operators: names of those that are offered, in place of the pool's; see `supernet.branch_operators`.
        most: operators that a layer runs at most.
        layout: a preset's name, or widths and depths of your own; chosen by the image size unless told otherwise.
        widths: channels of every stage, in place of the layout's.
        depths: blocks of every stage, in place of the layout's.
        seed: of the initial weights.

    Raises:
        UsageError: an unknown pool, operator or preset, fewer than two operators or one branch, widths or depths that do not fit the
            stages, or images too small for the strides.
    """
    layout = with_stages(pick(layout, PRESETS, SIZES, image_shape), widths, depths)
    if pool not in POOLS:
        raise unknown("pool", pool, POOLS)
    offered = list(POOLS[pool] if operators is None else operators)
    for name in offered:
        if name not in SECOND:
            raise unknown("operator", name, SECOND)
    if most < 1 or len(offered) < 2 or len(set(offered)) < len(offered):
        raise UsageError(f"Got {len(offered)} operators and at most {most} branches; expected at least two different ones, and a branch.")
    stem = FixedBlock("stem", conv_bn(image_shape[0], layout.stem_width, 3, layout.stem_stride))
    blocks: list[Block] = [stem]
    choices: list[Choice] = []
    allowed: list[tuple[int, ...]] = []
    everything, channels = tuple(range(len(offered) + 1)), layout.stem_width
    for s, stage in enumerate(layout.stages):
        for b in range(stage.depth):
            stride = stage.stride if b == 0 else 1
            residual = stride == 1 and channels == stage.width
            names = [f"stage{s}.block{b}.branch{i}" for i in range(most)]
            choices += [Choice(name, (*offered, NONE)) for name in names]
            allowed += [everything if residual or i else everything[:-1] for i in range(most)]
            made = {name: SECOND[name](channels, stage.width, stride) for name in offered}
            blocks.append(BranchBlock(f"stage{s}_block{b}", names, made, residual))
            channels = stage.width
    pooled = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
    blocks.append(
        FixedBlock("head", nn.Sequential(conv_bn(channels, layout.head_width, 1), *pooled, nn.Linear(layout.head_width, classes)))
    )
    laid_out = Branches(len(choices) // most, most, len(offered))
    alike = tuple(tuple(range(layer * most, (layer + 1) * most)) for layer in range(laid_out.layers)) if most > 1 else ()
    space = SearchSpace(tuple(choices), tuple(allowed), canonicalise=laid_out.canonical, alike=alike)
    return BranchSupernet(space, blocks, image_shape, laid_out, seed=seed)
