"""Search spaces as supernets, or as families of stand-alone networks, one file each. `SPACES` lists them with their papers."""

from __future__ import annotations

from supernet.spaces.branches import branches
from supernet.spaces.bypass import bypass
from supernet.spaces.cream import cream
from supernet.spaces.darts import darts
from supernet.spaces.ensemble import ensemble
from supernet.spaces.layout import Layout, Stage
from supernet.spaces.macro import macro
from supernet.spaces.mbconv import PRESETS, mbconv
from supernet.spaces.nasbench201 import nasbench201
from supernet.spaces.pnas import PnasFamily, pnas_cells
from supernet.spaces.quantised import quantised
from supernet.spaces.registry import SPACES, space
from supernet.spaces.shuffle import WIDTHS, shuffle
from supernet.spaces.skip import SkipFamily, skip_cells
from supernet.spaces.two_node import two_node

__all__ = [
    "PRESETS",
    "SPACES",
    "WIDTHS",
    "Layout",
    "PnasFamily",
    "SkipFamily",
    "Stage",
    "branches",
    "bypass",
    "cream",
    "darts",
    "ensemble",
    "macro",
    "mbconv",
    "nasbench201",
    "pnas_cells",
    "quantised",
    "shuffle",
    "skip_cells",
    "space",
    "two_node",
]
