"""How long a run will take, before it starts: every movement is timed on a few steps or networks, here, with these images.

What is foretold is "about": a search shares more work among more networks, a way of training may do more in its later epochs, and a machine
has other things to do. While the run goes on, the bar of the whole run corrects it.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from evonas.files import read_json, write_json
from evonas.space import Population
from recipes.runner.progress import bar, in_words, say, show_forecast, show_whole
from recipes.runner.run_folder import RunFolder
from supernet import ChainSupernet, ImageData, InheritedFitness, train
from supernet.data import Part
from supernet.family import Family
from supernet.training.standalone import StandAlone
from supernet.training.way import Way

STEPS_TIMED, NETWORKS_TIMED, IMAGES_TIMED = 4, 8, 256
FORECAST = "forecast.json"


def foretell(run: RunFolder, movements: Mapping[str, Callable[[], float]], *, dry: bool) -> dict[str, float]:
    """The seconds of every movement, shown; those of a run that goes on are what was foretold when it began.

    Args:
        run: `start` writes them there.
        movements: in their order; each gives its seconds. What takes none is left out.
        dry: say that nothing more happens.
    """
    path = run / FORECAST
    if path.exists() and not run.fresh:
        seconds: dict[str, float] = {str(name): float(value) for name, value in read_json(path).items()}
        say(f"the run goes on from what is done; all of it was foretold to take about {in_words(sum(seconds.values()))}")
        return seconds
    seconds = {}
    with bar("time movements") as update:
        for i, (name, measure) in enumerate(movements.items()):
            seconds[name] = measure()
            update((i + 1) / len(movements))
    seconds = {name: value for name, value in seconds.items() if value > 0}
    show_forecast(seconds)
    if dry:
        say(f"dry run: nothing was trained, and nothing is left in {run.path} that was not there before")
    return seconds


def start(run: RunFolder, seconds: Mapping[str, float]) -> None:
    """The run begins: bars show all of it from now on, and its forecast is kept for when it goes on."""
    show_whole(seconds)
    if not (run / FORECAST).exists():
        write_json(run / FORECAST, {name: round(value, 3) for name, value in seconds.items()})


def training_seconds(network: nn.Module, way: Way, part: Part, *, epochs: int, batch_size: int, **settings: Any) -> float:
    """What `supernet.train` takes, from a few steps of a copy. Nothing is changed.

    Args:
        network, way, part, epochs, batch_size, settings: of `supernet.train`.
    """
    images = int(len(part) * (1 - way.held_out))
    steps = epochs * max(images // min(batch_size, images), 1)
    at: list[float] = []

    def enough(step: int) -> None:
        at.append(time.perf_counter())
        if len(at) > STEPS_TIMED:
            raise _Enough

    begin = time.perf_counter()
    with torch.random.fork_rng(), contextlib.suppress(_Enough):
        train(copy.deepcopy(network), copy.deepcopy(way), part, epochs=epochs, batch_size=batch_size, on_step=enough, **settings)
    return steps * ((at[-1] - at[0]) / (len(at) - 1) if len(at) > 1 else at[0] - begin)  # the first step also warms up


class _Enough(Exception):
    """So many steps suffice."""


def scoring_seconds(
    supernet: ChainSupernet, images: ImageData, calibration_images: int, device: torch.device
) -> Callable[[int, int], float]:
    """What it takes to score networks with inherited weights, from a few of them and a few of the images, which are timed once.

    Args:
        supernet, images: of the search.
        calibration_images: for batch-norm statistics.
        device: to score on.

    Returns:
        (networks to score, how many of them at once: they share what they begin with) -> seconds.
    """

    @functools.cache
    def a_block() -> float:
        some, calibration = images.search.head(IMAGES_TIMED), images.train.head(min(calibration_images, IMAGES_TIMED))
        fitness = InheritedFitness(copy.deepcopy(supernet), some, calibration, device=device)
        population = supernet.space.sample(NETWORKS_TIMED, np.random.default_rng(0))
        fitness.both(population)  # all of them: the first time that an operator runs on a GPU is no measure
        start = time.perf_counter()
        fitness.both(population)
        spent = (time.perf_counter() - start) / _blocks_run(supernet, population)
        return spent * (len(images.search) + calibration_images) / (len(some) + len(calibration))

    def seconds(networks: int, together: int) -> float:
        together = max(min(together, networks), 1)
        return a_block() * _blocks_run(supernet, supernet.space.sample(together, np.random.default_rng(1))) * networks / together

    return seconds


def _blocks_run(supernet: ChainSupernet, population: Population) -> int:
    """How many blocks run to score a population, where what networks begin with alike is run once."""
    read, count = list[int](), 0
    for columns in supernet.columns:
        read += [column for column in columns if column not in read]
        count += len(np.unique(population[:, read], axis=0)) if read else 1
    return count


def alone_seconds(family: Family, population: Population, images: ImageData, **settings: Any) -> float:
    """What it takes to train a network of a family on its own: the mean of some architectures."""
    found = [training_seconds(family.network(row), StandAlone(), images.train, **settings) for row in population]
    return float(np.mean(found))
