"""Accuracy predictors on published tables: Kendall tau with the true accuracy of all other networks, by number of training networks.

NAS-Bench-201 (CIFAR-10, 200 epochs) and NAS-Bench-Macro (mean of three runs); mean of 20 draws of the training networks, the same for
every predictor. What needs no training network (MACs, NN-Degree, naswot, log-synflow) has one tau. Rows are kept; run again to go on.

    OMP_NUM_THREADS=1 python benchmarks/accuracy.py --data DATA
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rows import Rows
from scipy.stats import kendalltau
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import MinMaxScaler

from evonas.space import Population, SearchSpace
from evonas.tabular import nasbench201, nasbench_macro, read_arrays
from predictors import (
    BoostedTrees,
    DegreeAccuracy,
    Ensemble,
    GaussianProcess,
    NormalScores,
    inverted_residual_degree,
    inverted_residual_mass,
    measures,
    one_hot,
)
from predictors.accuracy.neural import OptionLSTM, OptionMLP
from supernet.operators import InvertedResidual

SIZES = (25, 50, 100, 400)
MACRO_WIDTHS = (32, 64, 64, 128, 128, 128, 256, 256, 256)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the tables")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--targets", choices=["ranks", "accuracies"], default="ranks", help="what predictors are fitted to")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_accuracy"))
    a = parser.parse_args()
    torch.set_num_threads(1)
    rows = Rows(a.out / "rows.jsonl")
    for name, (space, population, truth, free, features) in {"nb201": cells(a.data), "macro": macro(a.data)}.items():
        print(f"\n{name}\n\n| predictor | {' | '.join(map(str, SIZES))} |\n|{'---|' * (len(SIZES) + 1)}")
        for what, values in free.items():
            finite = np.where(np.isfinite(values), values, values[np.isfinite(values)].min() - 1)
            print(f"| {what} (nothing trained) | {kendalltau(finite, truth).statistic:.3f} |  |  |  |")
        for what, make in predictors(space, features).items():
            ranks = a.targets == "ranks" and not what.endswith("curve")
            measure = partial(compared, partial(_on_ranks, make) if ranks else make, population, truth, a.draws)
            key = f"{name} {'ranks' if ranks else 'accuracies'} {what}"
            found = [rows.row(f"{key} {n}", partial(measure, n), quiet=True) for n in SIZES]
            print(f"| {what} | {' | '.join('{tau:.3f}'.format(**row) for row in found)} |", flush=True)


def predictors(space: SearchSpace, features: list[Callable[[Population], Any]]) -> dict[str, Callable[[], Any]]:
    """Fresh predictors over populations, by name."""
    both = partial(make_union, measures(*features))
    return {
        "NN-Degree curve": lambda: make_pipeline(measures(features[0]), DegreeAccuracy()),
        "NN-Degree, NN-Mass and MACs curve": lambda: make_pipeline(measures(*features), DegreeAccuracy()),
        "ridge": lambda: make_pipeline(one_hot(space.sizes), Ridge(1.0)),
        "boosted trees": lambda: make_pipeline(one_hot(space.sizes), BoostedTrees()),
        "boosted trees with NN-Degree features": lambda: make_pipeline(both(one_hot(space.sizes)), BoostedTrees()),
        "MLP ensemble (PNAS)": lambda: Ensemble(OptionMLP(space)),
        "LSTM ensemble (PNAS)": lambda: Ensemble(OptionLSTM(space)),
        "Gaussian process, options only": lambda: make_pipeline(one_hot(space.sizes), GaussianProcess()),
        "Gaussian process with NN-Degree features": lambda: make_pipeline(
            make_union(make_pipeline(measures(*features), MinMaxScaler()), one_hot(space.sizes)), GaussianProcess()
        ),
        "Gaussian process of the space": lambda: GaussianProcess(space),
    }


def _on_ranks(make: Callable[[], Any]) -> Any:
    return NormalScores(make())


def compared(make: Callable[[], Any], population: Population, truth: np.ndarray, draws: int, n: int) -> dict[str, float]:
    """Mean and standard deviation of tau over draws."""
    taus = []
    for draw in range(draws):
        taken = np.random.default_rng([0, draw]).choice(len(truth), n, replace=False)
        left = np.setdiff1d(np.arange(len(truth)), taken)
        predicted = make().fit(population[taken], truth[taken]).predict(population[left])
        taus.append(kendalltau(predicted, truth[left]).statistic)
    return {"tau": float(np.nanmean(taus)), "sd": float(np.nanstd(taus, ddof=1))}


def cells(data: Path) -> tuple[SearchSpace, Population, np.ndarray, dict[str, np.ndarray], list[Any]]:
    """NAS-Bench-201. Live edges alone are counted: a convolution links a channel to all of its source, a skip or a pool to one."""
    table = nasbench201(data / "nasbench201_accuracy.npz")
    arrays, zero = (
        read_arrays(data / "nasbench201_accuracy.npz", "flops_derived"),
        read_arrays(data / "nasbench201_zero_cost.npz", "naswot_cifar10"),
    )
    macs = arrays["flops_derived"].astype(np.float64)
    weights = 5 ** np.arange(5, -1, -1)
    order = np.argsort(table.architectures @ weights)

    def degree(population: Population) -> np.ndarray:
        live, width = live_edges(population), np.array([16.0, 32.0, 64.0])
        links = (live & np.isin(population, (2, 3))).sum(1)[:, None] * width + (live & np.isin(population, (1, 4))).sum(1)[:, None]
        return 1 + (links / 3).sum(1)

    def mass(population: Population) -> np.ndarray:
        return 1.0 + (live_edges(population) & (population == 1)).sum(1)

    def flops(population: Population) -> np.ndarray:
        return macs[order[np.searchsorted((table.architectures @ weights)[order], population @ weights)]]

    free = {
        "MACs": macs,
        "NN-Degree": degree(table.architectures),
        "naswot": zero["naswot_cifar10"].astype(np.float64),
        "log-synflow": zero["logsynflow_cifar10"].astype(np.float64),
    }
    return table.space, table.architectures, table.lookup("test200_cifar10")(table.architectures), free, [degree, mass, flops]


def live_edges(population: Population) -> np.ndarray:
    """Which edges of a NAS-Bench-201 cell lie on a path from its input to its output: shape (n, 6)."""
    on = population != 0
    one = on[:, 0]
    two = on[:, 1] | (one & on[:, 2])
    from_two, from_one = on[:, 5], on[:, 4] | (on[:, 2] & on[:, 5])
    reached = np.stack([np.ones_like(one), np.ones_like(one), one, np.ones_like(one), one, two], axis=1)
    leads = np.stack([from_one, from_two, from_two, np.ones_like(one), np.ones_like(one), np.ones_like(one)], axis=1)
    return on & reached & leads


def macro(data: Path) -> tuple[SearchSpace, Population, np.ndarray, dict[str, np.ndarray], list[Any]]:
    """NAS-Bench-Macro; an identity that changes the shape is a 1x1 convolution, and reaches a filter from every channel."""
    table = nasbench_macro(data / "nasbench_macro.npz")
    degrees, masses = np.zeros((8, 3)), np.zeros((8, 3))
    for i, (inputs, outputs) in enumerate(itertools.pairwise(MACRO_WIDTHS)):
        degrees[i, 0] = 0 if inputs == outputs else inputs
        for option, (expansion, kernel) in enumerate(((3, 3), (6, 5)), start=1):
            block = InvertedResidual(inputs, outputs, kernel, expansion)
            degrees[i, option], masses[i, option] = inverted_residual_degree(block, ()), inverted_residual_mass(block, ())
    macs = table.lookup("macs")

    def degree(population: Population) -> np.ndarray:
        return degrees[np.arange(8), population].sum(1)

    def mass(population: Population) -> np.ndarray:
        return 1 + masses[np.arange(8), population].sum(1)

    rows = table.architectures
    free = {
        "MACs": macs(rows),
        "NN-Degree": degree(rows),
        "NN-Mass": mass(rows),
        "blocks that are no identity": (rows > 0).sum(1).astype(float),
    }
    return table.space, rows, table.lookup("test")(rows), free, [degree, mass, macs]


if __name__ == "__main__":
    main()
