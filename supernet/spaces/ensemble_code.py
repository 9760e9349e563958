"""Ensembles in the notation of the published ones, so that these can be trained, and found ones compared with them.

Chen, Fu and Ling, "One-Shot Neural Ensemble Architecture Search", 2021, arXiv 2104.00597, as in the configuration files of their code: the
number of shared layers, the number of members, the shared layers behind a 0 for the fixed first block, and for every member its own layers
and a 0 for its last convolution. A layer is 2 * kernel + expansion by position (kernels 3, 5, 7; expansions 4, 6), or -1 where it is left
out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evonas.errors import UsageError
from evonas.space import Architecture
from supernet.ensemble_chain import EnsembleSupernet

SKIPPED = -1


def to_code(supernet: EnsembleSupernet, architecture: Architecture) -> list[int]:
    """The published notation of an ensemble.

    Args:
        supernet: of the space `ensemble`.
        architecture: of its space.
    """
    row, laid_out = supernet.space.population([architecture]), supernet.laid_out
    (paths,), shared = laid_out.paths(row), laid_out.splits[int(row[0, 0])]
    numbers = [[_order(supernet, layer)[int(option)] for layer, option in enumerate(path)] for path in paths]
    own = [number for path in numbers for number in (*path[shared:], 0)]
    return [shared, laid_out.members, 0, *numbers[0][:shared], *own]


def from_code(supernet: EnsembleSupernet, code: Sequence[int]) -> Architecture:
    """The architecture that a published notation means.

    Args:
        supernet: of the space `ensemble`, with as many members and layers.
        code: see the module.

    Raises:
        UsageError: it does not fit: members, layers, a split or an operator that the space has not.
    """
    laid_out, (shared, members, _, *rest) = supernet.laid_out, code
    own = laid_out.layers - shared + 1
    if members != laid_out.members or shared not in laid_out.splits or len(rest) != shared + members * own:
        raise UsageError(
            f"Got an ensemble of {members} members that share {shared} layers, in {len(code)} numbers; expected {laid_out.members} members "
            f"of {laid_out.layers} layers, of which one of {laid_out.splits} are shared."
        )
    names = [rest[:shared] + rest[shared + m * own : shared + (m + 1) * own - 1] for m in range(members)]
    paths = [[_position(supernet, layer, number) for layer, number in enumerate(path)] for path in names]
    row = laid_out.rows(np.array([[laid_out.splits.index(shared)]]), np.array([paths]))
    return supernet.space.keys(row)[0]


def _order(supernet: EnsembleSupernet, layer: int) -> list[int]:
    """The published number of every option of a layer: names are mb4_k3, mb6_k3, ... and skip."""
    options = supernet.space.choices[1 + layer].options
    split = [name.removeprefix("mb").split("_k") for name in options if name != "skip"]
    kernels, expansions = (sorted({int(each[i]) for each in split}) for i in (1, 0))
    numbers = iter(len(expansions) * kernels.index(int(k)) + expansions.index(int(e)) for e, k in split)
    return [SKIPPED if name == "skip" else next(numbers) for name in options]


def _position(supernet: EnsembleSupernet, layer: int, number: int) -> int:
    order = _order(supernet, layer)
    if number not in order:
        raise UsageError(f"Layer {layer} has no operator {number}; expected one of: {', '.join(map(str, sorted(order)))}.")
    return order.index(number)
