"""`evonas.find`: a network for a budget, in one call. It is the recipes that do it; this room only knows how to reach them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol, cast

import optuna

from evonas.rooms import reach


class Found(Protocol):
    """What a run found; `recipes.runner.found.Found` says more."""

    folder: Path

    @property
    def network(self) -> Any:
        """The trained network, a plain `torch.nn.Module`."""

    @property
    def architecture(self) -> dict[str, str]:
        """The option of every choice, by names."""

    @property
    def costs(self) -> dict[str, float]:
        """What the network costs, by name."""

    @property
    def accuracy(self) -> float:
        """On the test images, in [0, 1]."""

    @property
    def study(self) -> optuna.Study:
        """The search."""

    @property
    def studies(self) -> dict[str, optuna.Study]:
        """The search, its baseline and the finalists."""

    @property
    def result(self) -> dict[str, Any]:
        """All of `result.json`."""

    def trials(self) -> Any:
        """The trials of the search as a data frame of pandas."""

    def report(self) -> Path:
        """The page about the run."""


def find(data: str | os.PathLike[str], *budget: str, recipe: str = "mobile", **options: Any) -> Found:
    """Find a small, fast image network for a budget, train it and deliver it: what `evonas mobile` does, from Python.

    The same call again goes on where a run was interrupted, or returns at once what a finished one found.

    Example:
        result = evonas.find("photos/", "macs=30M", "latency=8ms", out="runs/phone")
        result.network, result.accuracy, result.costs, result.trials(), result.report()

    Args:
        data: `digits`, `cifar10`, `cifar100`, `fashion_mnist`, a folder of images, or an .npz file.
        budget: bounds, such as `macs=30M`, `latency=8ms`, `params=1M..2M`, `latency=30%`.
        recipe: another system than `mobile`; `evonas list` has all.
        options: those of the command line by the same names: `retrain_epochs=60`, `out="runs/phone"`, `fresh=True`.

    Raises:
        UsageError: what the command line would say, in one line.
    """
    return cast(Found, reach("find")(data, *budget, recipe=recipe, **options))
