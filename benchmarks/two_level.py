"""Two-level SHGO beside brute force, random search, evolution and TPE, on models that were fitted to trained and measured networks.

The optimum of the paper's space is known exactly: degrees and costs add up over cells, so each cell's dominated options can be dropped and
all others combined.

The accuracy model is fitted to 25 trained networks (`benchmarks/flash.py` writes them), latency to networks measured on this host
(`benchmarks/hardware.py`). Energy and area have illustrative coefficients: 4.6 pJ a MAC and 5 pJ an activation (Horowitz, 2014,
"Computing's energy problem"), and 32 bits of SRAM a weight at 0.3 square micrometres a bit.

    OMP_NUM_THREADS=1 python benchmarks/two_level.py --trained runs/benchmark_flash/concatenation.jsonl --measured runs/hardware.jsonl
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from sklearn.pipeline import make_pipeline

from evonas import Budget, EvolutionExplorer, UsageError, open_study, search
from evonas.budget import Bound
from evonas.space import Population
from predictors import DegreeAccuracy, HardwareCost, PredictedAccuracy, fit_hardware, flash_search, measures, nn_degree
from predictors.flash.objective import accuracy_per_cost
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
    warnings.simplefilter("ignore", FutureWarning)
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
    spent = f"median {np.median(seconds):.3f} s, longest {max(seconds):.3f} s, most calls {max(calls)}"
    print(f"{len(everything):,} networks, {sets} constraint sets: {counts}; {spent}")


def peers(sets: int, trained: list[Any], measured: list[Any]) -> None:
    """The same budgets on a space of 1e10 networks; evolution and TPE get as many calls, random search 20,000."""
    family = skip_cells((3, 16, 16), 10, base_widths=(8, 16, 32))
    known = models(family, trained, measured)
    print(f"\n{family.space.count():.3g} networks; objective, lower is better\n")
    print(f"| budget | optimum | two-level | s | calls | random, 20,000 | s | evolution | s | TPE | s |\n|{'---|' * 11}")
    ahead, listed = {"random": 0, "evolution": 0, "TPE": 0}, [cells_of(family, known, width) for width in range(3)]
    gaps: dict[str, list[float]] = {name: [] for name in ("two-level", *ahead)}
    for seed in range(sets):
        rng = np.random.default_rng([seed, 1])
        budget = random_budget(known, family, rng)
        start = time.perf_counter()
        try:
            found = flash_search(family.space, budget, COSTS)
        except UsageError as error:
            print(f"| {error} | {optimum(known, budget, listed)} | | | | | | | | | |")
            continue
        took, best = time.perf_counter() - start, optimum(known, budget, listed)
        gaps["two-level"].append(found.value - best)
        row = [f"| {budget} | {best:.4f} | {found.value:.4f} | {took:.2f} | {found.calls}"]
        for name, peer in (("random", random_search), ("evolution", evolution), ("TPE", tpe)):
            start = time.perf_counter()
            value = peer(family, budget, found.calls, seed)
            row.append(f" {value:.4f} | {time.perf_counter() - start:.2f}")
            ahead[name] += found.value <= value + 1e-9
            gaps[name].append(value - best)
        print(" | ".join(row), "|", flush=True)
    print(f"two-level at least as good, of {len(gaps['two-level'])} sets that can be met: {ahead}")
    for name, values in gaps.items():
        found_some = np.array(values)[np.isfinite(values)]
        none = len(values) - len(found_some)
        print(f"{name}: mean distance from the optimum {found_some.mean():.4f}; in {none} sets nothing that keeps the bounds")


def cells_of(family: SkipFamily, known: dict[str, Any], width: int) -> tuple[float, np.ndarray, list[np.ndarray]]:
    """NN-Degree and costs of the smallest network of a width, and what each option of each cell adds to them, dominated ones left out."""
    smallest = np.array([[width, 0, 0, 0, 0, 0, 0]])
    options = [len(choice.options) for choice in family.space.choices[1:3]]
    added = []
    for cell in range(3):
        rows = np.repeat(smallest, options[0] * options[1], axis=0)
        rows[:, 1 + 2 * cell : 3 + 2 * cell] = np.indices(options).reshape(2, -1).T
        rows = np.concatenate([smallest, family.space.canonical(rows)])
        values = np.stack([nn_degree(*family.cells(rows), family.connection), *(known[name](rows) for name in COSTS)], axis=1)
        added.append(undominated(values[1:] - values[0]))
    return float(values[0, 0]), values[0, 1:], added


def undominated(values: np.ndarray) -> np.ndarray:
    """Rows of (degree, costs) that no other row beats: shape (m, 4)."""
    kept: list[np.ndarray] = []
    for row in values[np.lexsort((*values[:, :0:-1].T, -values[:, 0]))]:
        if not kept or not ((np.array(kept)[:, 0] >= row[0]) & (np.array(kept)[:, 1:] <= row[1:] + 1e-15).all(axis=1)).any():
            kept.append(row)
    return np.array(kept)


def optimum(known: dict[str, Any], budget: Budget, listed: list[tuple[float, np.ndarray, list[np.ndarray]]]) -> float:
    """The exact optimum of the paper's space, because degrees and costs add up over cells; infinite where nothing keeps the bounds."""
    limits, model, best = {bound.cost: bound for bound in budget.bounds}, known["accuracy"].model[-1], float("inf")
    for degree, costs, (first, second, third) in listed:
        rest = (second[:, None] + third[None]).reshape(-1, 4)
        for row in first:
            total = rest + row
            values = dict(zip(COSTS, (costs + total[:, 1:]).T, strict=True)) | {"accuracy": model.predict(degree + total[:, :1])}
            keeps = values["accuracy"] >= limits["accuracy"].lower
            for name in COSTS:
                keeps &= values[name] <= (limits[name].upper if name in limits else np.inf)
            if keeps.any():
                best = min(best, float(accuracy_per_cost(COSTS)({name: v[keeps] for name, v in values.items()}).min()))
    return best


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
