"""Evolution behind each predictor, and behind none, on NAS-Bench-Macro under a bound on MACs.

A query reads one run of three; reported is the true mean accuracy of the best read after n queries, over seeds, and paired
differences from evolution without a predictor with their 95 % intervals. Also: how long NN-Degree takes to rank 10,000 networks.

    OMP_NUM_THREADS=1 python benchmarks/screens.py --data DATA
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from accuracy import macro
from rows import Rows
from sklearn.pipeline import make_pipeline

from evonas import Budget, EvolutionExplorer, RandomExplorer, ScreenedExplorer, open_study, parse_bounds, search
from evonas.tabular import Table, nasbench_macro
from predictors import BoostedTrees, DegreeAccuracy, GaussianProcess, NormalScores, measures, one_hot
from predictors.screens import degree_features
from supernet import mbconv

AT = (100, 200, 300)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the tables")
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--share", default="50%", help="bound on MACs")
    parser.add_argument("--rows", type=Path, default=Path("runs/screens.jsonl"))
    a = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    table, rows = nasbench_macro(a.data / "nasbench_macro.npz"), Rows(a.rows)
    space, _, _, _, features = macro(a.data)
    trees = make_pipeline(one_hot(space.sizes), BoostedTrees())
    predictors = {
        "random search": None,
        "evolution, no predictor": None,
        "boosted trees on accuracies": trees,
        "boosted trees on ranks (boosted-trees)": NormalScores(trees),
        "Gaussian process on ranks (gaussian-process)": NormalScores(GaussianProcess(space)),
        "NN-Degree, NN-Mass, MACs (nn-degree)": make_pipeline(measures(*features), DegreeAccuracy()),
        "NN-Degree alone": make_pipeline(measures(features[0]), DegreeAccuracy()),
    }
    found: dict[str, np.ndarray] = {}
    for name, predictor in predictors.items():
        one = partial(searched, table, name, predictor, a.share)
        runs = [rows.row(f"{name} {a.share} {seed}", partial(one, seed), quiet=True) for seed in range(a.seeds)]
        found[name] = np.array([run["best_at"] for run in runs])
    print(f"| predictor | {' | '.join(f'{n} queries' for n in AT)} | against none, 100 | 300 |\n|{'---|' * 6}")
    for name, values in found.items():
        gains = [interval(values[:, i] - found["evolution, no predictor"][:, i]) for i in (0, -1)]
        print(f"| {name} | {' | '.join(f'{v:.3f}' for v in values.mean(axis=0))} | {' | '.join(gains)} |")
    ranked()


def searched(table: Table, name: str, predictor: Any, share: str, seed: int) -> dict[str, Any]:
    """One search; the true means of the best read after `AT` queries, in %."""
    costs = {"macs": table.lookup("macs")}
    budget = Budget(costs, parse_bounds([f"macs={share}"], table.space, costs))
    explorer = (
        RandomExplorer(table.space, budget, seed=seed) if name == "random search" else EvolutionExplorer(table.space, budget, seed=seed)
    )
    fitness, truth = table.lookup("test", run=seed), table.lookup("test")
    screened = explorer if predictor is None else ScreenedExplorer(explorer, predictor)
    history = search(table.space, fitness, screened, evaluations=AT[-1], study=open_study(None, "screens"), budget=budget).history
    best = [history.population[int(np.nanargmax(history.scores[:n]))] for n in AT]
    return {"best_at": (100 * truth(np.array(best))).tolist()}


def interval(gains: np.ndarray) -> str:
    """Mean and 95 % interval."""
    error = 1.96 * gains.std(ddof=1) / np.sqrt(len(gains))
    return f"{gains.mean():+.3f} [{gains.mean() - error:+.3f}, {gains.mean() + error:+.3f}]"


def ranked() -> None:
    """Seconds that NN-Degree needs for 10,000 networks, its tables included."""
    supernet = mbconv((3, 224, 224), 1000, layout="mobile")
    population = supernet.space.sample(10_000, np.random.default_rng(0))
    start = time.perf_counter()
    features = degree_features(supernet)
    built = time.perf_counter()
    np.argsort(-features.fit_transform(population)[:, 0])
    print(
        f"\n10,000 networks of {len(supernet.space)} blocks ranked in {time.perf_counter() - built:.4f} s, tables in {built - start:.2f} s"
    )


if __name__ == "__main__":
    main()
