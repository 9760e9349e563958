"""Search spaces as supernets, one file each. `SPACES` lists them with their papers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from supernet.spaces.mbconv import PRESETS, Layout, Stage, mbconv, preset_for

__all__ = ["PRESETS", "SPACES", "Layout", "SpaceEntry", "Stage", "mbconv", "preset_for"]


@dataclass(frozen=True)
class SpaceEntry:
    """A search space as the lists show it."""

    name: str
    summary: str
    paper: str
    make: Callable[..., Any]


SPACES: dict[str, SpaceEntry] = {
    "mbconv": SpaceEntry("mbconv", "chain of inverted residuals: kernel, expansion, skip", "Cai et al. 2018, arXiv 1812.00332", mbconv),
}
