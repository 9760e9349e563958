"""Two-level SHGO beside brute force, random search, evolution and TPE, on models that were fitted to trained and measured networks.

The accuracy model is fitted to 25 trained networks (`benchmarks/flash.py` writes them), latency to networks measured on this host
(`benchmarks/hardware.py`). Energy and area have illustrative coefficients: 4.6 pJ a MAC and 5 pJ an activation (Horowitz, 2014,
"Computing's energy problem"), and 32 bits of SRAM a weight at 0.3 square micrometres a bit.

    OMP_NUM_THREADS=1 python benchmarks/two_level.py --trained runs/benchmark_flash/concatenation.jsonl --measured runs/hardware.jsonl
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from sklearn.pipeline import make_pipeline

from evonas import Budget, EvolutionExplorer, UsageError, open_study, search
from evonas.budget import Bound
from evonas.space import Population
from predictors import DegreeAccuracy, HardwareCost, PredictedAccuracy, fit_hardware, flash_search, measures, nn_degree
from predictors.flash import accuracy_per_cost
from supernet import skip_cells
from supernet.spaces.skip import SkipFamily

COSTS = ("latency", "energy", "area")
ENERGY = {"macs": 4.6e-9, "activations": 5e-9}
AREA = {"params": 32 * 0.3e-6}
FITTED = 25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trained", type=Path, required=True, help="rows of benchmarks/flash.py")
    parser.add_argument("--measured", type=Path, required=True, help="rows of benchmarks/hardware.py")
    parser.add_argument("--sets", type=int, default=100, help="random constraint sets against brute force")
    parser.add_argument("--peers", type=int, default=10, help="constraint sets with random search, evolution and TPE beside")
    a = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    trained, measured = ([json.loads(line) for line in path.read_text().splitlines()] for path in (a.trained, a.measured))
    exact(a.sets, trained, measured)
    peers(a.peers, trained, measured)


def exact(sets: int, trained: list[Any], measured: list[Any]) -> None:
    """Random constraint sets on a space that can be listed."""
    family = skip_cells((3, 16, 16), 10, layout="small", depths=tuple(range(5, 12)), skips=tuple(range(0, 40, 8)))
    known, everything = models(family, trained, measured), family.space.enumerate()
    values = Budget(known).values(everything)
    objective, counts = accuracy_per_cost(COSTS)(values), {"right": 0, "infeasible, and said so": 0, "worse": 0, "wrongly infeasible": 0}
    seconds, calls = [], []
    for seed in range(sets):
        budget = random_budget(known, family, np.random.default_rng(seed))
        keeps = (budget.violations_of(values, len(everything)) <= 0).all(axis=1)
        start = time.perf_counter()
        try:
            found = flash_search(family.space, budget, COSTS)
        except UsageError:
            counts["wrongly infeasible" if keeps.any() else "infeasible, and said so"] += 1
            continue
        seconds.append(time.perf_counter() - start)
        calls.append(found.calls)
        counts["right" if found.value <= objective[keeps].min() + 1e-9 else "worse"] += 1
    print(f"{len(everything):,} networks, {sets} constraint sets: {counts}; median {np.median(seconds):.3f} s, most calls {max(calls)}")


def peers(sets: int, trained: list[Any], measured: list[Any]) -> None:
    """The same budgets on a space of 1e10 networks; evolution and TPE get as many calls, random search 20,000."""
    family = skip_cells((3, 16, 16), 10, base_widths=(8, 16, 32))
    known = models(family, trained, measured)
    print(f"\n{family.space.count():.3g} networks; objective, lower is better\n")
    print("| budget | two-level | s | calls | random, 20,000 | s | evolution | s | TPE | s |\n|---|---|---|---|---|---|---|---|---|---|")
    ahead = {"random": 0, "evolution": 0, "TPE": 0}
    for seed in range(sets):
        rng = np.random.default_rng([seed, 1])
        budget = random_budget(known, family, rng)
        start = time.perf_counter()
        try:
            found = flash_search(family.space, budget, COSTS)
        except UsageError as error:
            print(f"| {error} | | | | | | | | | |")
            continue
        row = [f"| {budget} | {found.value:.4f} | {time.perf_counter() - start:.2f} | {found.calls}"]
        for name, peer in (("random", random_search), ("evolution", evolution), ("TPE", tpe)):
            start = time.perf_counter()
            value = peer(family, budget, found.calls, seed)
            row.append(f" {value:.4f} | {time.perf_counter() - start:.2f}")
            ahead[name] += found.value <= value + 1e-9
        print(" | ".join(row), "|", flush=True)
    print(f"two-level at least as good, of {sets} sets: {ahead}")


def models(family: SkipFamily, trained: list[Any], measured: list[Any]) -> dict[str, Any]:
    """Accuracy, latency, energy and area of a family; the fits are those of the small preset."""
    small = skip_cells((3, 16, 16), 10, layout="small")
    rows = [row for row in trained if row["key"].startswith("random")][:FITTED]
    population = small.space.canonical(np.array([row["architecture"] for row in rows]))
    g = nn_degree(*small.cells(population), small.connection)[:, None]
    model = DegreeAccuracy().fit(g, np.array([row["search"] for row in rows]))

    def degree(rows: Population) -> Any:
        return nn_degree(*family.cells(rows), family.connection)

    cost, _ = fit_hardware(small.totals, np.array([row["architecture"] for row in measured]), [row["milliseconds"] for row in measured])
    return {
        "accuracy": PredictedAccuracy(make_pipeline(measures(degree).fit(population), model)),
        "latency": HardwareCost("ms", cost.coefficients, family.totals),
        "energy": HardwareCost("mJ", ENERGY, family.totals),
        "area": HardwareCost("mm2", AREA, family.totals),
    }


def random_budget(known: dict[str, Any], family: SkipFamily, rng: np.random.Generator) -> Budget:
    """Accuracy bounded from below, each cost with probability .6 from above, at random quantiles of the space."""
    sample = family.space.sample(3000, rng)
    bounds = [Bound("accuracy", lower=float(np.quantile(known["accuracy"](sample), rng.uniform(0.05, 0.95))))]
    for name in COSTS:
        if rng.random() < 0.6:
            bounds.append(Bound(name, upper=float(np.quantile(known[name](sample), rng.uniform(0.05, 0.95))), unit=known[name].unit))
    return Budget(known, bounds)


def random_search(family: SkipFamily, budget: Budget, calls: int, seed: int) -> float:
    """The best of 20,000."""
    sample = family.space.sample(20_000, np.random.default_rng(seed))
    sample = sample[budget.feasible(sample)]
    return float(accuracy_per_cost(COSTS)(budget.values(sample)).min()) if len(sample) else float("inf")


def evolution(family: SkipFamily, budget: Budget, calls: int, seed: int) -> float:
    """Our own, with its defaults; infeasible networks are rejected before they count."""

    def fitness(population: Population) -> Any:
        return -accuracy_per_cost(COSTS)(budget.values(population))

    study = open_study(None, "evolution")
    found = search(family.space, fitness, EvolutionExplorer(family.space, budget, seed=seed), evaluations=calls, study=study, budget=budget)
    return -float(np.nanmax(found.history.scores))


def tpe(family: SkipFamily, budget: Budget, calls: int, seed: int) -> float:
    """Optuna's, over whole numbers, told of violations as constraints."""

    def objective(trial: optuna.Trial) -> float:
        row = np.array([[trial.suggest_int(choice.name, 0, len(choice.options) - 1) for choice in family.space.choices]])
        row = family.space.canonical(row)
        violations = budget.violations(row)[0]
        trial.set_user_attr("violations", violations.tolist())
        return float(accuracy_per_cost(COSTS)(budget.values(row))[0])

    sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constraints_func=lambda trial: trial.user_attrs["violations"])
    study = optuna.create_study(sampler=sampler)
    study.optimize(objective, n_trials=calls)
    kept = [trial.value for trial in study.trials if max(trial.user_attrs["violations"], default=0) <= 0]
    return min((value for value in kept if value is not None), default=float("inf"))


if __name__ == "__main__":
    main()
