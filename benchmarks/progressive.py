"""Progressive growth (PNAS) on NAS-Bench-Macro: against random search, its predictor level by level, and its efficiency.

One query reads one noisy run of three; accuracies below are true means. Layers become free one at a time, the others are identities.

margin: the best read of the progressive explorer and of random search, both after `--queries`, paired over the seeds.
levels: Spearman correlation of the predictor, with the scores that it was fitted on (size b) and with the truth of the new
children of the beam (size b + 1).
efficiency: models until the mean of the best 1, 5 and 25 equals what random search and evolution reach with 5 times `--queries`. The
paper states it for cells; tables of its cells were never published.

    OMP_NUM_THREADS=1 python benchmarks/progressive.py --data DATA [--seeds 30] [--queries 100]

The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from scipy.stats import spearmanr
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from evonas import ChoiceGrowth, EvolutionExplorer, Explorer, History, ProgressiveExplorer, RandomExplorer, SearchSpace, open_study, search
from evonas.tabular import Lookup, nasbench_macro
from predictors import BoostedTrees, Ensemble, one_hot

BEAM = 16
TOPS = (1, 5, 25)


def trees(space: SearchSpace) -> Any:
    return make_pipeline(one_hot(space.sizes), Ensemble(BoostedTrees(1)))


def walk(explorer: Explorer, fitness: Lookup, queries: int) -> History:
    study = open_study(None, "benchmark")
    return search(explorer.space, fitness, explorer, evaluations=queries, study=study).history


def top_means(truth: np.ndarray, scores: np.ndarray, top: int) -> np.ndarray:
    """True mean of the `top` networks that read best, after every query."""
    return np.array([truth[:n][np.argsort(-scores[:n], kind="stable")[:top]].mean() for n in range(1, len(scores) + 1)])


def correlations(explorer: ProgressiveExplorer, history: History, truth: Lookup) -> list[tuple[float, float]]:
    """For every level b: Spearman on what the predictor was fitted on, and on the children that it ranked (b + 1)."""
    found = []
    for level in range(2, explorer.growth.levels + 1):
        start = explorer.schedule()[level - 1]
        known = history.before(start)
        scored = known.scored
        predictor = clone(explorer.predictor).fit(known.population[scored], known.scores[scored])
        members = explorer.growth.members(known.population[scored], level - 1)
        children = np.unique(explorer.growth.children(known.population[scored[members][:BEAM]], level), axis=0)
        new = children[[row not in known.keys for row in map(tuple, children.tolist())]]
        fitted = spearmanr(predictor.predict(known.population[scored]), known.scores[scored]).statistic
        found.append((float(fitted), float(spearmanr(predictor.predict(new), truth(new)).statistic)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("EVONAS_DATA"), help="folder of the tables; EVONAS_DATA unless given")
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--queries", type=int, default=100)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if arguments.data is None:
        parser.error("--data is missing: the folder with nasbench_macro.npz")
    table = nasbench_macro(Path(arguments.data) / "nasbench_macro.npz")
    space, truth, queries = table.space, table.lookup("test"), arguments.queries
    ahead, levels, needed = [], [], {(rival, top): [] for rival in ("random", "evolution") for top in TOPS}
    for seed in range(arguments.seeds):
        fitness = table.lookup("test", run=seed)
        explorer = ProgressiveExplorer(space, predictor=trees(space), growth=ChoiceGrowth(space), beam=BEAM, seed=seed)
        own = walk(explorer, fitness, 5 * queries)
        rivals = {
            "random": walk(RandomExplorer(space, seed=seed), fitness, 5 * queries),
            "evolution": walk(EvolutionExplorer(space, seed=seed), fitness, 5 * queries),
        }
        mine = {top: top_means(truth(own.population), own.scores, top) for top in TOPS}
        theirs = {name: {top: top_means(truth(h.population), h.scores, top) for top in TOPS} for name, h in rivals.items()}
        ahead.append(100 * (mine[1][queries - 1] - theirs["random"][1][queries - 1]))
        levels.append(correlations(explorer, own, truth))
        for rival, top in needed:
            reached = np.flatnonzero((mine[top] >= theirs[rival][top][-1]) & (np.arange(1, len(mine[top]) + 1) >= top))
            needed[rival, top].append(int(reached[0]) + 1 if len(reached) else 5 * queries)
        print(f"seed {seed}: {ahead[-1]:+.3f} points ahead of random search", flush=True)
    half = 1.96 * np.std(ahead, ddof=1) / len(ahead) ** 0.5
    per_level = np.mean(levels, axis=0).round(3).tolist()
    result = {
        "seeds": arguments.seeds,
        "queries": queries,
        "ahead_of_random": [round(float(v), 3) for v in (np.mean(ahead), np.mean(ahead) - half, np.mean(ahead) + half)],
        "spearman_fitted_and_next": {f"{b}->{b + 1}": pair for b, pair in enumerate(per_level, start=1)},
        "models_needed": {f"{rival} top {top}": float(np.mean(n)) for (rival, top), n in needed.items()},
        "models_of_rivals": 5 * queries,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
