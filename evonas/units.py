"""Numbers with units, read and written: `30M`, `600k`, `8ms`, `0.05ms`, `50us`.

A cost states its unit once ("" for a plain count, "ms", "mJ", "mm2"); whatever a user writes is converted to it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from evonas.errors import UsageError

_NUMBER = re.compile(r"^\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([A-Za-z0-9%]*)\s*$")
_COUNTS = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9, "T": 1e12}
_SCALES = {
    "": _COUNTS,
    "ms": {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3, "": 1.0},
    "mJ": {"uJ": 1e-3, "mJ": 1.0, "J": 1e3, "": 1.0},
    "B": {"B": 1.0, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "": 1.0},
    "mm2": {"um2": 1e-6, "mm2": 1.0, "cm2": 1e2, "": 1.0},
}


def parse_quantity(text: str, unit: str = "") -> float:
    """A number in `unit`, from text such as "30M" (unit "") or "50us" (unit "ms", gives 0.05).

    Without a suffix the number is taken to be in `unit` already.

    Raises:
        UsageError: the text is not a number, or its suffix does not belong to the unit.
    """
    scales = _SCALES.get(unit, {"": 1.0, unit: 1.0})
    match = _NUMBER.match(text)
    suffixes = ", ".join(suffix for suffix in scales if suffix)
    if match is None:
        raise UsageError(f"Malformed number {text!r}; expected digits and a suffix out of: {suffixes}.")
    number, suffix = match.groups()
    if suffix not in scales:
        raise UsageError(f"Unknown suffix {suffix!r} in {text!r}; expected none or one of: {suffixes}.")
    value = float(number) * scales[suffix]
    if not math.isfinite(value):
        raise UsageError(f"The number {text!r} is too large; expected a finite one.")
    return value


def format_quantity(value: float, unit: str = "") -> str:
    """`value` in three significant digits with its unit: "31.4M", "0.0523 ms", "1.2 MB"."""
    if unit == "B":
        suffix, scale = next(((s, x) for s, x in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)) if abs(value) >= x), ("B", 1.0))
        return f"{value / scale:.3g} {suffix}"
    if unit:
        return f"{value:.3g} {unit}"
    for suffix, scale in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= scale:
            return f"{value / scale:.3g}{suffix}"
    return f"{value:.3g}"


def split_units(costs: Mapping[str, float]) -> tuple[dict[str, float], dict[str, str]]:
    """Costs whose names ended in their units, as files of earlier versions have them (`latency_ms`), as (costs, units) by plain names."""
    parts = {key: key.rpartition("_") if key.rpartition("_")[2] in _SCALES else (key, "", "") for key in costs}
    return {parts[key][0]: value for key, value in costs.items()}, {name: unit for name, _, unit in parts.values()}
