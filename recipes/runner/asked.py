"""What a run was asked for: the options that every recipe has, and those of recipes that search a supernet under a budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evonas import RequestedBound, UsageError
from evonas.storage import check_storage
from recipes.runner import options as o


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What every run was asked for. The fields are options of the command line; a recipe may subclass it to replace or add some.

    Attributes:
        recipe: name of the recipe.
        arguments: all options that decide the results, those of the recipe included, as plain data; a run that goes on has to agree.
    """

    data: o.Data = "digits"
    out: o.Out = ""
    seed: o.Seed = 0
    image_size: o.ImageSize = None
    fresh: o.Fresh = False
    device: o.Device = "auto"
    dry_run: o.DryRun = False
    recipe: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class AskedUnderBudget(Asked):
    """A run that looks for the best network under bounds."""

    budget: o.Bounds = field(default_factory=list)

    @property
    def bounds(self) -> list[RequestedBound]:
        """The bounds, read."""
        return RequestedBound.parse_all(self.budget)


@dataclass(frozen=True, kw_only=True)
class AskedOneShot(AskedUnderBudget):
    """A run that trains a supernet, searches it, and retrains the winner."""

    evaluations: o.Evaluations = 1000
    latency_table: o.LatencyFile = None
    storage: o.Storage = None
    study: o.StudyName = None
    trust_storage: o.TrustStorage = False
    artifacts: o.Artifacts = None
    from_run: o.FromRun = None
    inherit: o.Inherit = False
    finalists: o.Finalists = 8
    peers: o.Peers = 0

    def __post_init__(self) -> None:
        """Refuse a storage that cannot be used before anything else is done."""
        if self.storage is not None:
            check_storage(self.storage, trusted=self.trust_storage)
        elif self.artifacts is not None:
            raise UsageError("Got --artifacts without --storage, where nobody else could find them; expected both.")

    @property
    def known_run(self) -> Path | None:
        """The folder of a run whose search, latency table and teacher are gone on with."""
        return None
