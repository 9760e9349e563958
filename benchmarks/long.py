"""Long searches: what a proposal and a trial take after many.

`evolution`: processor time of 1,000 trials of evolution in a journal, fitness free, after so many; journal and memory then. Spaces of
20 choices of 8 options, and of 200 choices of 10. `bayesian`: seconds of the next proposal after so many trials, the first of a process
left out: NAS-Bench-201's cells (15,625, listed whole; edges declared) and 20 choices of 8 options in order (bred).

    OMP_NUM_THREADS=1 python benchmarks/long.py evolution [--choices 20 --options 8 --trials 20000] [--out runs/benchmark_long]
    OMP_NUM_THREADS=1 python benchmarks/long.py bayesian [--space cells sizes] [--trials 100 300 1000 3000] [--out ...]

`--proposals FILE` keeps what was proposed, so that two versions can be compared. Rows are kept; run again to go on.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rows import Rows

from evonas import BayesianExplorer, Choice, EvolutionExplorer, SearchSpace, open_study, search
from evonas.study import History
from predictors import GaussianProcess
from supernet import nasbench201

PROPOSALS = 5
MARKS = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("evolution", "bayesian"))
    parser.add_argument("--choices", type=int, default=20)
    parser.add_argument("--options", type=int, default=8)
    parser.add_argument("--space", nargs="*", default=["cells", "sizes"])
    parser.add_argument("--trials", type=int, nargs="*")
    parser.add_argument("--proposals", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_long"))
    a = parser.parse_args()
    rows = Rows(a.out / "rows.jsonl")
    if a.part == "evolution":
        evolution(rows, a.choices, a.options, (a.trials or [20_000])[0])
        return
    proposed: dict[str, Any] = {}
    for name in a.space:
        for trials in a.trials or (100, 300, 1000, 3000):
            rows.row(f"bayesian {name} {trials}", lambda name=name, trials=trials: bayesian(name, trials, proposed))
    if a.proposals:
        a.proposals.write_text(json.dumps(proposed))


def numbers(choices: int, options: int) -> SearchSpace:
    """Choices whose options have an order."""
    return SearchSpace(tuple(Choice(f"layer{i}", tuple(str(8 * (k + 1)) for k in range(options))) for i in range(choices)))


def worth(space: SearchSpace, population: np.ndarray) -> np.ndarray:
    """A smooth score with interactions of neighbours."""
    rng = np.random.default_rng(0)
    effects = [rng.normal(size=len(choice.options)).cumsum() for choice in space.choices]
    columns = np.stack([effect[population[:, i]] for i, effect in enumerate(effects)], axis=1)
    return columns.sum(axis=1) + 0.3 * (columns[:, :-1] * columns[:, 1:]).sum(axis=1)


def evolution(rows: Rows, choices: int, options: int, trials: int) -> None:
    """A row for every thousand trials of one search."""
    space = numbers(choices, options)
    key = f"evolution {choices}x{options}"
    if f"{key} {trials}" in rows:
        return
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "study.log"
        study, started, mark = open_study(journal, "search"), time.process_time(), MARKS

        def told(done: int, best: float) -> None:
            nonlocal started, mark
            if done >= mark:
                now = time.process_time()
                memory, size = psutil.Process().memory_info().rss, journal.stat().st_size
                row = {"seconds": now - started, "rss_mib": memory / 2**20, "bytes_a_trial": size / done}
                rows.row(f"{key} {mark}", lambda: row)
                started, mark = time.process_time(), mark + MARKS

        explorer = EvolutionExplorer(space, seed=0)
        search(space, lambda population: worth(space, population), explorer, evaluations=trials, study=study, on_progress=told)


def bayesian(name: str, trials: int, proposed: dict[str, Any]) -> dict[str, Any]:
    """Seconds of a proposal; the history goes on with what is proposed."""
    space = nasbench201((3, 16, 16), 10).space if name == "cells" else numbers(20, 8)
    rng = np.random.default_rng(trials)
    population = space.canonical(space.sample(4 * trials, rng))
    population = population[np.sort(np.unique(population, axis=0, return_index=True)[1])][:trials]
    scores = worth(space, population)
    explorer = BayesianExplorer(space, predictor=GaussianProcess(space), seed=0)
    seconds, found = [], []
    for _ in range(PROPOSALS):
        history = History(space, np.arange(len(population)), population, scores)
        begun = time.perf_counter()
        row = explorer.propose(history, len(population), 1)
        seconds.append(time.perf_counter() - begun)
        population, scores = np.concatenate([population, row]), np.append(scores, worth(space, row))
        found.append(row[0].tolist())
    proposed[f"{name} {trials}"] = found
    return {"seconds": float(np.median(seconds[1:])), "first": seconds[0]}


if __name__ == "__main__":
    main()
