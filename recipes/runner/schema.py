"""What the JSON files of a run folder look like, for reading: they may come from an earlier version, or from a stranger."""

from __future__ import annotations

from typing import Annotated, Any

import pydantic
from pydantic import Field

Text = Annotated[str, Field(max_length=500)]
Number = Annotated[float, Field(allow_inf_nan=True)]


class Arguments(pydantic.RootModel[dict[Text, Any]]):
    """A list of arguments: those of a run by name, as a JSON object."""


class Ends(pydantic.BaseModel):
    """A bound: its two ends."""

    model_config = pydantic.ConfigDict(extra="allow")

    lower: Number | None = None
    upper: Number | None = None


class Finalist(pydantic.BaseModel):
    """A network that began its final training: accuracy by epoch."""

    model_config = pydantic.ConfigDict(extra="allow")

    accuracy: dict[Annotated[str, Field(pattern=r"^[0-9]{1,6}$")], Number] = {}
    won: bool = False


class Teacher(pydantic.BaseModel):
    """The network that others learned from."""

    model_config = pydantic.ConfigDict(extra="allow")

    who: Text
    accuracy: Number


class Peer(pydantic.BaseModel):
    """A random network that was trained as the winner."""

    model_config = pydantic.ConfigDict(extra="allow")

    test: Number


class Piece(pydantic.BaseModel):
    """A part of the network, and what it costs."""

    model_config = pydantic.ConfigDict(extra="allow")

    name: Text
    option: Text = ""
    output: list[int] | None = None
    macs: Number
    params: Number


class Input(pydantic.BaseModel):
    """What the network takes."""

    image_shape: Annotated[list[int], Field(min_length=3, max_length=3)]
    classes: list[Text]
    mean: list[Number]
    scale: list[Number]
    test_images: int | None = None


class Outcome(pydantic.BaseModel):
    """A result: what a run writes. Restore it, or run the command again."""

    model_config = pydantic.ConfigDict(extra="allow")

    recipe: Text = "mobile"
    architecture: dict[Text, Text] = {}
    budget: list[Text] = []
    bounds: dict[Text, Ends] = {}
    costs: dict[Text, Number] = {}
    units: dict[Text, Text] = {}
    accuracy: dict[Text, Number | None] = {}
    baseline: dict[Text, Any] = {}
    score: Number | None = None
    said: Annotated[str, Field(max_length=1000)] = ""
    finalists: list[Finalist] = []
    teacher: Teacher | None = None
    peers: list[Peer] = []
    tried: list[dict[str, Any]] = []
    input: Input | None = None
    pieces: list[Piece] = []
    latency: dict[str, Any] | None = None
    versions: dict[Text, Text] = {}
