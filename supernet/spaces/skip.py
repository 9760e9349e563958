"""The skip space: cells of equal layers, free in depth, width and the number of channels that skip ahead.

The family of Li et al., "FLASH", 2021, arXiv 2108.00568, and of its predecessor NN-Mass (Bhardwaj et al., 2019, arXiv 1910.00780):
DenseNet- and ResNet-like networks of a few cells, widths doubling from cell to cell. Layer i of a cell (from the third on) reads all
channels of the layer before it, and up to t channels of the older ones, drawn once with a fixed seed; they are concatenated to its input,
or added to its output. Networks of this space are trained on their own: there is no supernet of it.

Departures: the paper's bounds are not stated exactly; 26 depths, 109 numbers of skips for each of 3 cells and 3 widths make 6.83e10
networks. The number of skips counts in steps that double with the width, so that every cell can be equally dense.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from evonas.errors import UsageError, unknown
from evonas.space import Architecture, Choice, Population, SearchSpace
from supernet.initialisation import initialise
from supernet.spaces.registry import space

CONNECTIONS = ("concatenation", "addition")
LINKS_SEED = 0
Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Cells(NamedTuple):
    """What an architecture of the skip space says of its cells: arrays of shape (n, cells)."""

    widths: Integers
    depths: Integers
    skips: Integers


@dataclass(frozen=True)
class SkipFamily:
    """A skip space with the networks that its architectures stand for.

    Attributes:
        space: choices `width`, then `cellN.depth` and `cellN.skips` for every cell.
        image_shape: (channels, height, width).
        classes: number of logits.
        base_widths: channels of every cell at width 1.
        connection: "concatenation" or "addition".
    """

    space: SearchSpace
    image_shape: tuple[int, int, int]
    classes: int
    base_widths: tuple[int, ...]
    connection: str

    def cells(self, population: Population) -> Cells:
        """Channels of a layer, layers, and most channels that skip to one layer, of every cell of every row."""
        return _cells(self.space.choices, self.base_widths, np.asarray(population))

    def network(self, architecture: Architecture | npt.NDArray[np.int64], *, seed: int = 0) -> nn.Sequential:
        """The stand-alone network, with fresh weights: images in, logits out.

        Args:
            architecture: option indices.
            seed: of the weights. Which channels skip does not depend on it.
        """
        cells = self.cells(self.space.population([architecture]))
        modules: list[nn.Module] = [nn.Conv2d(self.image_shape[0], int(cells.widths[0, 0]), 3, padding=1, bias=False)]
        channels = int(cells.widths[0, 0])
        for c, (width, depth, skips) in enumerate(zip(*(part[0].tolist() for part in cells), strict=True)):
            modules.append(SkipCell(channels, width, depth, skips, 1 if c == 0 else 2, self.connection, (LINKS_SEED, c)))
            channels = width
        head = [nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, self.classes)]
        network = nn.Sequential(*modules, *head)
        initialise(network, seed)
        return network

    def totals(self, population: Population) -> dict[str, Floats]:
        """What hardware models look at, added up over all convolutions and the classifier, in closed form: arrays of shape (n,).

        Returns:
            `macs`; `params`; `activations`, elements of the maps that layers read and write; `layers`, convolutions and classifier;
            `connections`, pairs of layers of which one takes channels of the other.
        """
        cells = self.cells(population)
        widths, depths, skips = (part.astype(np.float64) for part in cells)
        taken = _taken(widths, depths, skips)
        before = np.concatenate([widths[:, :1], widths[:, :-1]], axis=1)
        pixels = np.array([self._pixels(c) for c in range(len(self.base_widths))], dtype=np.float64)
        wired = taken if self.connection == "concatenation" else np.zeros_like(taken)
        read = before + (depths - 1) * widths + wired  # channels that the convolutions of a cell read
        read_pixels = pixels * read
        read_pixels += before * (np.array([self._pixels(max(c - 1, 0)) for c in range(len(pixels))]) - pixels)
        stem, last = self.image_shape[0], widths[:, -1]
        return {
            "macs": (9 * pixels * widths * read).sum(1) + 9 * pixels[0] * stem * widths[:, 0] + last * self.classes,
            "params": ((9 * widths + 2) * read).sum(1) + 9 * stem * widths[:, 0] + 2 * last + (last + 1) * self.classes,
            "activations": (read_pixels + pixels * depths * widths).sum(1) + pixels[0] * (stem + widths[:, 0]) + last + self.classes,
            "layers": depths.sum(1) + 2,
            "connections": self._connections(cells),
        }

    def _connections(self, cells: Cells) -> Floats:
        deepest, most = (max(map(int, choice.options)) for choice in self.space.choices[-2:])
        total = np.zeros(len(cells.widths))
        for c in range(len(self.base_widths)):
            for width in np.unique(cells.widths[:, c]):
                rows = cells.widths[:, c] == width
                total[rows] += _joined(int(width), deepest, most, (LINKS_SEED, c))[cells.depths[rows, c], cells.skips[rows, c]]
        return total

    def _pixels(self, cell: int) -> int:
        height, width = self.image_shape[1:]
        for _ in range(cell):
            height, width = (height + 1) // 2, (width + 1) // 2
        return height * width


@dataclass(frozen=True)
class Layout:
    """Bounds of a skip space; see `skip_cells`."""

    base_widths: tuple[int, ...]
    multipliers: tuple[int, ...]
    depths: tuple[int, ...]
    skips: tuple[int, ...]


PRESETS: dict[str, Layout] = {
    "small": Layout((8, 16, 32), (1, 2), tuple(range(5, 14)), tuple(range(0, 41, 2))),
    "paper": Layout((16, 32, 64), (1, 2, 3), tuple(range(5, 31)), tuple(range(109))),
}


@space("skip", summary="cells with skip connections, trained on their own", paper="Li et al. 2021, arXiv 2108.00568", supernet=False)
def skip_cells(
    image_shape: tuple[int, int, int],
    classes: int,
    *,
    connection: str = "concatenation",
    layout: str = "paper",
    base_widths: Sequence[int] | None = None,
    multipliers: Sequence[int] | None = None,
    depths: Sequence[int] | None = None,
    skips: Sequence[int] | None = None,
) -> SkipFamily:
    """The skip space.

    Args:
        image_shape: (channels, height, width).
        classes: number of logits.
        connection: "concatenation" (DenseNet) or "addition" (ResNet) of the channels that skip.
        layout: a preset's name; "small" holds networks that a CPU can train.
        base_widths: channels of a layer of every cell at width 1, in place of the layout's.
        multipliers: of all widths together, in place of the layout's.
        depths: layers that a cell may have, in place of the layout's.
        skips: channels that one layer may take, in steps of `base_widths[cell] / base_widths[0]`, in place of the layout's.

    Raises:
        UsageError: an unknown connection or layout, numbers that do not ascend, or images too small for the strides.
    """
    if layout not in PRESETS:
        raise unknown("layout", layout, PRESETS)
    preset = PRESETS[layout]
    base_widths, multipliers = base_widths or preset.base_widths, multipliers or preset.multipliers
    depths, skips = depths or preset.depths, skips or preset.skips
    if connection not in CONNECTIONS:
        raise unknown("connection", connection, CONNECTIONS)
    for what, values, least in (("multipliers", multipliers, 1), ("depths", depths, 1), ("skips", skips, 0)):
        if not values or list(values) != sorted(set(values)) or values[0] < least:
            raise UsageError(f"Got {what} {tuple(values)}; expected ascending whole numbers from {least} on.")
    if min(image_shape[1:]) < 2 ** (len(base_widths) - 1):
        raise UsageError(f"Images of {image_shape[1]}x{image_shape[2]} pixels are too small for {len(base_widths)} cells.")
    choices = [Choice("width", tuple(map(str, multipliers)))]
    for c, base in enumerate(base_widths):
        step = max(base // base_widths[0], 1)
        choices += [Choice(f"cell{c}.depth", tuple(map(str, depths))), Choice(f"cell{c}.skips", tuple(str(step * s) for s in skips))]
    widths = tuple(base_widths)
    space = SearchSpace(tuple(choices), canonicalise=lambda population: _canonical(tuple(choices), widths, population))
    return SkipFamily(space, image_shape, classes, widths, connection)


class SkipCell(nn.Module):
    """Layers of BN, ReLU and a 3x3 convolution, with channels that skip ahead.

    Args:
        in_channels: channels in.
        width: channels of every layer.
        depth: layers.
        skips: most channels that one layer takes from those before the one before it.
        stride: of the first layer.
        connection: see `skip_cells`.
        seed: of the choice of channels.
    """

    def __init__(
        self, in_channels: int, width: int, depth: int, skips: int, stride: int, connection: str, seed: tuple[int, ...] = (0, 0)
    ) -> None:
        super().__init__()
        self.adds = connection == "addition"
        self.width = width
        self.layers = nn.ModuleList()
        for i in range(depth):
            taken = chosen_channels(width, i + 1, skips, seed)
            self.register_buffer(f"taken_{i}", torch.from_numpy(taken))  # saved with the weights, which mean nothing without it
            inputs = in_channels if i == 0 else width + (0 if self.adds else len(taken))
            convolution = nn.Conv2d(inputs, width, 3, stride if i == 0 else 1, padding=1, bias=False)
            self.layers.append(nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(inplace=True), convolution))
        self._wire()
        self.register_load_state_dict_post_hook(lambda cell, keys: cell._wire())

    def _wire(self) -> None:
        """Sort the taken channels by the layer they come from."""
        self.sources: list[list[int]] = []  # for every layer, the layers it takes channels from
        for i in range(len(self.layers)):
            taken = getattr(self, f"taken_{i}")
            self.sources.append(torch.unique(taken // self.width).tolist())
            for source in self.sources[-1]:
                channels = taken[taken // self.width == source] % self.width
                mask = torch.zeros(self.width, device=taken.device).index_fill(0, channels, 1.0).reshape(1, -1, 1, 1)
                self.register_buffer(f"taken_{i}_{source}", mask if self.adds else channels, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        outputs: list[Tensor] = []
        for i, layer in enumerate(self.layers):
            older = [(outputs[source], getattr(self, f"taken_{i}_{source}")) for source in self.sources[i]]
            if not self.adds and older:
                x = torch.cat([x, *(output.index_select(1, channels) for output, channels in older)], dim=1)
            x = layer(x)
            if self.adds:
                for output, mask in older:
                    x = x + output * mask
            outputs.append(x)
        return x


def chosen_channels(width: int, layer: int, skips: int, seed: tuple[int, ...]) -> Integers:
    """The channels that a layer takes, ascending, out of `width * (layer - 2)` older ones; counted from the first layer's first.

    Args:
        width: channels of every layer.
        layer: counted from 1.
        skips: most channels taken.
        seed: of the cell.
    """
    return np.sort(_drawn(width, layer, seed)[:skips])


def _drawn(width: int, layer: int, seed: tuple[int, ...]) -> Integers:
    """All older channels of a layer, in the order in which they are taken."""
    return np.random.default_rng([*seed, width, layer]).permutation(max(width * (layer - 2), 0))


@cache
def _joined(width: int, deepest: int, most: int, seed: tuple[int, ...]) -> Integers:
    """How many pairs of layers a cell joins by skips, for every depth and every number of skips: shape (deepest + 1, most + 1)."""
    table = np.zeros((deepest + 1, most + 1), dtype=np.int64)
    for layer in range(3, deepest + 1):
        sources = _drawn(width, layer, seed) // width
        new = np.zeros(len(sources) + 1, dtype=np.int64)
        new[np.unique(sources, return_index=True)[1] + 1] = 1
        table[layer:] += np.cumsum(new)[np.minimum(np.arange(most + 1), len(sources))]
    return table


def _cells(choices: Sequence[Choice], base_widths: Sequence[int], population: Population) -> Cells:
    numbers = [np.array([int(option) for option in choice.options])[population[:, i]] for i, choice in enumerate(choices)]
    return Cells(numbers[0][:, None] * np.array(base_widths), np.stack(numbers[1::2], axis=1), np.stack(numbers[2::2], axis=1))


def _canonical(choices: tuple[Choice, ...], base_widths: tuple[int, ...], population: Population) -> Population:
    """More skips than the last layer has older channels are the same network as the fewest such number."""
    cells = _cells(choices, base_widths, population)
    result = population.copy()
    for c in range(len(base_widths)):
        options = np.array([int(option) for option in choices[2 + 2 * c].options])
        older = cells.widths[:, c] * np.maximum(cells.depths[:, c] - 2, 0)
        enough = np.minimum(np.searchsorted(options, older), len(options) - 1)
        result[:, 2 + 2 * c] = np.minimum(result[:, 2 + 2 * c], enough)
    return result


def _taken(widths: Floats, depths: Floats, skips: Floats) -> Floats:
    """Channels that the layers of every cell take by skips, in all."""
    layers = np.arange(3, int(depths.max(initial=0)) + 1)
    offered = np.where(layers <= depths[..., None], widths[..., None] * (layers - 2), 0.0)
    return np.asarray(np.minimum(offered, skips[..., None]).sum(axis=-1))
