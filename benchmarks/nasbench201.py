"""A supernet of NAS-Bench-201 against the published accuracies of its cells: tau by accuracy and by likelihood, beside cheap scores.

CIFAR-10 at 16 pixels. Single uniform paths (or five fair ones a step), 300 random cells that have a path, statistics of their own (512
images), 1,000 search images.
Rows and checkpoints are kept; run again to go on. About ten minutes a seed on one core, half of it training.

    OMP_NUM_THREADS=1 python benchmarks/nasbench201.py --data cifar16.npz --table nasbench201_accuracy.npz
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rows import Rows

from evonas.ranking import judge
from evonas.ranks import fused
from evonas.tabular import Table
from evonas.tabular import nasbench201 as read_table
from predictors import macs, naswot, params
from supernet import ImageData, InheritedFitness, load, nasbench201, train
from supernet.training.registry import WAYS

CELLS, CALIBRATION, SEARCHED, NASWOT_IMAGES = 300, 512, 1000, 64
SETTINGS: dict[str, Any] = {"batch_size": 64, "weight_decay": 5e-4}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="CIFAR-10 at 16 pixels, .npz")
    parser.add_argument("--table", type=Path, required=True, help="NAS-Bench-201, .npz")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--way", default="uniform", choices=("uniform", "fair"))
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_nasbench201"))
    a = parser.parse_args()
    torch.set_num_threads(1)
    images, table = load(a.data), read_table(a.table)
    cells = sample(table)
    truth = table.columns["test200_cifar10"][table.rows(cells)][:, None]
    rows = Rows(a.out / "rows.jsonl")
    space, parts = nasbench201(images.image_shape).space, nasbench201(images.image_shape).parts()
    scores = {
        "macs": macs(space, parts)(cells),
        "params": params(space, parts)(cells),
        "naswot": np.array(rows.row("naswot", partial(zero_cost, images, cells), quiet=True)["scores"]),
    }
    for seed in a.seeds:
        setting = {"seed": seed, "epochs": a.epochs, "lr": a.lr}
        row = rows.row(f"{a.way} {setting}", partial(trained, images, cells, a.way, setting, a.out), quiet=True)
        print(f"seed {seed}: {row['seconds']:.0f} s of training, loss {row['loss']:.3f}", flush=True)
        likelihood = np.array(row["likelihood"])
        scores |= {f"accuracy, seed {seed}": np.array(row["accuracy"]), f"likelihood, seed {seed}": likelihood}
        scores[f"likelihood with MACs, seed {seed}"] = fused(likelihood, scores["macs"])
    print(f"\n| score | tau ({CELLS} cells) | 95 % interval | spearman | tau in the true top tenth |\n|---|---|---|---|---|")
    for name, values in scores.items():
        found = judge(values, truth)
        low, high = found["interval"]
        print(f"| {name} | {found['tau']:.3f} | {low:.3f} to {high:.3f} | {found['spearman']:.3f} | {found['tau_in_true_top']:.3f} |")


def sample(table: Table) -> np.ndarray:
    """Random cells whose output is reached from the input: the others are one constant, whatever they cost."""
    population = table.architectures[np.random.default_rng(5).permutation(len(table))]
    passes = population != 0
    reached = passes[:, 3] | (passes[:, 0] & passes[:, 4]) | (passes[:, 1] & passes[:, 5]) | (passes[:, 0] & passes[:, 2] & passes[:, 5])
    return population[reached][:CELLS]


def trained(images: ImageData, cells: np.ndarray, way: str, setting: dict[str, Any], out: Path) -> dict[str, Any]:
    """A supernet trained and its scores of the cells."""
    supernet, start = nasbench201(images.image_shape, seed=setting["seed"]), time.perf_counter()
    checkpoint = out / f"{way}-{'-'.join(map(str, setting.values()))}.pt"
    losses = train(supernet, WAYS[way].make(supernet), images.train, checkpoint=checkpoint, identity=setting, **setting, **SETTINGS)
    seconds = time.perf_counter() - start
    fitness = InheritedFitness(supernet, images.search.head(SEARCHED), images.train.head(CALIBRATION))
    accuracy, likelihood = fitness.both(cells)
    return {"seconds": seconds, "loss": losses[-1]["loss"], "accuracy": accuracy.tolist(), "likelihood": likelihood.tolist()}


def zero_cost(images: ImageData, cells: np.ndarray) -> dict[str, Any]:
    """naswot of fresh networks on one batch."""
    batch = next(images.train.batches(NASWOT_IMAGES, torch.device("cpu")))[0]
    supernet = nasbench201(images.image_shape)
    return {"scores": [naswot(supernet.network(row, seed=0), batch) for row in cells]}


if __name__ == "__main__":
    main()
