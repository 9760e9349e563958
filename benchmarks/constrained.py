"""Search under a measured latency: queries until the best feasible network is read, and the best of 2e19 networks on a surrogate.

cells: NAS-Bench-201 (200-epoch test accuracy) under the 10, 25 and 50 % quantiles of the latency measured on five devices; the
Bayesian explorer against Optuna's TPE, which gets the same constraints. Infeasible proposals of TPE are rejected by the loop and not
counted as queries; ours makes none.
once-for-all: the MobileNetV3 space under 25 and 35 ms on a Note10 (sum of measured blocks, 224 pixels). Accuracies are those of
once-for-all's *surrogate*, not of networks. The Bayesian explorer with 500 queries in tens against evolution (SPOS settings) with 1,000.

    OMP_NUM_THREADS=1 python benchmarks/constrained.py --data DATA [--part cells once-for-all] [--seeds 10]

The last line is a JSON list of one entry for each device and bound.
"""

from __future__ import annotations

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from rows import Rows

from evonas import BayesianExplorer, Budget, EvolutionExplorer, SearchSpace, open_study, search
from evonas.once_for_all import OnceForAllSurrogate, once_for_all_latency, once_for_all_space
from evonas.tabular import Lookup, nasbench201, nasbench201_latency
from predictors import GaussianProcess

DEVICES = ("pixel3", "raspi4", "eyeriss", "gold_6226", "fpga")
QUANTILES = (0.10, 0.25, 0.50)
MILLISECONDS = (25, 35)
QUERIES = 300


@cache
def cells(data: Path, device: str) -> tuple[SearchSpace, Lookup, Lookup]:
    """The space, the accuracies and the latencies."""
    accuracies = nasbench201(data / "nasbench201_accuracy.npz")
    latencies = nasbench201_latency(data / "nasbench201_latency.npz", accuracies)
    return accuracies.space, accuracies.lookup("test200_cifar10"), latencies.lookup(device, unit="ms")


def cell_run(data: Path, device: str, quantile: float, explorer: str, seed: int) -> dict[str, Any]:
    """Queries until the best feasible cell is read, and infeasible proposals on the way."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space, accuracy, latency = cells(data, device)
    everything = space.enumerate()
    bound = float(np.quantile(latency(everything), quantile))
    budget = Budget({"latency": latency}, [f"latency={bound!r}ms"])
    feasible = budget.feasible(everything)
    optimum = accuracy(everything[feasible]).max()
    found: list[int] = []
    read = 0

    def fitness(population: np.ndarray) -> np.ndarray:
        nonlocal read
        assert budget.feasible(population).all(), "an infeasible network was scored"
        scores = accuracy(population)
        found.extend(read + 1 + np.flatnonzero(scores >= optimum - 1e-9))
        read += len(population)
        return scores

    study = open_study(None, "constrained")
    ours = BayesianExplorer(space, budget, predictor=GaussianProcess(space), seed=seed)
    sampler = ours if explorer == "bayesian" else optuna.samplers.TPESampler(seed=seed)
    rejected = 0
    for queries in range(10, QUERIES + 1, 10):
        result = search(space, fitness, sampler, evaluations=queries, study=study, budget=budget)
        rejected = result.rejected
        if found or result.stopped != "evaluations":
            break
    return {"found": int(found[0]) if found else None, "rejected": rejected, "bound_ms": bound, "feasible": int(feasible.sum())}


def surrogate_run(data: Path, milliseconds: int, explorer: str, seed: int) -> dict[str, Any]:
    """The best surrogate accuracy after all queries."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = once_for_all_space()
    budget = Budget({"latency": once_for_all_latency(data / "latency_luts.json.gz")}, [f"latency={milliseconds}ms"])
    surrogate = OnceForAllSurrogate(data / "ofa_mbv3_accuracy_surrogate.npz")
    study = open_study(None, "surrogate")
    if explorer == "bayesian":
        sampler, queries = BayesianExplorer(space, budget, predictor=GaussianProcess(space), seed=seed, generation_size=10), 500
    else:
        sampler, queries = EvolutionExplorer(space, budget, seed=seed), 1000
    scores = search(space, surrogate, sampler, evaluations=queries, study=study, budget=budget).history.scores
    return {"queries": queries, "best": float(np.nanmax(scores)), "best_at_100": float(np.nanmax(scores[:100]))}


def compare(
    rows: Rows, name: str, seeds: int, run: Any, job: tuple[Any, ...], explorers: tuple[str, ...], pool: ProcessPoolExecutor
) -> dict[str, list[dict[str, Any]]]:
    """The rows of each explorer, measured where the file lacks them."""
    keys = {(explorer, seed): f"{name}/{explorer}/{seed}" for explorer in explorers for seed in range(seeds)}
    running = {what: pool.submit(run, *job, *what) for what, key in keys.items() if key not in rows}
    done = {what: rows.row(key, lambda what=what: running[what].result(), quiet=True) for what, key in keys.items()}
    return {explorer: [done[explorer, seed] for seed in range(seeds)] for explorer in explorers}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("EVONAS_DATA"), help="folder of the tables; EVONAS_DATA unless given")
    parser.add_argument("--part", nargs="*", default=("cells", "once-for-all"), choices=("cells", "once-for-all"))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rows", type=Path, default=Path("runs/constrained.jsonl"), help="where finished runs are kept")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("--data is missing: the folder of the tables")
    data, rows, entries = Path(arguments.data), Rows(arguments.rows), []
    with ProcessPoolExecutor(arguments.processes) as pool:
        for device in DEVICES if "cells" in arguments.part else ():
            for quantile in QUANTILES:
                job, explorers = (data, device, quantile), ("bayesian", "optuna-tpe")
                found = compare(rows, f"{device}/{quantile}", arguments.seeds, cell_run, job, explorers, pool)
                queries = {e: float(np.mean([row["found"] or QUERIES for row in own])) for e, own in found.items()}
                hits = {e: float(np.mean([row["found"] is not None for row in own])) for e, own in found.items()}
                rejected = {e: float(np.mean([row["rejected"] for row in own])) for e, own in found.items()}
                figures = {"queries": queries, "ratio": queries["bayesian"] / queries["optuna-tpe"], "found": hits, "rejected": rejected}
                entries.append({"device": device, "quantile": quantile, **figures})
                print(json.dumps(entries[-1]), flush=True)
        for milliseconds in MILLISECONDS if "once-for-all" in arguments.part else ():
            job, explorers = (data, milliseconds), ("bayesian", "evolution")
            found = compare(rows, f"once-for-all/{milliseconds}", arguments.seeds, surrogate_run, job, explorers, pool)
            best = {e: [round(100 * row["best"], 4) for row in own] for e, own in found.items()}
            mean = {e: float(np.mean(b)) for e, b in best.items()}
            entries.append({"surrogate": "once-for-all", "ms": milliseconds, "best": best, "mean": mean})
            print(json.dumps(entries[-1]), flush=True)
    print(json.dumps(entries))


if __name__ == "__main__":
    main()
