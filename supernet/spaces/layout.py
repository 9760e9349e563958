"""Layouts of chains: how many stages, how wide and deep, and which one suits images of a size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Protocol, TypeVar

from evonas.errors import UsageError, unknown


@dataclass(frozen=True)
class Stage:
    """`depth` blocks of `width` channels, the first with `stride`."""

    width: int
    depth: int
    stride: int


@dataclass(frozen=True)
class Layout:
    """Widths and depths of a chain: a stem convolution, stages, and a 1x1 head before the classifier."""

    stem_width: int
    stem_stride: int
    stages: tuple[Stage, ...]
    head_width: int

    @property
    def shrinks(self) -> int:
        """By how much the sides of an image are divided."""
        return self.stem_stride * prod(stage.stride for stage in self.stages)


class Shrinking(Protocol):
    """What every layout knows."""

    @property
    def shrinks(self) -> int: ...


L = TypeVar("L", bound=Shrinking)


def preset_for(image_size: int, sizes: Mapping[str, float]) -> str:
    """The name of the preset made for images of this many pixels.

    Args:
        image_size: the shorter side.
        sizes: for every preset, ascending, the largest images it is made for.
    """
    return next(name for name, largest in sizes.items() if image_size <= largest)


def pick(layout: str | L | None, presets: Mapping[str, L], sizes: Mapping[str, float], image_shape: tuple[int, int, int]) -> L:
    """A layout from a preset's name, from the image size (None), or as it is.

    Raises:
        UsageError: an unknown preset, or images too small for the strides.
    """
    if layout is None:
        layout = preset_for(min(image_shape[1:]), sizes)
    if isinstance(layout, str):
        if layout not in presets:
            raise unknown("layout", layout, presets)
        layout = presets[layout]
    if min(image_shape[1:]) < layout.shrinks:
        raise UsageError(
            f"Images of {image_shape[1]}x{image_shape[2]} pixels are too small for a layout that divides them by {layout.shrinks}."
        )
    return layout


def with_stages(layout: Layout, widths: Sequence[int] | None, depths: Sequence[int] | None) -> Layout:
    """A layout with other widths or depths of its stages.

    Raises:
        UsageError: not one for each stage.
    """
    for what, values in (("widths", widths), ("depths", depths)):
        if values is not None and (len(values) != len(layout.stages) or min(values) < 1):
            raise UsageError(
                f"Got {what} {tuple(values)}; expected {len(layout.stages)} positive numbers, one for each stage of the layout."
            )
    pairs = zip(widths or [s.width for s in layout.stages], depths or [s.depth for s in layout.stages], layout.stages, strict=True)
    return replace(layout, stages=tuple(Stage(width, depth, stage.stride) for width, depth, stage in pairs))
