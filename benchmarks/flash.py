"""FLASH on networks that are really trained: which number of a network's shape foretells its accuracy?

Trains networks of a small skip space on their own (rows are kept, an interrupted benchmark goes on), fits accuracy models on the
first 25 and tests them on the next 15, and on 60 other splits: NN-Degree in both counts, MACs, parameters, boosted trees, Gaussian
process. Then two checks of the metric: networks that differ in their skips alone, and a pair of equal NN-Degree whose parameters
differ the most. Models are fitted to the search images' accuracy and judged by the test images'.

    python benchmarks/flash.py --data cifar16.npz --epochs 3 --threads 1
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rows import Rows
from scipy.stats import spearmanr
from sklearn.base import clone
from sklearn.linear_model import Ridge

from evonas.space import Population
from predictors import BoostedTrees, DegreeAccuracy, GaussianProcess, nn_degree, nn_mass
from predictors.flash.nn_degree import COUNTS
from supernet import StandAlone, accuracy, load, train
from supernet.data import ImageData
from supernet.spaces.skip import SkipFamily, skip_cells

FITTED, TESTED = 25, 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits", help="images, as evonas flash takes them")
    parser.add_argument("--connection", default="concatenation", choices=["concatenation", "addition"])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_flash"))
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    data = load(a.data)
    family = small_family(data, a.connection)
    rows = Rows(a.out / f"{a.connection}.jsonl")
    networks = {
        **{f"random {i}": (row, 0) for i, row in enumerate(family.space.sample(FITTED + TESTED, np.random.default_rng(0)))},
        **{f"skips {i}": (row, 0) for i, row in enumerate(skips_alone(family))},
        **{f"pair {i} seed {seed}": (row, seed) for seed in range(3) for i, row in enumerate(equal_pairs(family))},
    }
    for key, (row, seed) in networks.items():
        rows.row(key, partial(trained, family, row, seed, data, a.epochs), quiet=True)
    found = {key: rows.row(key, dict, quiet=True) for key in networks}
    compare([row for key, row in found.items() if key.startswith("random")], family)
    skips([row for key, row in found.items() if key.startswith(("random", "skips"))], family)
    for i in range(2):
        scores = [found[f"pair {i} seed {seed}"]["test"] for seed in range(3)]
        row = np.array([found[f"pair {i} seed 0"]["architecture"]])
        degree, params = nn_degree(*family.cells(row), family.connection)[0], family.totals(row)["params"][0]
        spread = f"{np.mean(scores):.4f} (sd {np.std(scores, ddof=1):.4f})"
        print(f"pair {i}: NN-Degree {degree:.1f}, {params:,.0f} parameters, accuracy {spread}")


def measured_shapes(family: SkipFamily, population: Population) -> dict[str, np.ndarray]:
    """Numbers that a shape gives, by name."""
    cells, totals = family.cells(population), family.totals(population)
    counts = {f"NN-Degree, {count}": nn_degree(*cells, family.connection, count=count) for count in COUNTS}
    return {**counts, "NN-Mass": nn_mass(*cells), "MACs": totals["macs"], "parameters": totals["params"]}


def compare(rows: list[dict[str, Any]], family: SkipFamily) -> None:
    """Spearman correlations of fits to 25 networks on the other 15, and of the bare numbers on all 40."""
    population = family.space.canonical(np.array([row["architecture"] for row in rows]))
    search, test = (np.array([row[part] for row in rows]) for part in ("search", "test"))
    shapes = measured_shapes(family, population)
    print(f"{family.connection}: {len(rows)} networks, test accuracy {test.min():.3f} to {test.max():.3f}\n")
    print("| fitted to 25 | these 15 | 60 other splits | bare number, all 40 | NN-Degree (links) ahead by, 95 % |\n|---|---|---|---|---|")
    models: dict[str, tuple[Any, np.ndarray]] = {
        f"curve over {name}": (DegreeAccuracy(), values[:, None]) for name, values in shapes.items()
    }
    both = np.column_stack([shapes["NN-Degree, links"], shapes["MACs"]])
    models |= {"curve over NN-Degree and MACs": (DegreeAccuracy(), both), "boosted trees": (BoostedTrees(), population.astype(float))}
    models |= {"Gaussian process": (GaussianProcess(family.space), population), "ridge": (Ridge(1.0), population / family.space.sizes)}
    splits = [np.arange(len(rows)), *(np.random.default_rng(i).permutation(len(rows)) for i in range(60))]
    for name, (model, X) in models.items():
        scores = [correlation(clone(model).fit(X[p[:FITTED]], search[p[:FITTED]]).predict(X[p[FITTED:]]), test[p[FITTED:]]) for p in splits]
        bare = shapes.get(name.removeprefix("curve over "))
        end = "| | |" if bare is None else f"| {correlation(bare, test):.3f} | {ahead(shapes['NN-Degree, links'], bare, test)} |"
        print(f"| {name} | {scores[0]:.3f} | {np.nanmean(scores[1:]):.3f} {end}")


def skips(rows: list[dict[str, Any]], family: SkipFamily) -> None:
    """How far the fits to 25 random networks are off on networks that differ in their skips alone, and on the other 15."""
    random, series = ([row for row in rows if row["key"].startswith(kind)] for kind in ("random", "skips"))
    shapes = measured_shapes(family, np.array([row["architecture"] for row in [*random, *series]]))
    search, test = (np.array([row[part] for row in [*random, *series]]) for part in ("search", "test"))
    for name, values in shapes.items():
        fitted = DegreeAccuracy().fit(values[:FITTED, None], search[:FITTED]).predict(values[:, None])
        off = [np.sqrt(((fitted - test)[part] ** 2).mean()) for part in (slice(FITTED, len(random)), slice(len(random), None))]
        print(f"{name}: root mean square error {off[0]:.4f} on the other {TESTED}, {off[1]:.4f} on {len(series)} with other skips alone")


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(spearmanr(a, b).statistic) if np.ptp(a) > 0 else float("nan")


def ahead(ours: np.ndarray, other: np.ndarray, truth: np.ndarray) -> str:
    """The difference of the two correlations, over 4,000 bootstrap samples of the networks."""
    rng, gains = np.random.default_rng(0), []
    for _ in range(4000):
        drawn = rng.integers(len(truth), size=len(truth))
        gains.append(correlation(ours[drawn], truth[drawn]) - correlation(other[drawn], truth[drawn]))
    low, high = np.quantile(gains, [0.025, 0.975])
    return f"{low:+.3f} to {high:+.3f}"


def small_family(data: ImageData, connection: str) -> SkipFamily:
    """Three cells of base widths 8, 16, 32: 13.5 million networks that a CPU can train."""
    return skip_cells(data.image_shape, len(data.classes), connection=connection, layout="small")


def trained(family: SkipFamily, row: np.ndarray, seed: int, data: ImageData, epochs: int) -> dict[str, Any]:
    """Accuracy on the search and the test images of one network, trained from scratch."""
    network = family.network(row, seed=seed)
    train(network, StandAlone(), data.train, epochs=epochs, batch_size=64, lr=0.1, weight_decay=5e-4, seed=seed)
    device = torch.device("cpu")
    scores = {"search": accuracy(network, data.search, device), "test": accuracy(network, data.test, device)}
    return {"architecture": [int(option) for option in row], "seed": seed, **scores}


def skips_alone(family: SkipFamily) -> Population:
    """Width 1, nine layers a cell, and from no skips to all there are."""
    options = len(family.space.choices[2].options)
    rows = [(0, *(4, skips) * 3) for skips in range(0, options, 2)]
    return family.space.canonical(np.array(rows, dtype=np.int64))


def equal_pairs(family: SkipFamily) -> Population:
    """Two networks whose NN-Degree agrees within 1 % and whose parameters differ the most, out of 20,000 random ones."""
    population = family.space.sample(20_000, np.random.default_rng(1))
    degrees, params = nn_degree(*family.cells(population), family.connection), family.totals(population)["params"]
    order = np.argsort(degrees)
    best, pair = 0.0, (0, 0)
    for start in range(0, len(order) - 50, 25):
        window = order[start : start + 50]
        low, high = window[params[window].argmin()], window[params[window].argmax()]
        if abs(degrees[low] / degrees[high] - 1) < 0.01 and params[high] / params[low] > best:
            best, pair = params[high] / params[low], (low, high)
    return population[list(pair)]


if __name__ == "__main__":
    main()
