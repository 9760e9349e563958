"""The training of single networks after a search: finalists, the winner, its peers, all in the same way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from evonas.space import Architecture
from recipes.runner.training import train_into
from supernet import train
from supernet.chain import ChainSupernet
from supernet.data import ImageData
from supernet.training.team import from_first
from supernet.training.way import Way


@dataclass(frozen=True)
class FinalTraining:
    """How a network is trained on its own.

    Attributes:
        supernet: trained; networks are copied out of it.
        way: of training.
        images: to train on.
        inherit: whether a network begins with its inherited weights, or with weights drawn anew.
        settings: of `supernet.train`; `epochs` are those of a full training.
    """

    supernet: ChainSupernet
    way: Way
    images: ImageData
    inherit: bool
    settings: Mapping[str, Any]

    def train(self, path: Path, what: str, architecture: Architecture, stop_after: int | None = None) -> nn.Module:
        """Train a network, or go on where its checkpoint stands; the whole team does.

        Args:
            path: its checkpoint.
            what: is trained, for people.
            architecture: of the network.
            stop_after: epochs of a full training after which it stops.
        """
        order = from_first((list(architecture), stop_after))
        network = self._network(order[0])
        identity = {"architecture": list(architecture), "inherit": self.inherit}
        settings = {**self.settings, "stop_after": stop_after}
        train_into(path, what, network, self.way, self.images.train, identity=identity, **settings)
        return network

    def help(self) -> None:
        """The part of the other processes of a team: they help to train whatever the first one trains, until it is done."""
        while (order := from_first(None)) is not None:
            train(self._network(order[0]), self.way, self.images.train, **{**self.settings, "stop_after": order[1]})

    def done(self) -> None:
        """Nothing more is trained: the other processes may go."""
        from_first(None)

    def _network(self, architecture: list[int]) -> nn.Module:
        return self.supernet.subnet(tuple(architecture), fresh_seed=None if self.inherit else self.settings["seed"])
