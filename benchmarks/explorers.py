"""What a proposal costs, without storage, on one core: milliseconds a candidate for every registered explorer.

A generation of 50 is proposed after 1,000 trials of a space of 20 choices with 7 options under a bound that half of it keeps.
`screened_boosted` is what `evonas mobile` uses: evolution behind boosted trees, a pool of 1,000. Then the seconds in which the
Bayesian explorer proposes 10 after 300 trials, in a space that it lists and in one of 2e19. The last line is one JSON object.

    OMP_NUM_THREADS=1 python benchmarks/explorers.py
"""

from __future__ import annotations

import json
import time

import numpy as np
from sklearn.pipeline import make_pipeline

from evonas import EXPLORERS, BayesianExplorer, EvolutionExplorer, History, RandomExplorer, ScreenedExplorer
from evonas.once_for_all import once_for_all_space
from evonas.tabular import nasbench201_space
from evonas.testing import example
from predictors import BoostedTrees, GaussianProcess, one_hot


def main() -> None:
    space, budget, fitness = example(choices=20, options=7, upper=0.5)
    population = RandomExplorer(space, budget).propose(History.empty(space), 0, 1000)
    history = History(space, np.arange(1000), population, fitness(population))
    explorers = {name: entry.make(space, budget, 0) for name, entry in EXPLORERS.items()}
    predictor = make_pipeline(one_hot(space.sizes), BoostedTrees())
    explorers["screened_boosted"] = ScreenedExplorer(EvolutionExplorer(space, budget), predictor, pool=1000)
    milliseconds = {}
    for name, explorer in explorers.items():
        times = []
        for _ in range(5):
            fresh = History(space, history.numbers, history.population, history.scores)  # nothing memoised
            start = time.perf_counter()
            rows = explorer.propose(fresh, 1000, 50)
            times.append((time.perf_counter() - start) / len(rows) * 1e3)
        milliseconds[name] = round(float(np.median(times)), 4)
    seconds = {}
    for name, other in (("cells", nasbench201_space()), ("once_for_all", once_for_all_space())):
        rows = RandomExplorer(other).propose(History.empty(other), 0, 300)
        known = History(other, np.arange(300), rows, rows.sum(axis=1) + np.random.default_rng(0).normal(size=300))
        start = time.perf_counter()
        BayesianExplorer(other, predictor=GaussianProcess(other), generation_size=10).propose(known, 300, 10)
        seconds[name] = round(time.perf_counter() - start, 3)
    print(json.dumps({"seconds_for_10_after_300": seconds, "trials": 1000, "generation": 50, "milliseconds_per_candidate": milliseconds}))


if __name__ == "__main__":
    main()
