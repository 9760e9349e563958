"""What the files look like that people write by hand about a device: latency tables, coefficients of latency, energy and area."""

from __future__ import annotations

from typing import Annotated, Any

import pydantic
from pydantic import BeforeValidator, Field

from evonas.errors import shortened, unknown

LARGEST = 1e15
FEATURES = ("macs", "params", "activations", "layers", "connections")
UNITS = {"latency": "ms", "energy": "mJ", "area": "mm2"}


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -LARGEST <= value <= LARGEST:
        raise ValueError(f"holds {shortened(repr(value))}; expected a finite number of milliseconds")
    return float(value)


def _cost(value: Any) -> float:
    if _finite(value) < 0:
        raise ValueError(f"holds {value!r}; expected a number of milliseconds of at least 0")
    return float(value)


def _slope(value: Any) -> float:
    if _finite(value) <= 0:
        raise ValueError(f"holds {value!r}; expected a slope above 0, so that more is never faster")
    return float(value)


def _milliseconds(value: Any) -> str:
    if value != "ms":
        raise ValueError(f"gives latencies in {shortened(repr(value))}; expected the unit 'ms'")
    return str(value)


Text = Annotated[str, Field(max_length=500)]
Finite = Annotated[float, BeforeValidator(_finite)]
Cost = Annotated[float, BeforeValidator(_cost)]
Missing = Annotated[float | None, BeforeValidator(lambda value: None if value is None else _cost(value))]


class ByState(pydantic.BaseModel):
    """A table by state: choices, states, milliseconds and hands_on, as `LatencyTable.save` writes them."""

    choices: list[Text]
    states: Annotated[int, Field(ge=1, le=1_000_000)]
    milliseconds: list[Missing]
    hands_on: list[Annotated[int, Field(ge=0, le=1_000_000)]] | None


class Fit(pydantic.BaseModel):
    """A fit: networks, mean and worst, as `LatencyTable.save` writes them."""

    networks: int
    mean: Finite
    worst: Finite


class LatencyFile(pydantic.BaseModel):
    """A latency table: JSON with the keys device, unit, constant and choices."""

    device: Text | None = None
    unit: Annotated[str, BeforeValidator(_milliseconds)]
    constant: Finite = 0.0
    choices: dict[Text, dict[Text, Cost]]
    by_state: list[ByState] = []
    overlapping: bool = False
    slope: Annotated[float, BeforeValidator(_slope)] = 1.0
    intercept: Finite = 0.0
    residual: Fit | None = None


def _coefficients(value: Any, info: pydantic.ValidationInfo) -> dict[str, float]:
    name = str(info.field_name)
    if not isinstance(value, dict) or value.get("unit") != UNITS[name]:
        raise ValueError(f"{name} must be an object with the unit {UNITS[name]!r} and coefficients")
    coefficients = {feature: number for feature, number in value.items() if feature != "unit"}
    for feature, number in coefficients.items():
        if feature not in (*FEATURES, "constant"):
            raise ValueError(str(unknown("feature", feature, (*FEATURES, "constant"))))
        if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= LARGEST:
            raise ValueError(f"{feature} holds {shortened(repr(number))}; expected a number of at least 0")
    if not any(coefficients.values()):
        raise ValueError(f"{name} has no coefficient above 0; expected one or more")
    return {feature: float(number) for feature, number in coefficients.items()}


Coefficients = Annotated[dict[str, float], BeforeValidator(_coefficients)]


class HardwareFile(pydantic.BaseModel):
    """A hardware model: JSON with one or more of latency, energy and area, each with its unit and coefficients."""

    model_config = pydantic.ConfigDict(extra="allow")

    device: Text | None = None
    latency: Coefficients | None = None
    energy: Coefficients | None = None
    area: Coefficients | None = None

    @pydantic.model_validator(mode="before")
    @classmethod
    def _names(cls, content: Any) -> Any:
        if not isinstance(content, dict) or not set(content) & set(UNITS):
            raise ValueError(f"gives no hardware model; expected JSON with one or more of: {', '.join(UNITS)}")
        for name in content:
            if name not in ("device", *UNITS):
                raise ValueError(str(unknown("cost", name, ("device", *UNITS))))
        return content
