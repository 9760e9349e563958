"""PNAS on real networks: is what the predictor chooses better than random successors, and how many trainings does growth spare?

CIFAR-10 at 16 pixels, 4,000 of the training images, networks of three cells with 8 channels, 2 epochs each; cells of up to 3 blocks out of
four operators, a beam of 16: 36 cells of one block, then 16 a level.

levels      at every level the chosen successors against as many random ones of the same parents, trained alike; Spearman correlation of
            the predictor (five MLPs; one; five LSTMs) with what it was fitted on, and with those random successors, which it did not choose
efficiency  trainings until the best reaches what random search finds in five times as many (340 cells, one pool for all seeds)

Every training is a row; rows are kept; run again to go on. `--only pool` and `--seeds` share the work among processes.

    OMP_NUM_THREADS=1 python benchmarks/pnas.py --data cifar16.npz
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from rows import Rows
from scipy.stats import spearmanr
from sklearn.base import clone

from evonas import ProgressiveExplorer, open_study, search
from evonas.cells import CellGrowth
from evonas.space import Population
from evonas.study import History
from predictors import Ensemble
from predictors.accuracy.neural import CellLSTM, CellMLP
from recipes.pnas import largest_only
from supernet import TrainedFitness, load, pnas_cells

OPERATORS = ("sep_conv_3x3", "sep_conv_5x5", "identity", "max_pool_3x3")
BLOCKS, BEAM, IMAGES, TIMES = 3, 16, 4000, 5
TRAINED = 36 + BEAM * (BLOCKS - 1)  # by one search
SETTINGS: dict[str, Any] = {"epochs": 2, "batch_size": 64, "lr": 0.1, "weight_decay": 5e-4}
CPU = torch.device("cpu")


class Kept:
    """A fitness whose every training is a row."""

    def __init__(self, fitness: TrainedFitness, rows: Rows) -> None:
        self.fitness, self.rows = fitness, rows

    def __call__(self, population: Population) -> np.ndarray:
        def score(row: np.ndarray) -> dict[str, Any]:
            return {"score": float(self.fitness(row[None])[0])}

        return np.array([self.rows.row(str(row.tolist()), partial(score, row), quiet=True)["score"] for row in population])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="CIFAR-10 at 16 pixels, .npz")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=("levels", "pool"), default=["levels", "pool"])
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_pnas"))
    a = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    whole = load(a.data)
    images = replace(whole, train=whole.train.head(IMAGES))
    family = pnas_cells(images.image_shape, len(images.classes), blocks=BLOCKS, operators=OPERATORS, repeats=1, filters=8)
    pool: list[float] = []
    if "pool" in a.only:
        fitness = Kept(TrainedFitness(family, images, device=CPU, seed=0, **SETTINGS), Rows(a.out / "pool.jsonl"))
        rng = np.random.default_rng(17)
        cells = np.unique(largest_only(family.space).sample(2000, rng), axis=0)
        cells = rng.permutation(cells)[: TIMES * TRAINED]
        for start in range(0, len(cells), 20):
            pool += fitness(cells[start : start + 20]).tolist()
            print(f"pool: {len(pool)} of {len(cells)} trained, best {max(pool):.4f}, mean {np.mean(pool):.4f}", flush=True)
    if "levels" in a.only:
        for seed in a.seeds:
            fitness = Kept(TrainedFitness(family, images, device=CPU, seed=seed, **SETTINGS), Rows(a.out / f"trained-{seed}.jsonl"))
            print(json.dumps({"seed": seed, **grown(family.space, fitness, seed, pool)}), flush=True)


def grown(space: Any, fitness: Kept, seed: int, pool: list[float]) -> dict[str, Any]:
    """One search, and what its levels were worth."""
    kinds = {"five MLPs": Ensemble(CellMLP(space)), "one MLP": CellMLP(space), "five LSTMs": Ensemble(CellLSTM(space))}
    explorer = ProgressiveExplorer(space, predictor=kinds["five MLPs"], growth=CellGrowth(space), beam=BEAM, seed=seed)
    starts = explorer.schedule()
    history = search(space, fitness, explorer, evaluations=starts[-1], study=open_study(None, "pnas"), batch=1).history
    found: dict[str, Any] = {"trained": starts[-1], "best": float(history.scores.max())}
    for level in range(2, BLOCKS + 1):
        known = history.before(starts[level - 1])
        chosen = history.scores[starts[level - 1] : starts[level]]
        population = successors(explorer, known, level, seed)
        truth = fitness(population)
        found[f"level {level}"] = {
            "chosen": [float(chosen.mean()), float(chosen.max())],
            "random successors": [float(truth.mean()), float(truth.max())],
            "spearman": {name: correlations(kind, known, population, truth) for name, kind in kinds.items()},
        }
    if pool:
        random, mine = np.array(pool), np.maximum.accumulate(history.scores)
        reached = np.flatnonzero(mine >= random.max())
        found["random"] = {
            "best of as many": float(random[: starts[-1]].max()),
            f"best of {TIMES} times as many": float(random.max()),
            "trained until that was reached": int(reached[0]) + 1 if len(reached) else None,
            "of the pool better than the search's best": int((random > mine[-1]).sum()),
        }
    return found


def successors(explorer: ProgressiveExplorer, known: History, level: int, seed: int) -> Population:
    """Random children of the parents that the beam had, new ones."""
    members = explorer.growth.members(known.population[known.scored], level - 1)
    parents = known.population[known.scored[members][:BEAM]]
    children = np.unique(explorer.space.canonical(explorer.growth.children(parents, level)), axis=0)
    return np.random.default_rng([seed, level]).permutation(children)[:BEAM]


def correlations(kind: Any, known: History, population: Population, truth: np.ndarray) -> list[float]:
    """With what it was fitted on, and with networks one block larger."""
    X, y = known.population[known.scored], known.scores[known.scored]
    model = clone(kind, safe=False).fit(X, y)
    return [float(spearmanr(model.predict(X), y).statistic), float(spearmanr(model.predict(population), truth).statistic)]


if __name__ == "__main__":
    main()
