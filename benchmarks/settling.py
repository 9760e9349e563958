"""Is it better to read leaders again than to search on? NAS-Bench-Macro under 50 % of its MACs, where a read is one training of three.

All have as many reads. `once`: the search alone, its first recommendation delivered. `again`: a search with fewer reads, then successive
rejects among its first eight. Reported is the true mean accuracy of what is delivered, over seeds.

    OMP_NUM_THREADS=1 python benchmarks/settling.py --data DATA [--seeds 40]

Rows are kept; run again to go on.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import optuna
from rows import Rows

from evonas import BayesianExplorer, Budget, EvolutionExplorer, open_study, parse_bounds, search, settle
from evonas.tabular import Lookup, nasbench_macro
from predictors import GaussianProcess

READS, AGAIN, LEADERS = (100, 200), (0, 20, 40), 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_settling"))
    a = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rows = Rows(a.out / "rows.jsonl")
    for explorer in ("evolution", "bayesian"):
        for reads in READS:
            found = {}
            for again in AGAIN:
                one = partial(delivered, a.data, explorer, reads, again)
                key = f"{explorer} {reads} {again}"
                found[again] = np.array([rows.row(f"{key} {s}", partial(one, s), quiet=True)["accuracy"] for s in range(a.seeds)])
            for again, values in found.items():
                gain = values - found[0]
                half = 1.96 * gain.std(ddof=1) / np.sqrt(len(gain))
                name = "once" if again == 0 else f"{again} of them again"
                print(f"{explorer}, {reads} reads, {name}: {values.mean():.3f} ({gain.mean():+.3f} +- {half:.3f})", flush=True)


def delivered(data: Path, explorer: str, reads: int, again: int, seed: int) -> dict[str, float]:
    """The true accuracy of what a search delivers, in points."""
    table = nasbench_macro(data / "nasbench_macro.npz")
    macs, truth, rng = table.lookup("macs"), table.lookup("test"), np.random.default_rng([seed, 11])
    runs = table.columns["test"].reshape(len(table.architectures), -1)
    where = Lookup(table.space, table.architectures, np.arange(len(runs)))

    def read(population: np.ndarray) -> np.ndarray:
        """One of the three trainings of each, drawn anew every time."""
        return runs[where(population).astype(int), rng.integers(0, runs.shape[1], len(population))]

    budget = Budget({"macs": macs}, parse_bounds(["macs=50%"], table.space, {"macs": macs}))
    make = {
        "evolution": lambda: EvolutionExplorer(table.space, budget, seed=seed),
        "bayesian": lambda: BayesianExplorer(table.space, budget, predictor=GaussianProcess(table.space), seed=seed, generation_size=10),
    }
    proposes, study = make[explorer](), open_study(None, "settling")
    found = search(table.space, read, proposes, evaluations=reads - again, study=study, budget=budget).history
    first = proposes.recommend(found)
    row = found.population[first[:1]]
    if again:
        row = np.array([settle(study, table.space, read, first[:LEADERS], reads=again)[0].architecture])
    return {"accuracy": 100 * float(truth(row)[0])}


if __name__ == "__main__":
    main()
