"""Costs that are sums of tables: look-ups, one a block, exact for a million architectures in about a second.

A table holds what a piece of the network costs for every option of the choices that it reads. Where that depends on what arrives (the
width that reaches a block when earlier blocks may change it, a resolution, the position of a split), it holds a row for each *state* that
can arrive, and the state that it hands on: the cost is a scan along the tables. Plain additive costs are the case of one state.

The cheapest and the dearest architecture are found exactly by the same scan with minima in place of look-ups (dynamic programming over the
state and over the choices that later tables read again).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from evonas.errors import UsageError
from evonas.space import Architecture, Population, SearchSpace
from evonas.units import format_quantity

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

LARGEST_SCAN = 1 << 22

Shape = tuple[Any, ...]  # (channels, height, width), or a tuple of shapes
Measure = Callable[[Any, Shape], float]  # cost of a stand-alone module for one image of a shape


class TooWide(ValueError):
    """So many choices are read again later that the ends of a cost cannot be found exactly."""


class CostTable(NamedTuple):
    """What a piece of a network costs.

    Attributes:
        columns: of the population that it reads.
        values: shape (*options), one axis a column; or (states, *options) where what arrives matters.
        following: number of the state that it hands on, shape (states, *options); None hands on what arrives.
    """

    columns: tuple[int, ...]
    values: Floats
    following: Integers | None = None

    @property
    def by_state(self) -> Floats:
        """The values with an axis of states in any case: shape (states, *options)."""
        return self.values if self.values.ndim > len(self.columns) else self.values[None]


@dataclass(frozen=True)
class AdditiveCost:
    """A sum of tables, looked up one after another while a state runs along. A cost.

    Attributes:
        unit: of the values, "" for a plain count.
        constant: what every network has.
        tables: in the order of the network; they may read the same columns. The first one gets state 0.
    """

    unit: str
    constant: float
    tables: tuple[CostTable, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "tables", tuple(CostTable(*table) for table in self.tables))

    def __repr__(self) -> str:
        return f"AdditiveCost({len(self.tables)} tables, {format_quantity(self.constant, self.unit)} in every network)"

    def __call__(self, population: Population) -> Floats:
        """The cost of every row: shape (n,)."""
        population = np.asarray(population)
        total = np.full(len(population), self.constant, dtype=np.float64)
        state: Integers | None = None
        for table in self.tables:
            values = table.by_state
            flat: Integers | int = 0 if state is None or len(values) == 1 else state
            for column, size in zip(table.columns, values.shape[1:], strict=True):
                flat = flat * size + population[:, column] if isinstance(flat, np.ndarray) else population[:, column]
            total += values.ravel().take(flat)
            if table.following is not None:
                state = np.broadcast_to(table.following.ravel().take(flat), len(population))
        return total

    def extremes(self, space: SearchSpace) -> tuple[Architecture, Architecture]:
        """The cheapest and the dearest of the allowed architectures of a space, exactly. Values that are NaN are never taken.

        Raises:
            TooWide: tables share so many choices that exactness would take more than four million sums at once.
        """
        ends = [_corner(self.tables, space, sign) for sign in (1.0, -1.0)]
        if ends[0] is not None and ends[1] is not None:
            return ends[0], ends[1]
        tables = _joined(self.tables)
        return _extreme(tables, space, 1.0), _extreme(tables, space, -1.0)


def _corner(tables: Sequence[CostTable], space: SearchSpace, sign: float) -> Architecture | None:
    """The first option of every choice or the last one, where no table has a smaller value anywhere: costs that grow with all choices."""
    if any(len(table.by_state) > 1 for table in tables):
        return None
    parts = [sign * table.by_state[0][np.ix_(*(space.allowed[column] for column in table.columns))] for table in tables]
    for end in (0, -1):
        if all(part[(end,) * part.ndim] == np.nanmin(part) for part in parts):
            return tuple(indices[end] for indices in space.allowed)
    return None


def _joined(tables: Sequence[CostTable]) -> list[CostTable]:
    """The same sum with one table for all that read the same columns whatever arrives; those that hand a state on stay where they are."""
    plain: dict[tuple[int, ...], Floats] = {}
    running: list[CostTable] = []
    for table in tables:
        if table.following is None and len(table.by_state) == 1:
            plain[table.columns] = plain.get(table.columns, 0.0) + table.by_state[0]
        else:
            running.append(table)
    alone = [CostTable(columns, values) for columns, values in plain.items()]
    if not running:
        return sorted(alone, key=lambda table: min(table.columns, default=0))
    placed: list[CostTable] = []
    for table in running:  # a plain table goes before the first running one that reads one of its columns, where those are held anyway
        own = [other for other in alone if set(other.columns) & set(table.columns)]
        alone = [other for other in alone if not set(other.columns) & set(table.columns)]
        placed += [*own, table]
    return [*placed, *alone]


def _extreme(tables: Sequence[CostTable], space: SearchSpace, sign: float) -> Architecture:
    last = {column: i for i, table in enumerate(tables) for column in table.columns}
    sums: Floats = np.zeros(1)  # axes: the state, then every column that is held
    held: list[int] = []
    trace: list[tuple[list[int], list[int], Integers, bool]] = []
    for i, table in enumerate(tables):
        new = [column for column in table.columns if column not in held]
        axes = held + new
        values = table.by_state if len(table.by_state) == 1 else table.by_state[: len(sums)]  # what never arrives does not matter
        if len(sums) * math.prod(len(space.allowed[column]) for column in axes) > LARGEST_SCAN:
            raise TooWide(f"{len(axes)} choices are read by several tables at once")
        sums = sums.reshape([*sums.shape, *[1] * len(new)]) + _aligned(sign * values, table.columns, axes, space, math.inf)
        held = [column for column in axes if last[column] > i]
        dropped = [column for column in axes if last[column] == i]
        order = [1 + axes.index(column) for column in (*held, *dropped)]
        sizes = [len(space.allowed[column]) for column in held]
        if table.following is None:
            flat = sums.transpose([0, *order]).reshape(sums.shape[0], math.prod(sizes), -1)
            best = flat.argmin(axis=2)
            sums = flat.min(axis=2).reshape([sums.shape[0], *sizes])
        else:
            handed = table.following[: max(len(sums), 1)]
            following = np.broadcast_to(_aligned(handed, table.columns, axes, space, -1), sums.shape)
            moved = [*order[: len(held)], 0, *order[len(held) :]]
            rows, onto = (part.transpose(moved).reshape(math.prod(sizes), -1) for part in (sums, following))
            states = int(table.following.max()) + 1
            masked = [np.where(onto == state, rows, math.inf) for state in range(states)]
            best = np.stack([part.argmin(axis=1) for part in masked])
            sums = np.stack([part.min(axis=1) for part in masked]).reshape([states, *sizes])
        trace.append((held, dropped, best, table.following is not None))
    return _traced(trace, space, int(sums.argmin()))


def _aligned(
    values: npt.NDArray[np.generic], columns: Sequence[int], axes: Sequence[int], space: SearchSpace, missing: float
) -> npt.NDArray[np.float64]:
    """The allowed part of a table with one axis for the state and one for each of `axes`; what is NaN is `missing`."""
    part = values[np.ix_(range(len(values)), *(space.allowed[column] for column in columns))]
    part = np.where(np.isnan(part), missing, part).transpose([0, *(1 + columns.index(c) for c in axes if c in columns)])
    sizes = [len(space.allowed[column]) if column in columns else 1 for column in axes]
    return np.asarray(part.reshape([len(values), *sizes]))


def _traced(trace: Sequence[tuple[list[int], list[int], Integers, bool]], space: SearchSpace, state: int) -> Architecture:
    """The architecture behind the best sum: from the last table back to the first, what each minimum was taken at."""
    row = [indices[0] for indices in space.allowed]  # choices that no table reads cost nothing
    rank = dict.fromkeys(range(len(space)), 0)
    for held, dropped, best, routed in reversed(trace):
        sizes = [len(space.allowed[column]) for column in held]
        at = int(np.ravel_multi_index([rank[column] for column in held], sizes)) if held else 0
        taken = int(best[state, at])
        sizes = [len(space.allowed[column]) for column in dropped]
        if routed:
            state, taken = divmod(taken, math.prod(sizes))
        for column, position in zip(dropped, np.unravel_index(taken, sizes) if dropped else (), strict=True):
            rank[column] = int(position)
            row[column] = space.allowed[column][int(position)]
    return tuple(row)


class Part(Protocol):
    """A piece of a network whose cost depends on a few choices, and on what arrives: what `ChainSupernet.parts` gives."""

    @property
    def name(self) -> str: ...

    @property
    def choices(self) -> tuple[int, ...]: ...

    @property
    def input_shapes(self) -> tuple[Shape, ...]: ...

    @property
    def following(self) -> Integers | None: ...

    def build(self, *options: int, arriving: int = 0) -> Any: ...


def tabulate(space: SearchSpace, parts: Sequence[Part], measure: Measure, unit: str = "", *, allowed_only: bool = False) -> AdditiveCost:
    """Measure every option of every part once, for every shape that may reach it.

    Args:
        space: the coordinates of the choices.
        parts: all parts of the network.
        measure: cost of a stand-alone module for one image of a shape (channels, height, width).
        unit: of what `measure` returns.
        allowed_only: leave out options that the space does not allow, where measuring is dear; they cost NaN, which keeps no bound.
    """
    constant = 0.0
    plain: dict[tuple[int, ...], Floats] = {}
    running: list[CostTable] = []
    for part in parts:
        states = len(part.input_shapes)
        if part.following is not None:
            running.append(CostTable(part.choices, np.zeros(part.following.shape), part.following))
            continue
        if not part.choices and states == 1:
            constant += _priced(part, measure, (), 0, space)
            continue
        table = np.full([states, *(len(space.choices[column].options) for column in part.choices)], np.nan)
        offered = [space.allowed[column] if allowed_only else range(len(space.choices[column].options)) for column in part.choices]
        for state, options in itertools.product(range(states), itertools.product(*offered)):
            table[(state, *options)] = _priced(part, measure, options, state, space)
        if states == 1:
            plain[part.choices] = plain.get(part.choices, 0.0) + table[0]
        else:
            running.append(CostTable(part.choices, table))
    return AdditiveCost(unit, constant, (*(CostTable(*table) for table in plain.items()), *running))


def _priced(part: Part, measure: Measure, options: tuple[int, ...], state: int, space: SearchSpace) -> float:
    """The cost of one option a choice; what is wrong with it is said with its name."""
    try:
        return measure(part.build(*options, arriving=state), part.input_shapes[state])
    except UsageError as error:
        named = ", ".join(space.choices[column].options[option] for column, option in zip(part.choices, options, strict=True))
        raise UsageError(f"In {part.name!r}{f' with {named}' if named else ''}: {error}") from error
