"""Search spaces as supernets, or as families of stand-alone networks, one file each. `SPACES` lists them with their papers."""

from __future__ import annotations

from collections.abc import Callable

from evonas.registry import Entry
from supernet.chain import ChainSupernet
from supernet.spaces.layout import Layout, Stage
from supernet.spaces.macro import macro
from supernet.spaces.mbconv import PRESETS, mbconv
from supernet.spaces.quantised import quantised
from supernet.spaces.shuffle import WIDTHS, shuffle
from supernet.spaces.skip import SkipFamily, skip_cells
from supernet.spaces.two_node import two_node

__all__ = [
    "PRESETS",
    "SPACES",
    "WIDTHS",
    "Layout",
    "SkipFamily",
    "Stage",
    "macro",
    "mbconv",
    "quantised",
    "shuffle",
    "skip_cells",
    "two_node",
]


SPACES: dict[str, Entry[Callable[..., ChainSupernet | SkipFamily]]] = {
    "mbconv": Entry("mbconv", "chain of inverted residuals: kernel, expansion, skip", "Cai et al. 2018, arXiv 1812.00332", mbconv),
    "macro": Entry("macro", "NAS-Bench-Macro, whose 6,561 accuracies are published", "Su et al. 2021, arXiv 2103.11922", macro),
    "shuffle": Entry("shuffle", "ShuffleNetV2 units: kernel or Xception, and width", "Guo et al. 2019, arXiv 1904.00420", shuffle),
    "quantised": Entry("quantised", "residual blocks: bits of weights, activations", "Guo et al. 2019, arXiv 1904.00420", quantised),
    "skip": Entry("skip", "cells with skip connections, trained on their own", "Li et al. 2021, arXiv 2108.00568", skip_cells),
    "two-node": Entry("two-node", "64 networks of one cell, all of which can be trained", "Zhang et al. 2020, arXiv 2001.01431", two_node),
}
