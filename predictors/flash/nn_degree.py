"""NN-Degree and NN-Mass: how well connected a network is, counted from its shape, nothing trained.

NN-Degree: Li, Mandal, Ogras and Marculescu, "FLASH: Fast Neural Architecture Search with Hardware Optimization", 2021,
arXiv 2108.00568. NN-Mass: Bhardwaj, Li and Marculescu, "How does topology influence gradient propagation and model performance of
deep networks with DenseNet-type skip connections?", 2019, arXiv 1910.00780.

A cell is a graph: its channels are the nodes, and every layer's channels are reached from all channels of the layer before it (for the
first layer: from the cell's input, counted as one more layer of the same width) and from older channels by skip connections. NN-Degree
is the average number of links that reach a node, added up over cells. With `count="links"` a channel that is concatenated to the input
of a layer counts once for every filter that reads it; with `count="channels"` once. The default was chosen on trained networks
(docs/evidence.md), because the paper's text leaves it open. Channels that are added reach one filter each, so both counts agree there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from evonas.errors import UsageError, unknown

Floats = npt.NDArray[np.float64]

CONNECTIONS = ("concatenation", "addition")
COUNTS = ("links", "channels")


def skip_channels(widths: npt.ArrayLike, depths: npt.ArrayLike, skips: npt.ArrayLike) -> Floats:
    """Channels that the layers of a cell take from older layers, in all: `sum over i of min(skips, width * (i - 2))`, i = 3 .. depth.

    Args:
        widths, depths, skips: channels of a layer, layers, and most channels that a layer takes; of any one shape.
    """
    w, d, t = np.broadcast_arrays(*(np.asarray(a, dtype=np.int64) for a in (widths, depths, skips)))
    takers = np.maximum(d - 2, 0)
    short = np.minimum(takers, t // w)  # layers with fewer older channels than they may take
    return np.asarray(w * short * (short + 1) // 2 + (takers - short) * t, dtype=np.float64)


def nn_mass(widths: npt.ArrayLike, depths: npt.ArrayLike, skips: npt.ArrayLike) -> Floats:
    """NN-Mass of networks: the density of skip connections times width times depth, added up over the cells.

    Args:
        widths, depths, skips: see `skip_channels`; shape (..., cells).

    Returns:
        Shape (...).
    """
    w, d = np.asarray(widths, dtype=np.float64), np.asarray(depths, dtype=np.float64)
    older = np.maximum(w * (d - 2) * (d - 1) / 2, 1)
    return np.asarray((skip_channels(widths, depths, skips) / older * w * d).sum(axis=-1))


def nn_degree(
    widths: npt.ArrayLike, depths: npt.ArrayLike, skips: npt.ArrayLike, connection: str = "concatenation", *, count: str = "links"
) -> Floats:
    """NN-Degree of networks.

    Args:
        widths, depths, skips: see `skip_channels`; shape (..., cells).
        connection: "concatenation" (DenseNet) or "addition" (ResNet).
        count: "links" or "channels", see the module.

    Returns:
        Shape (...).

    Raises:
        UsageError: an unknown connection or count.
    """
    if connection not in CONNECTIONS:
        raise unknown("connection", connection, CONNECTIONS)
    if count not in COUNTS:
        raise unknown("count", count, COUNTS)
    w, d = np.asarray(widths, dtype=np.float64), np.asarray(depths, dtype=np.float64)
    readers = w if connection == "concatenation" and count == "links" else 1.0
    return np.asarray((w + readers * skip_channels(widths, depths, skips) / (w * d)).sum(axis=-1))


def inverted_residual_degree(block: nn.Module, input_shape: tuple[int, ...]) -> float:
    """Average number of links that reach a channel of an inverted residual block; 0 for a block that is skipped.

    Its nodes are the expanded, the filtered and the projected channels; a filtered channel is reached from one, and a residual
    connection reaches every projected channel once. Kernel sizes do not enter. A measure for `predictors.costs.tabulate`.

    Raises:
        UsageError: the block is of another kind.
    """
    if isinstance(block, nn.Identity):
        return 0.0
    inputs, hidden, outputs = _inverted_residual(block)
    links = inputs * hidden + hidden + hidden * outputs + (outputs if block.residual else 0)
    return links / (2 * hidden + outputs)


def inverted_residual_mass(block: nn.Module, input_shape: tuple[int, ...]) -> float:
    """NN-Mass of an inverted residual block, `p (p + 2 h) / (2 p + h)` for p channels expanded to h; 0 without a residual connection.

    Raises:
        UsageError: the block is of another kind.
    """
    if isinstance(block, nn.Identity):
        return 0.0
    inputs, hidden, _ = _inverted_residual(block)
    return inputs * (inputs + 2 * hidden) / (2 * inputs + hidden) if block.residual else 0.0


def _inverted_residual(block: Any) -> tuple[int, int, int]:
    """Channels in, expanded and out."""
    try:
        return block.expand[0].in_channels, block.expand[0].out_channels, block.project[0].out_channels
    except AttributeError:
        kind = type(block).__name__
        raise UsageError(f"NN-Degree of a {kind} is not defined; expected an inverted residual block, or a skip.") from None
