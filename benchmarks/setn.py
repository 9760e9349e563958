"""SETN on NAS-Bench-201: what its evaluator is worth, against uniform candidates, Bayesian search and DARTS, by published accuracies.

CIFAR-10 at 16 pixels, one cell a stage of 8, 16 and 32 channels, a fifth of the training images held out:

  template   single uniform paths and, in the last quarter of the epochs, an evaluator beside them (`self-evaluated`)
  sampled    the same with the evaluator from the beginning, and paths drawn from what it has learned
  mixtures   DARTS, first order, half as many epochs, which take as long

The learning rate stays high: ranks were best in the middle of a cosine to zero (seed 9, on which the settings were chosen).

Every template scores 300 random cells, `--candidates` that its evaluator draws and as many of the most probable, by accuracy with inherited
weights on 1,000 search images; a Gaussian process searches the same fitness with as many evaluations. Rows and checkpoints are kept; run
again to go on. Some eight minutes a seed on one core.

    OMP_NUM_THREADS=1 python benchmarks/setn.py --data cifar16.npz --table nasbench201_accuracy.npz
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from nasbench201 import sample
from rows import Rows
from scipy.stats import spearmanr

from evonas import BayesianExplorer, DistributionExplorer, open_study, search
from evonas.ranking import tau
from evonas.space import Population, SearchSpace
from evonas.tabular import Table
from evonas.tabular import nasbench201 as read_table
from predictors import GaussianProcess
from supernet import ImageData, InheritedFitness, LearnedMixtures, SelfEvaluated, load, nasbench201, train
from supernet.chain import ChainSupernet

SEARCHED, CALIBRATION, MEANS = 1000, 512, 50
SETTINGS: dict[str, Any] = {"batch_size": 64, "lr": 0.2, "final_lr": 0.08, "weight_decay": 5e-4}
WIDTHS, HELD_OUT, WARMUP = (8, 16, 32), 0.2, 0.75
IDLE = (0, 1)  # none and skip_connect, as options


class SampledPaths(SelfEvaluated):
    """Paths drawn from the evaluator's distribution in place of uniform ones: what the paper argues against."""

    def paths(self, space: SearchSpace, rng: np.random.Generator) -> Population:
        found = self.evaluator.distribution(space)
        while True:
            path = np.array([[rng.choice(len(p), p=p / p.sum()) for p in found]])
            if space.graph is None or space.graph.connects((choice.options for choice in space.choices), path)[0]:
                return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="CIFAR-10 at 16 pixels, .npz")
    parser.add_argument("--table", type=Path, required=True, help="NAS-Bench-201, .npz")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=48)
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--evaluator-lr", type=float, default=0.01)
    parser.add_argument("--only", nargs="+", choices=("template", "sampled", "mixtures"), default=["template", "sampled", "mixtures"])
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_setn"))
    a = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    images, table = load(a.data), read_table(a.table)
    rows = Rows(a.out / f"rows-{'-'.join(map(str, a.seeds))}.jsonl")
    for seed in a.seeds:
        for kind in a.only:
            measure = mixtures if kind == "mixtures" else template
            found = rows.row(f"{kind} {seed} {a.epochs} {a.evaluator_lr:g}", partial(measure, kind, images, table, seed, a), quiet=True)
            print(f"\n{kind}, seed {seed}")
            for name, value in found.items():
                if isinstance(value, float | int | str) and name != "key":
                    print(f"  {name}: {value if isinstance(value, str) else round(value, 4)}", flush=True)


def template(kind: str, images: ImageData, table: Table, seed: int, a: argparse.Namespace) -> dict[str, Any]:
    """A template and its evaluator, and what they choose; true accuracies are CIFAR-10's after 200 epochs, in percent."""
    supernet = nasbench201(images.image_shape, cells=1, widths=WIDTHS, seed=seed)
    settings: dict[str, Any] = {"held_out": HELD_OUT, "evaluator_lr": a.evaluator_lr, "seed": seed}
    way = SelfEvaluated(supernet.space, warmup=WARMUP, **settings) if kind == "template" else SampledPaths(supernet.space, **settings)
    first = way.evaluator.distribution(supernet.space)
    seconds = trained(supernet, way, images, seed, a, kind)
    fitness = InheritedFitness(supernet, images.search.head(SEARCHED), images.train.head(CALIBRATION))
    learned = way.evaluator.distribution(supernet.space)

    def proposed(mode: str, distribution: Any) -> Population:
        explorer = DistributionExplorer(supernet.space, distribution=distribution, mode=mode, seed=seed, generation_size=a.candidates)
        return explorer.rows(open_study(None, mode), 0, a.candidates)

    uniform = sample(table)
    groups = {
        "uniform": np.random.default_rng([seed, 1]).permutation(uniform)[: a.candidates],
        "drawn": proposed("sample", learned),
        "most probable": proposed("most-probable", learned),
    }
    study = open_study(None, "bayesian")
    bayesian = BayesianExplorer(supernet.space, predictor=GaussianProcess(supernet.space), seed=seed)
    groups["bayesian"] = search(supernet.space, fitness, bayesian, evaluations=a.candidates, study=study).history.population
    inherited = fitness(uniform)
    found: dict[str, Any] = {
        "seconds": seconds,
        "tau of inherited accuracy": tau(inherited, truth_of(table, uniform)),
        "spearman of log p and inherited accuracy, before": spearmanr(log_p(first, uniform), inherited).statistic,
        "spearman of log p and inherited accuracy, after": spearmanr(log_p(learned, uniform), inherited).statistic,
        "spearman of log p and true accuracy, after": spearmanr(log_p(learned, uniform), truth_of(table, uniform)).statistic,
        **expected(table, supernet.space, learned),
        "skip or none in the evaluator's mode": int(np.isin([p.argmax() for p in learned], IDLE).sum()),
        "distribution": [p.tolist() for p in learned],
    }
    for name, population in groups.items():
        truth, scores = truth_of(table, population), fitness(population)
        found |= {
            f"{name}: mean true accuracy of {MEANS}": float(truth[:MEANS].mean()),
            f"{name}: true accuracy of the first": float(truth[0]),
            f"{name}: true accuracy of the best inherited of {a.candidates}": float(truth[scores.argmax()]),
            f"{name}: share of skip and none": float(np.isin(population, IDLE).mean()),
        }
    return {name: float(value) if isinstance(value, np.floating) else value for name, value in found.items()}


def expected(table: Table, space: SearchSpace, distribution: Any) -> dict[str, float]:
    """The true accuracy that one draw has on average, exactly, over all cells that have a path: drawn uniformly, and by a distribution."""
    cells = table.architectures
    cells = cells[space.graph.connects([choice.options for choice in space.choices], cells)] if space.graph is not None else cells
    truth, weights = truth_of(table, cells), np.exp(log_p(distribution, cells))
    return {
        "expected true accuracy, uniform": float(truth.mean()),
        "expected true accuracy, drawn": float(np.average(truth, weights=weights)),
    }


def mixtures(kind: str, images: ImageData, table: Table, seed: int, a: argparse.Namespace) -> dict[str, Any]:
    """DARTS: the cell that it derives, and the hundred most probable ones of its weights."""
    supernet = nasbench201(images.image_shape, cells=1, widths=WIDTHS, seed=seed)
    way = LearnedMixtures(supernet.space, held_out=HELD_OUT, architecture_lr=a.evaluator_lr, seed=seed)
    seconds = trained(supernet, way, images, seed, a, kind)
    learned = way.weights.distribution(supernet.space)
    explorer = DistributionExplorer(supernet.space, distribution=learned, mode="most-probable", generation_size=a.candidates)
    population = explorer.rows(open_study(None, "mixtures"), 0, a.candidates)
    return {
        "seconds": seconds,
        "derived": str(supernet.space.to_names(population[0])),
        "true accuracy of the derived": float(truth_of(table, population[:1])[0]),
        f"most probable: mean true accuracy of {MEANS}": float(truth_of(table, population[:MEANS]).mean()),
        "most probable: share of skip and none": float(np.isin(population, IDLE).mean()),
        **expected(table, supernet.space, learned),
        "skip or none in the derived": int(np.isin(population[0], IDLE).sum()),
        "distribution": [p.tolist() for p in learned],
    }


def trained(supernet: ChainSupernet, way: Any, images: ImageData, seed: int, a: argparse.Namespace, kind: str) -> float:
    start = time.perf_counter()
    checkpoint, epochs = a.out / f"{kind}-{seed}-{a.epochs}-{a.evaluator_lr:g}.pt", a.epochs // (2 if kind == "mixtures" else 1)
    train(supernet, way, images.train, epochs=epochs, seed=seed, checkpoint=checkpoint, identity=[kind, epochs], **SETTINGS)
    return time.perf_counter() - start


def truth_of(table: Table, population: Population) -> np.ndarray:
    return np.asarray(table.columns["test200_cifar10"])[table.rows(population)].reshape(len(population), -1).mean(1)


def log_p(distribution: Any, population: Population) -> np.ndarray:
    return np.sum([np.log(p)[column] for p, column in zip(distribution, population.T, strict=True)], axis=0)


if __name__ == "__main__":
    main()
