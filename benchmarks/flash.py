"""FLASH on networks that are really trained: which number of a network's shape foretells its accuracy?

Trains networks of a small skip space on their own (rows are kept, an interrupted benchmark goes on), fits accuracy models on the
first 25 and tests them on the next 15: NN-Degree in both counts, MACs, parameters, boosted trees, Gaussian process. Then two checks
of the metric: networks that differ in their skips alone, and pairs of equal NN-Degree with at least twice the parameters.

    python benchmarks/flash.py --data cifar16.npz --epochs 3 --threads 1
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rows import Rows

from evonas.space import Population
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
        rows.row(key, lambda row=row, seed=seed: trained(family, row, seed, data, a.epochs))


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
    from predictors.nn_degree import nn_degree

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
