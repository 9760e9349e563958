"""Budget: bounds on costs, and which architectures of a whole population keep them.

A *cost* is anything that turns a population into one number for each row (see `Cost`). Bounds are written
`NAME=UPPER` or `NAME=LOWER..UPPER`: `macs=30M`, `latency=2..8ms`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

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
        return RequestedBound.parse(text).numbers(units)

    def __str__(self) -> str:
        upper = format_quantity(self.upper, self.unit)
        if self.lower == -math.inf:
            return f"{self.cost} <= {upper}"
        lower = format_quantity(self.lower, self.unit)
        return f"{self.cost} >= {lower}" if self.upper == math.inf else f"{lower} <= {self.cost} <= {upper}"


@dataclass(frozen=True)
class RequestedBound:
    """A bound as somebody asks for it: read once, and made a `Bound` when the costs are known.

    An end is a number (`30M`, `8ms`) or a share: `30%` is what the cheapest 30 % of random networks of the space stay below.

    Attributes:
        text: as it was written.
        cost: name of the cost.
        lower, upper: the ends as text; empty where there is none.
    """

    text: str
    cost: str
    lower: str
    upper: str

    @classmethod
    def parse(cls, text: str) -> RequestedBound:
        """Read `NAME=UPPER`, `NAME=LOWER..UPPER` or `NAME=LOWER..`.

        Raises:
            UsageError: another form.
        """
        name, equals, limits = (part.strip() for part in text.partition("="))
        if not equals or not limits:
            raise UsageError(f"Malformed budget {text!r}; expected NAME=UPPER or NAME=LOWER..UPPER, for example macs=30M.")
        low, dots, high = (part.strip() for part in limits.partition(".."))
        return cls(text, name, low, high) if dots else cls(text, name, "", low)

    @classmethod
    def parse_all(cls, texts: Iterable[str]) -> list[RequestedBound]:
        """Several bounds, at most one a cost.

        Raises:
            UsageError: as `parse`, or two bounds on a cost.
        """
        bounds = [cls.parse(text) for text in texts]
        _require_one_each([bound.cost for bound in bounds])
        return bounds

    def check(self, units: Mapping[str, str]) -> Bound:
        """Whatever can be told before the costs are known: the bound, with NaN where an end is a share.

        Raises:
            UsageError: an unknown cost, a malformed number or share, or a lower end above the upper.
        """
        return self.numbers(units, {"": math.nan} | {end: math.nan for end in (self.lower, self.upper) if end.endswith("%")})

    def resolve(self, space: SearchSpace, costs: Mapping[str, Cost], *, seed: int = 0, of: Callable[[str], float] | None = None) -> Bound:
        """The bound in numbers; a share is a quantile over 10,000 random architectures.

        Args:
            space, costs: of the networks.
            seed: of the random ones.
            of: gives a number for a cost that shares of it are taken of instead: what a given network costs.

        Raises:
            UsageError: as `check`, or here the lower end turns out above the upper.
        """
        units = {name: cost.unit for name, cost in costs.items()}
        shares = [end for end in (self.lower, self.upper) if end.endswith("%")]
        if not shares:
            return self.numbers(units)
        self.check(units)
        if of is not None:
            return self.numbers(units, {end: of(self.cost) * parse_quantity(end, "%") / 100 for end in shares})
        values = np.asarray(costs[self.cost](space.sample(10_000, np.random.default_rng([seed, 0]))))
        return self.numbers(units, {end: float(np.quantile(values, parse_quantity(end, "%") / 100)) for end in shares})

    def numbers(self, units: Mapping[str, str], shares: Mapping[str, float] | None = None) -> Bound:
        """The bound with both ends as numbers.

        Args:
            units: of every known cost.
            shares: what shares stand for; NaN where that is not known yet.

        Raises:
            UsageError: see `check`.
        """
        if self.cost not in units:
            raise unknown("cost", self.cost, units)
        unit = units[self.cost]
        lower = self._end(self.lower, unit, shares or {}) if self.lower else -math.inf
        upper = self._end(self.upper, unit, shares or {}) if self.upper else math.inf
        if lower > upper and shares:
            raise UsageError(
                f"Empty budget {self.text!r}: here it asks for at least {format_quantity(lower, unit)} and at most "
                f"{format_quantity(upper, unit)}; expected LOWER <= UPPER."
            )
        if lower > upper or upper < 0 or (lower == -math.inf and upper == math.inf):
            raise UsageError(f"Empty budget {self.text!r}; expected LOWER <= UPPER, both positive, and at least one of them.")
        return Bound(self.cost, lower, upper, unit)

    def _end(self, end: str, unit: str, shares: Mapping[str, float]) -> float:
        if not end.endswith("%") or not shares:
            return parse_quantity(end, unit)
        if not 0 < parse_quantity(end, "%") <= 100:
            raise UsageError(f"Malformed budget {self.text!r}; expected a share between 0 % and 100 %.")
        return shares[end]


class Budget:
    """Named costs, and bounds on some of them.

    Args:
        costs: every cost that is known of an architecture, bounded or not.
        bounds: `Bound`s, or their text; at most one a cost.
    """

    def __init__(self, costs: Mapping[str, Cost] | None = None, bounds: Iterable[Bound | str] = ()) -> None:
        self.costs = dict(costs or {})
        self.bounds = tuple(Bound.parse(bound, self.units) if isinstance(bound, str) else bound for bound in bounds)
        for bound in self.bounds:
            if bound.cost not in self.costs:
                raise unknown("cost", bound.cost, self.costs)
        _require_one_each([bound.cost for bound in self.bounds])

    def __str__(self) -> str:
        return ", ".join(map(str, self.bounds)) or "no bounds"

    def __repr__(self) -> str:
        return f"Budget({self}; costs: {', '.join(self.costs) or 'none'})"

    @property
    def units(self) -> dict[str, str]:
        """The unit of every cost; "" for a plain count."""
        return {name: cost.unit for name, cost in self.costs.items()}

    def plain_bounds(self) -> dict[str, dict[str, Any]]:
        """The bounds as plain data, by cost: lower and upper end (None where there is none) and unit."""
        ends = {b.cost: {"lower": b.lower, "upper": b.upper} for b in self.bounds}
        plain = {cost: {side: end if math.isfinite(end) else None for side, end in both.items()} for cost, both in ends.items()}
        return {cost: {**both, "unit": self.units[cost]} for cost, both in plain.items()}

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


def _require_one_each(costs: list[str]) -> None:
    if twice := [name for name in costs if costs.count(name) > 1]:
        raise UsageError(f"Two bounds on {twice[0]!r}; write one, as {twice[0]}=LOWER..UPPER.")
