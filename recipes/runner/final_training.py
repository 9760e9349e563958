"""The training of single networks after a search: a teacher, finalists for a little while, the winner and its peers in full."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

from torch import nn

from evonas.space import Architecture
from recipes.runner.training import train_into
from supernet import train
from supernet.archive import digest_of
from supernet.chain import ChainSupernet
from supernet.data import ImageData
from supernet.training.distilled import Distilled
from supernet.training.team import from_first
from supernet.training.way import Way

AVERAGE = 0.99  # of the weights of finalists and winners: a hundred steps
SHORT_LR = 0.5  # of the learning rate, for short trainings that begin with inherited weights


@dataclass
class FinalTraining:
    """How a network is trained on its own.

    Attributes:
        supernet: trained; networks are copied out of it.
        way: of training.
        images: to train on.
        inherit: whether a full training begins with inherited weights, or with weights drawn anew.
        settings: of `supernet.train`; `epochs` are those of a full training.
        teacher: that networks learn from as well; `teach` trains one.
    """

    supernet: ChainSupernet
    way: Way
    images: ImageData
    inherit: bool
    settings: Mapping[str, Any]
    teacher: nn.Module | None = None

    def teach(self, path: Path, architecture: Architecture) -> nn.Module:
        """Train a teacher in full, from new weights; what is trained afterwards learns from it.

        Args:
            path: its checkpoint.
            architecture: of the teacher.
        """

        def run(network: nn.Module, stage: int, settings: Mapping[str, Any]) -> None:
            train_into(path, "train teacher", network, self.way, self.images.train, identity=list(architecture), **settings)

        return self._do(from_first((list(architecture), (), True)), run)

    def full(self, path: Path, what: str, architecture: Architecture) -> nn.Module:
        """A full training, or what is left of it where its checkpoint stands; the whole team takes part.

        Args:
            path: its checkpoint.
            what: is trained, for people.
            architecture: of the network.
        """

        def run(network: nn.Module, stage: int, settings: Mapping[str, Any]) -> None:
            train_into(path, what, network, self._way(), self.images.train, identity=self._identity(architecture), **settings)

        return self._do(from_first((list(architecture), (), False)), run)

    def short(self, folder: Path, name: str, what: str, architecture: Architecture, epochs: Sequence[int]) -> nn.Module:
        """Short trainings one after another, each with a whole schedule; they begin as a full training does.

        Args:
            folder: of the checkpoints, `NAME-0.pt` and so on.
            name: of the network.
            what: is trained, for people.
            architecture: of the network.
            epochs: of each; what was trained before is not trained again.
        """

        def run(network: nn.Module, stage: int, settings: Mapping[str, Any]) -> None:
            identity = {**self._identity(architecture), "epochs": list(epochs[: stage + 1])}
            train_into(folder / f"{name}-{stage}.pt", what, network, self._way(), self.images.train, identity=identity, **settings)

        return self._do(from_first((list(architecture), tuple(epochs), False)), run)

    def help(self) -> None:
        """The part of the other processes of a team: they help to train whatever the first one trains, until it is done."""
        while (order := from_first(None)) is not None:
            self._do(order, lambda network, stage, settings: train(network, self._way(), self.images.train, **settings))

    def done(self) -> None:
        """Nothing more is trained: the other processes may go."""
        from_first(None)

    def _identity(self, architecture: Architecture) -> dict[str, Any]:
        teacher = None if self.teacher is None else digest_of(dict(self.teacher.state_dict()))
        return {"architecture": list(architecture), "inherit": self.inherit, "teacher": teacher}

    def _way(self) -> Way:
        return self.way if self.teacher is None else Distilled(self.teacher)

    def _do(self, order: tuple[list[int], tuple[int, ...], bool], run: Callable[[nn.Module, int, Mapping[str, Any]], Any]) -> nn.Module:
        """Carry out an order: an architecture, the epochs of short trainings, none for a full one, and whether it is the teacher's."""
        architecture, short, teaches = order
        anew = teaches or not self.inherit
        network = self.supernet.subnet(tuple(architecture), fresh_seed=self.settings["seed"] if anew else None)
        rate = self.settings.get("lr", signature(train).parameters["lr"].default)
        gentler = {"lr": SHORT_LR * rate} if short and not anew else {}
        for stage, epochs in enumerate(short or (self.settings["epochs"],)):
            run(network, stage, {**self.settings, **gentler, "epochs": epochs})
        if teaches:
            self.teacher = network
        return network
