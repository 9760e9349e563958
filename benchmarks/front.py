"""The whole front in one search: the share of the true front's volume after 50, 100 and 300 queries, on published tables.

NAS-Bench-201 (mean test accuracy on CIFAR-10 after 200 epochs) against parameters, and against the latency of three devices; three
objectives once (parameters and a phone); NAS-Bench-Macro (test accuracy) against its multiply-accumulates. Volumes are in accuracy times
the logarithm of costs, above the table's 5 % quantile of accuracy and below its dearest network. Ours, and the samplers of Optuna and of
pymoo (parameters as categories, or integers for pymoo, whose population is 20); accuracies are exact.

    OMP_NUM_THREADS=1 python benchmarks/front.py --data DATA [--table T ...] [--explorer E ...] [--seeds 10] [--queries 300]

Rows are kept; run again to go on. Peers need optuna, and pymoo where it is installed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from rows import Rows
from scipy.stats import t

from evonas import Budget, ParetoBayesianExplorer, ParetoExplorer, RandomExplorer, SearchSpace, open_study, search
from evonas.study import distributions
from evonas.tables import tabulate
from evonas.tabular import Lookup, Table, nasbench201, nasbench201_latency, nasbench_macro
from predictors import GaussianProcess
from supernet import nasbench201 as cells
from supernet.training.sandwich import weights

CHECKPOINTS = (50, 100, 300)
DEVICES = {"pixel3": "pixel3", "raspi4": "raspi4", "gpu": "titan_rtx_256"}
TABLES = ("params", *DEVICES, "params+pixel3", "macro")
QUANTILE = 0.05
CAPPED = {"optuna-gp": 100}
Floats = np.ndarray
Ours = Callable[[SearchSpace, Budget, int], Any]

OURS: dict[str, Ours] = {
    "volume": lambda s, b, seed: ParetoBayesianExplorer(s, b, predictor=GaussianProcess(s), seed=seed),
    "volume-tens": lambda s, b, seed: ParetoBayesianExplorer(s, b, predictor=GaussianProcess(s), seed=seed, generation_size=10),
    "nsga2": lambda s, b, seed: ParetoExplorer(s, b, seed=seed),
    "random": lambda s, b, seed: RandomExplorer(s, b, seed=seed),
}
SAMPLERS: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "optuna-nsga2": lambda seed: optuna.samplers.NSGAIISampler(seed=seed),
    "optuna-tpe": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "optuna-gp": lambda seed: optuna.samplers.GPSampler(seed=seed),
}
EXPLORERS = (*OURS, *SAMPLERS, "pymoo-nsga2")


class Problem:
    """A table, what is maximised, and the costs; and what a list of queries is worth.

    Attributes:
        space, fitness, budget: of a search.
        costs: names of the costs.
    """

    def __init__(self, table: Table, accuracy: Floats, costs: dict[str, Floats]) -> None:
        self.space, self.costs = table.space, tuple(costs)
        self.fitness = Lookup(table.space, table.architectures, accuracy)
        self.budget = Budget({name: Lookup(table.space, table.architectures, values, "ms") for name, values in costs.items()})
        self._lowest = float(np.quantile(accuracy, QUANTILE))
        self._dearest = np.log(np.stack(list(costs.values()), axis=1)).max(axis=0)
        self.whole = self.volume(table.architectures)

    def points(self, population: Floats) -> tuple[Floats, Floats]:
        """Accuracies above the reference and logarithms of costs below it: shapes (n,) and (n, costs)."""
        costs = np.stack([self.budget.costs[name](population) for name in self.costs], axis=1)
        return self.fitness(population) - self._lowest, self._dearest - np.log(costs)

    def volume(self, population: Floats) -> float:
        """The volume that the front of a population has below it."""
        gain, room = self.points(population)
        kept = gain > 0
        return volume_of(np.column_stack([room[kept], gain[kept]]))

    def shares(self, population: Floats) -> dict[str, float]:
        """Of the true front's volume after so many queries; of one that stopped early, what it had."""
        return {str(n): round(self.volume(population[:n]) / self.whole, 4) for n in CHECKPOINTS if n <= len(population)}


def volume_of(points: Floats) -> float:
    """The volume of all that some point is at least as large as in every coordinate, from 0: shape (n, 2) or (n, 3)."""
    points = points[np.argsort(-points[:, 0], kind="stable")]
    if points.shape[1] == 1:
        return float(points[:, 0].max(initial=0.0))
    total, edges = 0.0, np.append(points[:, 0], 0.0)
    if points.shape[1] == 2:
        return float((np.maximum.accumulate(points[:, 1]) * -np.diff(edges)).sum()) if len(points) else 0.0
    for i in range(len(points)):
        if edges[i] > edges[i + 1]:
            total += (edges[i] - edges[i + 1]) * volume_of(points[: i + 1, 1:])
    return total


def problem(name: str, data: Path) -> Problem:
    """A table by name."""
    if name == "macro":
        table = nasbench_macro(data / "nasbench_macro.npz")
        return Problem(table, table.columns["test"].reshape(len(table), -1).mean(1), {"macs": table.columns["macs"]})
    table = nasbench201(data / "nasbench201_accuracy.npz")
    latency = nasbench201_latency(data / "nasbench201_latency.npz", table)
    supernet = cells((3, 32, 32), 10)
    params = tabulate(supernet.space, supernet.parts(), weights)(table.architectures)
    costs = {each: params if each == "params" else latency.columns[DEVICES[each]] for each in name.split("+")}
    return Problem(table, table.columns["test200_cifar10"].reshape(len(table), -1).mean(1), costs)


def run(found: Problem, explorer: str, seed: int, queries: int) -> dict[str, Any]:
    """One search, and the share after every checkpoint."""
    if explorer in OURS:
        study = open_study(None, "front")
        ours = OURS[explorer](found.space, found.budget, seed)
        history = search(found.space, found.fitness, ours, evaluations=queries, study=study, budget=found.budget).history
        return found.shares(history.population)
    if explorer in SAMPLERS:
        return found.shares(of_optuna(found, SAMPLERS[explorer](seed), min(queries, CAPPED.get(explorer, queries))))
    return found.shares(of_pymoo(found, seed, queries))


def of_optuna(found: Problem, sampler: optuna.samplers.BaseSampler, queries: int) -> Floats:
    """The networks that a sampler asks for."""
    study = optuna.create_study(directions=["maximize"] + ["minimize"] * len(found.costs), sampler=sampler)
    rows = []
    for _ in range(queries):
        trial = study.ask(distributions(found.space))
        rows.append(found.space.from_names(trial.params))
        row = np.array(rows[-1:])
        study.tell(trial, [float(found.fitness(row)[0]), *(float(np.log(found.budget.costs[c](row)[0])) for c in found.costs)])
    return np.array(rows)


def of_pymoo(found: Problem, seed: int, queries: int) -> Floats:
    """The networks that NSGA-II of pymoo asks for."""
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem as Given
    from pymoo.operators.crossover.ux import UniformCrossover
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling
    from pymoo.optimize import minimize

    rows: list[Floats] = []

    class Networks(Given):
        def __init__(self) -> None:
            sizes = found.space.sizes
            super().__init__(n_var=len(sizes), n_obj=1 + len(found.costs), xl=0, xu=sizes - 1, vtype=int)

        def _evaluate(self, x: Floats, out: dict[str, Floats], *args: Any, **kwargs: Any) -> None:
            x = np.asarray(x, dtype=np.int64)
            rows.append(x)
            out["F"] = np.column_stack([-found.fitness(x), *(np.log(found.budget.costs[c](x)) for c in found.costs)])

    repair = RoundingRepair()
    algorithm = NSGA2(
        pop_size=20,
        sampling=IntegerRandomSampling(),
        crossover=UniformCrossover(repair=repair),
        mutation=PM(repair=repair),
        eliminate_duplicates=True,
    )
    minimize(Networks(), algorithm, ("n_eval", queries), seed=seed)
    return np.concatenate(rows)[:queries]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--table", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--explorer", nargs="+", choices=EXPLORERS, default=list(EXPLORERS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_front"))
    a = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rows = Rows(a.out / "rows.jsonl")
    for table in a.table:
        found = problem(table, a.data)
        for explorer in a.explorer:
            seeds = range(a.first_seed, a.first_seed + a.seeds)
            each = [rows.row(f"{table} {explorer} {s}", partial(run, found, explorer, s, a.queries), quiet=True) for s in seeds]
            for n in map(str, CHECKPOINTS):
                shares = np.array([row[n] for row in each if n in row])
                if len(shares):
                    half = t.ppf(0.975, len(shares) - 1) * shares.std(ddof=1) / np.sqrt(len(shares)) if len(shares) > 1 else np.nan
                    print(f"{table:14s} {explorer:14s} {n:>4s} queries: {shares.mean():.4f} +- {half:.4f}", flush=True)


if __name__ == "__main__":
    main()
