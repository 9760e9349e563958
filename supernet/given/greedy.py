"""What pruning by importance would keep: from the given network down, step by step what matters least for what it saves.

The allocation of global pruning (Molchanov et al., "Importance Estimation for Neural Network Pruning", 2019, arXiv 1906.10771, compare
channels of all layers) on the options of a space: a step makes one width an option narrower or leaves one block out. A search that scores
the result first is not behind it by its own measure.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from evonas.budget import Budget
from evonas.space import Population
from supernet.given.anatomy import SHARES, Anatomy
from supernet.given.importance import Importance
from supernet.given.supernet import GivenSupernet

EXPONENTS = (1.0, 0.5, 0.0)  # of what a step saves: how much it counts beside what is lost
Floats = npt.NDArray[np.float64]


def by_importance(supernet: GivenSupernet, importance: Importance, budget: Budget) -> Population:
    """Networks that keep the budget, one for each way to weigh what a step saves against what it loses; none where no walk ends within it.

    Args:
        supernet: its channels sorted by importance.
        importance: of every class of every group, in any order.
        budget: bounds, upper ones.
    """
    lost = _lost(supernet.anatomy, importance)
    found = [row for exponent in EXPONENTS if (row := _walk(supernet, lost, budget, exponent)) is not None]
    space = supernet.space
    return np.unique(space.canonical(np.array(found)), axis=0) if found else np.zeros((0, len(space)), np.int64)


def even(supernet: GivenSupernet, budget: Budget) -> Population:
    """Networks of one width everywhere that keep the budget, all blocks kept, the widest first: shape (n, choices)."""
    space, widths = supernet.space, range(len(SHARES) - 1, -1, -1)
    rows = np.repeat(np.array([supernet.largest]), len(widths), axis=0)
    rows[:, : len(supernet.anatomy.groups)] = np.array(widths)[:, None]
    rows = space.canonical(rows)
    return rows[budget.feasible(rows)]


def _lost(anatomy: Anatomy, importance: Importance) -> list[Floats]:
    """For every choice but kernels, the importance that its options lose; what a block has is what the groups inside of it have."""
    lost: list[Floats] = []
    for group, values in zip(anatomy.groups, importance, strict=True):
        kept = np.concatenate([[0.0], np.cumsum(np.sort(values)[::-1])])
        lost.append(np.array([kept[-1] - kept[count] for count in group.kept]))
    lost += [np.zeros(len(sizes)) for sizes in anatomy.kernels.values()]
    for block in anatomy.optional:
        inside = [values.sum() for group, values in zip(anatomy.groups, importance, strict=True) if group.name.startswith(f"{block}.")]
        lost.append(np.array([sum(inside), 0.0]))
    return lost


def _walk(supernet: GivenSupernet, lost: list[Floats], budget: Budget, exponent: float) -> npt.NDArray[np.int64] | None:
    space, kernels = supernet.space, range(len(supernet.anatomy.groups), len(supernet.anatomy.groups) + len(supernet.anatomy.kernels))
    row = np.array(supernet.largest, dtype=np.int64)
    while not budget.feasible(row[None])[0]:
        columns = np.array([column for column in range(len(space)) if row[column] > 0 and column not in kernels], dtype=np.int64)
        if not len(columns):
            return None
        below = np.array([_below(supernet.anatomy, column, row[column]) for column in columns])
        lower = np.repeat(row[None], len(columns), axis=0)
        lower[np.arange(len(columns)), columns] = below
        broken = np.maximum(budget.violations(np.concatenate([row[None], lower])), 0).sum(axis=1)
        saved = np.maximum(broken[0] - broken[1:], 0.0)
        if not saved.any():
            return None
        price = np.array([lost[column][option] - lost[column][row[column]] for column, option in zip(columns, below, strict=True)])
        step = int(np.where(saved > 0, price / np.maximum(saved, 1e-12) ** exponent, np.inf).argmin())
        row[columns[step]] = below[step]
    return row


def _below(anatomy: Anatomy, column: int, option: int) -> int:
    """The next option that keeps less."""
    if column >= len(anatomy.groups):
        return option - 1
    kept = anatomy.groups[column].kept
    return max((i for i in range(option) if kept[i] < kept[option]), default=0)
