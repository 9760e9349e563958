"""Budget: bounds on costs, and which architectures of a whole population keep them.

A *cost* is anything that turns a population into one number for each row (see `Cost`). Bounds are written
`NAME=UPPER` or `NAME=LOWER..UPPER`: `macs=30M`, `latency=2..8ms`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from evonas.errors import UsageError, unknown
from evonas.space import Architecture, Population, SearchSpace
from evonas.units import format_quantity, parse_quantity

Floats = npt.NDArray[np.float64]


class Cost(Protocol):
    """Maps a population of shape (n, choices) to n numbers in `unit` ("" for a plain count)."""

    @property
    def unit(self) -> str: ...

    def __call__(self, population: Population, /) -> Floats: ...


@runtime_checkable
class BoundedCost(Protocol):
    """A cost that knows its cheapest and dearest architecture exactly."""

    def extremes(self, space: SearchSpace) -> tuple[Architecture, Architecture]: ...


@dataclass(frozen=True)
class Bound:
    """`lower <= cost <= upper`; either side may be infinite."""

    cost: str
    lower: float = -math.inf
    upper: float = math.inf
    unit: str = ""

    @classmethod
    def parse(cls, text: str, units: Mapping[str, str]) -> Bound:
        """Read `NAME=UPPER` or `NAME=LOWER..UPPER`; `units` maps every known cost to its unit.

        Raises:
            UsageError: the form is wrong, the cost unknown, a number malformed, or the lower end above the upper.
        """
        name, equals, limits = (part.strip() for part in text.partition("="))
        if not equals or not limits:
            raise UsageError(f"Malformed budget {text!r}; expected NAME=UPPER or NAME=LOWER..UPPER, for example macs=30M.")
        if name not in units:
            raise unknown("cost", name, units)
        unit = units[name]
        low, dots, high = limits.partition("..")
        lower, upper = (low, high) if dots else ("", low)
        bound = cls(
            name,
            parse_quantity(lower, unit) if lower else -math.inf,
            parse_quantity(upper, unit) if upper else math.inf,
            unit,
        )
        if bound.lower > bound.upper or bound.upper < 0 or bound == cls(name, unit=unit):
            raise UsageError(f"Empty budget {text!r}; expected LOWER <= UPPER, both positive, and at least one of them.")
        return bound

    def __str__(self) -> str:
        upper = format_quantity(self.upper, self.unit)
        if self.lower == -math.inf:
            return f"{self.cost} <= {upper}"
        lower = format_quantity(self.lower, self.unit)
        return f"{self.cost} >= {lower}" if self.upper == math.inf else f"{lower} <= {self.cost} <= {upper}"


class Budget:
    """Named costs, and bounds on some of them.

    Args:
        costs: every cost that is known of an architecture, bounded or not.
        bounds: `Bound`s, or their text; at most one a cost.
    """

    def __init__(self, costs: Mapping[str, Cost] | None = None, bounds: Iterable[Bound | str] = ()) -> None:
        self.costs = dict(costs or {})
        units = {name: cost.unit for name, cost in self.costs.items()}
        self.bounds = tuple(Bound.parse(bound, units) if isinstance(bound, str) else bound for bound in bounds)
        names = [bound.cost for bound in self.bounds]
        for name in names:
            if name not in self.costs:
                raise unknown("cost", name, self.costs)
            if names.count(name) > 1:
                raise UsageError(f"Two bounds on {name!r}; write one, as {name}=LOWER..UPPER.")

    def __str__(self) -> str:
        return ", ".join(map(str, self.bounds)) or "no bounds"

    def values(self, population: Population) -> dict[str, Floats]:
        """Every cost of every row: arrays of shape (n,), by name."""
        return {name: np.asarray(cost(population), dtype=np.float64) for name, cost in self.costs.items()}

    def violations(self, population: Population) -> Floats:
        """Relative violation of every finite bound, shape (n, finite bounds): at most 0 where kept, in units of the bound.

        Relative, so that samplers which add them up do not compare MACs with milliseconds.
        """
        return self.violations_of({bound.cost: np.asarray(self.costs[bound.cost](population)) for bound in self.bounds}, len(population))

    def violations_of(self, values: Mapping[str, npt.ArrayLike], n: int = 1) -> Floats:
        """`violations`, from cost values that are already known (measured ones, for example)."""
        columns = []
        for side in self._sides():
            sign, limit = (1.0, side.upper) if side.upper < math.inf else (-1.0, side.lower)
            columns.append(sign * (np.asarray(values[side.cost], dtype=np.float64).reshape(n) - limit) / (abs(limit) or 1.0))
        return np.stack(columns, axis=1) if columns else np.zeros((n, 0))

    def verdicts(self, violations: Floats) -> list[str]:
        """What rows of `violations` mean, for people: "kept", or "breaks macs <= 30M by 12 %"."""
        sides = self._sides()
        broken = [[f"{side} by {100 * v:.3g} %" for side, v in zip(sides, row, strict=True) if not v <= 0] for row in violations.tolist()]
        return [f"breaks {', '.join(row)}" if row else "kept" for row in broken]

    def feasible(self, population: Population) -> npt.NDArray[np.bool_]:
        """Mask of the rows that keep every bound: shape (n,). A cost that is NaN keeps none."""
        return np.asarray((self.violations(population) <= 0).all(axis=1))

    def _sides(self) -> list[Bound]:
        """The finite ends of all bounds, one each: the columns of `violations`."""
        sides = []
        for bound in self.bounds:
            sides += [replace(bound, lower=-math.inf)] if bound.upper < math.inf else []
            sides += [replace(bound, upper=math.inf)] if bound.lower > -math.inf else []
        return sides
