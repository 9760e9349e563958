"""Screens on tables: Kendall tau with the accuracy of networks that they were not fitted to, by how many they were fitted to.

NAS-Bench-201 (CIFAR-10, 200 epochs), NAS-Bench-Macro, and once-for-all's surrogate (3,000 random networks, options that are numbers).
Trees and ridge read options, their places where they are numbers, and the logarithms of parameters and multiply-accumulates; the default
screen reads options alone. `chosen` takes whichever of them foretells the folds of its own networks best. All are fitted to ranks.

    OMP_NUM_THREADS=1 python benchmarks/choosing.py --data DATA [--draws 10]

Rows are kept; run again to go on.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import cells, macro
from rows import Rows
from scipy.stats import kendalltau
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from evonas.once_for_all import OnceForAllSurrogate, once_for_all_latency, once_for_all_space
from evonas.space import Population, SearchSpace
from predictors import BoostedTrees, GaussianProcess, NormalScores, one_hot
from predictors.accuracy.encoding import measures, option_numbers

SIZES = (10, 25, 50, 100, 400)
RANDOM, FOLDS = 3000, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the tables")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_choosing"))
    a = parser.parse_args()
    rows = Rows(a.out / "rows.jsonl")
    for name, make in {"nb201": nb201, "macro": on_macro, "once-for-all": surrogate}.items():
        space, population, truth, costs = make(a.data)
        found = {n: rows.row(f"{name} {n}", partial(compared, space, population, truth, costs, a.draws, n), quiet=True) for n in SIZES}
        print(f"\n{name}\n\n| screen | {' | '.join(map(str, SIZES))} |\n|{'---|' * (len(SIZES) + 1)}")
        for screen in [key for key in found[SIZES[0]] if key not in ("key", "picked")]:
            print(f"| {screen} | {' | '.join(f'{found[n][screen]:.3f}' for n in SIZES)} |")
        picked = "; ".join("{}: {}".format(n, found[n]["picked"]) for n in SIZES)
        print(f"chosen: {picked}", flush=True)


Table = tuple[SearchSpace, Population, np.ndarray, list[Callable[[Population], Any]]]


def nb201(data: Path) -> Table:
    space, population, truth, _, features = cells(data)
    return space, population, truth, [features[2]]


def on_macro(data: Path) -> Table:
    space, population, truth, _, features = macro(data)
    return space, population, truth, [features[2]]


def surrogate(data: Path) -> Table:
    space = once_for_all_space()
    population = space.sample(RANDOM, np.random.default_rng(0))
    latency = once_for_all_latency(data / "latency_luts.json.gz")
    return space, population, OnceForAllSurrogate(data / "ofa_mbv3_accuracy_surrogate.npz")(population), [latency]


def candidates(space: SearchSpace, costs: list[Callable[[Population], Any]]) -> list[tuple[str, Any]]:
    """Regressors over architectures that differ in what they take a space for, by name.

    Args:
        space: of the architectures.
        costs: whose logarithms are features.
    """
    features = [make_pipeline(measures(*costs), FunctionTransformer(_logarithm), StandardScaler()), one_hot(space.sizes)]
    if option_numbers(space, space.sample(1, np.random.default_rng(0))).shape[1]:
        features.append(FunctionTransformer(partial(_numbers, space)))
    return [
        ("boosted trees", make_pipeline(make_union(*features), BoostedTrees())),
        ("ridge", make_pipeline(make_union(*features), Ridge(1.0))),
        ("Gaussian process", GaussianProcess(space)),
    ]


def _logarithm(values: Any) -> Any:
    return np.log(np.maximum(values, np.finfo(np.float64).tiny))


def _numbers(space: SearchSpace, population: Population) -> np.ndarray:
    return option_numbers(space, np.asarray(population, dtype=np.int64))


def best_held_out(regressors: list[tuple[str, Any]], X: Population, y: np.ndarray) -> str:
    """The name of the regressor that ranks folds best when it is fitted to the others."""
    folds = KFold(FOLDS, shuffle=True, random_state=0)
    taus = {name: kendalltau(cross_val_predict(NormalScores(each), X, y, cv=folds), y).statistic for name, each in regressors}
    return max(taus, key=lambda name: np.nan_to_num(taus[name], nan=-1.0))


def compared(
    space: SearchSpace, population: Population, truth: np.ndarray, costs: list[Callable[[Population], Any]], draws: int, n: int
) -> dict[str, Any]:
    """Mean tau of every screen over draws, and how often which was chosen."""
    regressors = candidates(space, costs)
    screens = {"boosted trees, options alone": make_pipeline(one_hot(space.sizes), BoostedTrees()), **dict(regressors)}
    taus: dict[str, list[float]] = {"dearer is better": []}
    picked: Counter[str] = Counter()
    for draw in range(draws):
        taken = np.random.default_rng([0, draw]).choice(len(truth), n, replace=False)
        left = np.setdiff1d(np.arange(len(truth)), taken)[:RANDOM]
        taus["dearer is better"].append(kendalltau(costs[0](population[left]), truth[left]).statistic)
        chosen = best_held_out(regressors, population[taken], truth[taken])
        picked[chosen] += 1
        for name, screen in {**screens, "chosen": dict(regressors)[chosen]}.items():
            fitted = NormalScores(screen).fit(population[taken], truth[taken])
            taus.setdefault(name, []).append(kendalltau(fitted.predict(population[left]), truth[left]).statistic)
    return {name: float(np.nanmean(values)) for name, values in taus.items()} | {"picked": dict(picked)}


if __name__ == "__main__":
    main()
