"""Search spaces as supernets, one file each. `SPACES` lists them with their papers."""

from __future__ import annotations

from collections.abc import Callable

from evonas.registry import Entry
from supernet.chain import ChainSupernet
from supernet.spaces.mbconv import PRESETS, Layout, Stage, mbconv, preset_for

__all__ = ["PRESETS", "SPACES", "Layout", "Stage", "mbconv", "preset_for"]


SPACES: dict[str, Entry[Callable[..., ChainSupernet]]] = {
    "mbconv": Entry("mbconv", "chain of inverted residuals: kernel, expansion, skip", "Cai et al. 2018, arXiv 1812.00332", mbconv),
}
