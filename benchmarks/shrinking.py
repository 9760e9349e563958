"""ABS: what the angle knows of cells and chains whose accuracies are published, and what shrinking by it is worth.

CIFAR-10 at 16 pixels, single uniform paths:

  cells SEED    NAS-Bench-201, one cell a stage of 8, 16 and 32 channels, 48 epochs. After 2, 10 and 48 epochs 300 cells are ranked by
                every score; in the end the space is shrunk by each of them from 30 options to 10, and 100 cells are scored to pick one
  abs SEED      the same, with the space shrunk by angles to 200 cells in the second half of the epochs, and a pick from what is left
  once SEED     the same in a single round, after half of the epochs
  by-accuracy SEED, by-parameters SEED    as abs, by other scores; once-by-accuracy, once-by-parameters in a single round
  chains SEED   NAS-Bench-Macro, 32 epochs; after 2, 16 and 32 of them 300 networks are ranked

Controls: parameters of the operators, entries of the joined vector, its length (magnitude), and, in the whole space, cells of as many
parameters ("within"). Rows and checkpoints are kept; run again to go on. Some five minutes a row on one core.

    OMP_NUM_THREADS=1 python benchmarks/shrinking.py --data cifar16.npz --cells nasbench201_accuracy.npz --chains nasbench_macro.npz
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
import within
from nasbench201 import sample
from rows import Rows
from setn import CALIBRATION, SEARCHED, SETTINGS, WIDTHS, truth_of

from evonas import Budget, RandomExplorer, open_study
from evonas.ranking import tau
from evonas.space import Population, SearchSpace
from evonas.tables import tabulate
from evonas.tabular import Table, nasbench_macro
from evonas.tabular import nasbench201 as read_table
from supernet import ImageData, InheritedFitness, Rotation, Shrinking, UniformPaths, load, macro, nasbench201, train
from supernet.chain import ChainSupernet
from supernet.shrinking.operators import mean_of_ranks, pool_of, scores_of_options, without_the_worst
from supernet.shrinking.rotation import weights_now
from supernet.training.sandwich import weights

EPOCHS, LOOKED, LEFT, KEPT_OPTIONS, PICKED_FROM = 48, (2, 10, 48), 200, 10, 100
RANKED, RANDOM_SHRINKS, ALIKE = 300, 50, 40  # chains next to each other by parameters
WITHIN = ("angle", "angle with fixed weights", "magnitude", "entries")
Floats = np.ndarray
Score = Callable[[Population], Floats]


class Looking(UniformPaths):
    """Uniform paths, and a look at the supernet after some epochs."""

    def __init__(self, epochs: tuple[int, ...], look: Callable[[int, Any, dict[str, torch.Tensor]], None]) -> None:
        super().__init__()
        self._epochs, self._look, self._anchor = epochs, look, {}

    def step(self, network: Any, batch: Any, moment: Any, rng: np.random.Generator) -> Any:
        if moment.step == 0:
            self._anchor = weights_now(network)
        return super().step(network, batch, moment, rng)

    def end_of_epoch(self, network: Any, held_out: Any, moment: Any) -> None:
        if moment.epoch + 1 in self._epochs:
            self._look(moment.epoch + 1, network, self._anchor)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="CIFAR-10 at 16 pixels, .npz")
    parser.add_argument("--cells", type=Path, required=True, help="NAS-Bench-201, .npz")
    parser.add_argument("--chains", type=Path, required=True, help="NAS-Bench-Macro, the official JSON file or .npz")
    names = [*(f"{kind} {seed}" for seed in range(5) for kind in ("cells", "abs")), "chains 0", "chains 1"]
    names += [*(f"once {seed}" for seed in range(5)), "by-accuracy 0", "by-parameters 0", "once-by-accuracy 0", "once-by-parameters 0"]
    parser.add_argument("--only", nargs="+", default=names)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_shrinking"))
    a = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    images, cells, chains = load(a.data), read_table(a.cells), nasbench_macro(a.chains)
    rows = Rows(a.out / "rows.jsonl")
    measures: dict[str, Callable[[int], dict[str, Any]]] = {
        "cells": partial(of_cells, images, cells),
        "abs": partial(shrunk_while_trained, images, cells, {"every": 1}),
        "once": partial(shrunk_while_trained, images, cells, {}),
        "by-accuracy": partial(shrunk_while_trained, images, cells, {"every": 1, "score": "accuracy"}),
        "once-by-accuracy": partial(shrunk_while_trained, images, cells, {"score": "accuracy"}),
        "once-by-parameters": partial(shrunk_while_trained, images, cells, {"score": "parameters"}),
        "by-parameters": partial(shrunk_while_trained, images, cells, {"every": 1, "score": "parameters"}),
        "chains": partial(of_chains, images, chains),
    }
    for name in a.only:
        kind, seed = name.split()
        found = rows.row(name, partial(measures[kind], int(seed)), quiet=True)
        print(f"\n{name}")
        for key, value in found.items():
            if key != "key":
                print(f"  {key}: {value}", flush=True)


def of_cells(images: ImageData, table: Table, seed: int) -> dict[str, Any]:
    """Ranks of cells, and the space shrunk by every score."""
    supernet = nasbench201(images.image_shape, cells=1, widths=WIDTHS, seed=seed)
    found: dict[str, Any] = {}
    rows = sample(table)[:RANKED]

    def look(epoch: int, network: Any, anchor: dict[str, torch.Tensor]) -> None:
        scores = scores_of(network, images, anchor)
        found[f"tau after {epoch}"] = told(scores, rows, truth_of(table, rows))
        if epoch == EPOCHS:
            whole = connected(network.space, table.architectures)
            truth = truth_of(table, whole)
            groups = np.round(scores["parameters"](whole)).astype(np.int64)
            found["tau within cells of as many parameters"] = {
                name: round(mean_within(scores[name](whole), truth, groups), 3) for name in WITHIN
            }
            found["shrunk to ten options"] = shrunk_by(scores, network.space, table)

    train(supernet, Looking(LOOKED, look), images.train, epochs=EPOCHS, seed=seed, **SETTINGS)
    found["pick"] = pick(supernet, images, table, seed)
    return found


def shrunk_while_trained(images: ImageData, table: Table, settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """A supernet whose space shrinks while it is trained, what is left, and a pick from that."""
    supernet = nasbench201(images.image_shape, cells=1, widths=WIDTHS, seed=seed)
    way = Shrinking(UniformPaths(), stop_size=LEFT, seed=seed, **settings)
    train(supernet, way, images.train, epochs=EPOCHS, seed=seed, **SETTINGS)
    left = connected(supernet.space, supernet.space.enumerate())
    return {
        "left": {
            choice.name: [choice.options[i] for i in kept]
            for choice, kept in zip(supernet.space.choices, supernet.space.allowed, strict=True)
        },
        "mean true accuracy of what is left": round(float(truth_of(table, left).mean()), 4),
        "best true accuracy of what is left": round(float(truth_of(table, left).max()), 4),
        "pick": pick(supernet, images, table, seed),
    }


def of_chains(images: ImageData, table: Table, seed: int) -> dict[str, Any]:
    """Ranks of chains."""
    supernet = macro(images.image_shape, seed=seed)
    networks = supernet.space.enumerate()
    truth = within.published(table, networks)
    some = np.random.default_rng(0).choice(len(networks), RANKED, replace=False)
    found: dict[str, Any] = {}

    def look(epoch: int, network: Any, anchor: dict[str, torch.Tensor]) -> None:
        scores = scores_of(network, images, anchor)
        found[f"tau after {epoch}"] = told(scores, networks[some], truth[some])
        if epoch == within.EPOCHS:
            order = scores["parameters"](networks).argsort().argsort()
            groups = order // ALIKE
            found["tau within networks of about as many parameters"] = {
                name: round(mean_within(scores[name](networks), truth, groups), 3) for name in WITHIN
            }

    train(supernet, Looking((2, within.EPOCHS // 2, within.EPOCHS), look), images.train, epochs=within.EPOCHS, seed=seed, **within.SETTINGS)
    return found


def scores_of(supernet: ChainSupernet, images: ImageData, anchor: dict[str, torch.Tensor]) -> dict[str, Score]:
    """Every score of architectures."""
    rotation = Rotation(supernet, anchor)
    fitness = InheritedFitness(supernet, images.search.head(SEARCHED), images.train.head(CALIBRATION))
    known: dict[bytes, tuple[Floats, Floats]] = {}  # one walk says both

    def inherited(which: int, population: Population) -> Floats:
        key = population.tobytes()
        if key not in known:
            known[key] = fitness.both(population)
        return known[key][which]

    accuracy, likelihood = partial(inherited, 0), partial(inherited, 1)
    return {
        "angle": rotation,
        "angle with fixed weights": Rotation(supernet, anchor, fixed=True),
        "accuracy": accuracy,
        "likelihood": likelihood,
        "angle+accuracy": mean_of_ranks(rotation, accuracy),
        "angle+likelihood": mean_of_ranks(rotation, likelihood),
        "magnitude": rotation.magnitude,
        "entries": rotation.entries,
        "parameters": tabulate(supernet.space, supernet.parts(), weights),
    }


def told(scores: dict[str, Score], rows: Population, truth: Floats) -> dict[str, float]:
    """Kendall's tau of every score with the truth."""
    return {name: round(float(tau(score(rows), truth)), 3) for name, score in scores.items()}


def mean_within(scores: Floats, truth: Floats, groups: Floats) -> float:
    """The mean tau within groups of at least ten, weighed by their sizes; a group whose scores are all equal counts 0."""
    found, sizes = [], []
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        if len(members) >= 10:
            value = tau(scores[members], truth[members])
            found.append(0.0 if np.isnan(value) else float(value))
            sizes.append(len(members))
    return float(np.average(found, weights=sizes))


def shrunk_by(scores: dict[str, Score], space: SearchSpace, table: Table) -> dict[str, Any]:
    """The space with ten options left: how many of the truly best ten they are, and the mean true accuracy of the cells that are left.

    Scores of images look at 30 cells an option, others at 1,000, as `Shrinking` does.
    """
    everything = connected(space, table.architectures)
    truth = truth_of(table, everything)
    best = options_left(space, scores_of_options(space, everything, truth))
    count = sum(map(len, space.allowed)) - KEPT_OPTIONS
    found = {"whole space": [round(float(truth.mean()), 4)]}
    rng = np.random.default_rng(0)
    few, many = (connected(space, pool_of(space, Budget(), count, rng)) for count in (30, 1000))
    for name, score in scores.items():
        pool = few if "accuracy" in name or "likelihood" in name else many
        narrowed = without_the_worst(space, scores_of_options(space, pool, score(pool)), count=count)
        left = connected(narrowed, narrowed.enumerate())
        kept = {(column, option) for column, indices in enumerate(narrowed.allowed) for option in indices}
        found[name] = [round(float(truth_of(table, left).mean()), 4), len(kept & best), len(left)]
    means = []
    for _ in range(RANDOM_SHRINKS):
        random = [rng.random(len(choice.options)) for choice in space.choices]
        left = connected(space, (narrowed := without_the_worst(space, random, count=count)).enumerate())
        if len(left):
            means.append(truth_of(table, left).mean())
    found["random"] = [round(float(np.mean(means)), 4), round(float(np.std(means)), 4)]
    return found


def options_left(space: SearchSpace, scores: list[Floats]) -> set[tuple[int, int]]:
    """The ten options with the best scores, one of every choice at least."""
    narrowed = without_the_worst(space, scores, count=sum(map(len, space.allowed)) - KEPT_OPTIONS)
    return {(column, option) for column, indices in enumerate(narrowed.allowed) for option in indices}


def connected(space: SearchSpace, rows: Population) -> Population:
    """Those that have a way from the input to the output."""
    assert space.graph is not None
    return rows[space.graph.connects([choice.options for choice in space.choices], rows)]


def pick(supernet: ChainSupernet, images: ImageData, table: Table, seed: int) -> dict[str, float]:
    """The true accuracy of the best of a hundred random cells by likelihood and by accuracy, and their mean."""
    rows = RandomExplorer(supernet.space, seed=seed, generation_size=2 * PICKED_FROM).rows(open_study(None, "pick"), 0, 2 * PICKED_FROM)
    rows = connected(supernet.space, rows)[:PICKED_FROM]
    accuracy, likelihood = InheritedFitness(supernet, images.search.head(SEARCHED), images.train.head(CALIBRATION)).both(rows)
    truth = truth_of(table, rows)
    values = {"by likelihood": truth[likelihood.argmax()], "by accuracy": truth[accuracy.argmax()], "mean of those scored": truth.mean()}
    return {name: round(float(value), 4) for name, value in values.items()}


if __name__ == "__main__":
    main()
