"""How wide the upper bound should be, and how options that are numbers should count: queries until the best network is read.

NAS-Bench-201 (200-epoch test accuracy) and NAS-Bench-Macro (mean test accuracy; once with its operations as names, once as the numbers 0,
3 and 6 of their expansion), one query at a time, in tens, and under the 25 % quantile of a cost (latency of a Pixel 3; multiply-
accumulates). Seeds that nothing was chosen by before.

    OMP_NUM_THREADS=1 python benchmarks/optimism.py --data DATA [--table T ...] [--optimism 0.7 1.5] [--seeds 20] [--out FOLDER]

Rows are kept; run again to go on. A run that did not read the best counts `QUERIES`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from rows import Rows

from evonas import BayesianExplorer, Budget, Choice, SearchSpace, open_study, search
from evonas.tabular import Lookup, identities_last, nasbench201, nasbench201_latency, nasbench_macro
from predictors import GaussianProcess

TABLES = ("cifar100", "in16", "macro", "macro-numbers")
MODES = ("single", "tens", "bound")
FIRST_SEED, QUERIES, QUANTILE = 5000, 200, 0.25


def problem(data: Path, table: str) -> tuple[SearchSpace, Lookup, Lookup]:
    """The space, the accuracies and a cost."""
    if not table.startswith("macro"):
        cells = nasbench201(data / "nasbench201_accuracy.npz")
        name = next(column for column in cells.columns if column.startswith("test200_") and table.lower() in column.lower())
        latency = nasbench201_latency(data / "nasbench201_latency.npz", cells)
        return cells.space, cells.lookup(name), latency.lookup("pixel3", unit="ms")
    found = nasbench_macro(data / "nasbench_macro.npz")
    space = found.space
    if table == "macro-numbers":
        space = SearchSpace(tuple(Choice(choice.name, ("0", "3", "6")) for choice in space.choices), canonicalise=identities_last)
    accuracy = found.columns["test"].mean(axis=1) if found.columns["test"].ndim > 1 else found.columns["test"]
    return space, Lookup(space, found.architectures, accuracy), Lookup(space, found.architectures, found.columns["macs"])


def queries(data: Path, table: str, mode: str, optimism: float, seed: int) -> dict[str, Any]:
    """Until the best is read."""
    space, accuracy, cost = problem(data, table)
    everything = space.enumerate()
    budget = Budget({"cost": cost}, [f"cost={float(np.quantile(cost(everything), QUANTILE))!r}"] if mode == "bound" else [])
    best = accuracy(everything[budget.feasible(everything)]).max()
    size = 10 if mode == "tens" else 1
    predictor = GaussianProcess(space)
    explorer = BayesianExplorer(space, budget, predictor=predictor, seed=seed, optimism=optimism, generation_size=size)
    scores = np.zeros(0)
    study = open_study(None, "optimism")
    while len(scores) < QUERIES and not (scores >= best - 1e-9).any():
        scores = search(space, accuracy, explorer, evaluations=len(scores) + 10, study=study, budget=budget).history.scores
    read = np.flatnonzero(scores >= best - 1e-9)
    return {"queries": int(read[0]) + 1 if len(read) else QUERIES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--table", nargs="*", default=TABLES, choices=TABLES)
    parser.add_argument("--mode", nargs="*", default=MODES, choices=MODES)
    parser.add_argument("--optimism", type=float, nargs="*", default=(0.7, 1.0, 1.5))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_optimism"))
    a = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rows = Rows(a.out / "rows.jsonl")
    for table in a.table:
        for mode in a.mode:
            for optimism in a.optimism:
                found = [
                    rows.row(
                        f"{table} {mode} {optimism} {seed}",
                        lambda table=table, mode=mode, optimism=optimism, seed=seed: queries(a.data, table, mode, optimism, seed),
                        quiet=True,
                    )["queries"]
                    for seed in range(FIRST_SEED, FIRST_SEED + a.seeds)
                ]
                error = np.std(found, ddof=1) / np.sqrt(len(found))
                print(f"{table} {mode} {optimism}: {np.mean(found):.1f} +- {error:.1f} of {len(found)} seeds", flush=True)


if __name__ == "__main__":
    main()
