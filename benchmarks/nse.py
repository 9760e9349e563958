"""NSE: what evolving a subspace is worth, on a table and on images, and whether gates meet their targets.

  table BAND SEED       NAS-Bench-201, edges as layers, three of five operators an edge, two rounds of 100 cells scored by a noisy oracle
                        (published accuracy and half a point of noise) and priced by parameters, of which at most 60 % of the largest
                        cell's are allowed; BAND says from which share of that bound up cells are drawn (0: all, 0.8: the recipe's).
                        The mean published accuracy of all cells of the subspace that follows, and of those within the bound, beside
                        500 random subspaces of three operators an edge
  run KIND SEED         `evonas nse` on CIFAR-10 at 16 pixels: 5 layers of 8, 16 and 24 channels, 18 operators, at most 1.2 million
                        multiply-accumulates, 12 epochs of supernets in all, and one network trained for 10:
                        evolved   three rounds of 4 epochs, five operators a layer
                        big       one supernet of all operators, 12 epochs
                        random    one supernet of five random operators a layer, 12 epochs
                        single    as evolved, one operator a layer
                        latency   as evolved, with a latency of this host in place of multiply-accumulates
                        round1, round2    as evolved, ended after one and two rounds: what comes out, trained as the others

Rows are kept; run again to go on.

    OMP_NUM_THREADS=1 python benchmarks/nse.py --data cifar16.npz --table nasbench201_accuracy.npz
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from rows import Rows
from setn import truth_of

from evonas.explorers.pareto import pareto_front
from evonas.subspaces import first_subspaces
from evonas.tables import tabulate
from evonas.tabular import nasbench201 as read_table
from supernet import nasbench201
from supernet.training.sandwich import weights

SIZE, SCORED, NOISE, RANDOM, SHARE = 3, 100, 0.005, 500, 0.6
BOUND, LATENCY = "macs=1.2M", "latency=0.08ms"
COMMON = [
    *("--layout", "digits", "--widths", "8,16,24", "--depths", "1,2,2", "--batch-size", "128"),
    *("--evaluations", "150", "--finalists", "1", "--retrain-epochs", "10"),
]
KINDS = {
    "evolved": "--rounds 3 --epochs 4 --operators 5",
    "big": "--rounds 1 --epochs 12 --operators 18",
    "random": "--rounds 1 --epochs 12 --operators 5",
    "single": "--rounds 3 --epochs 4 --operators 5 --branches 1",
    "latency": "--rounds 3 --epochs 4 --operators 5",
    "round1": "--rounds 1 --epochs 4 --operators 5",
    "round2": "--rounds 2 --epochs 4 --operators 5",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="CIFAR-10 at 16 pixels, .npz")
    parser.add_argument("--table", type=Path, help="NAS-Bench-201, .npz")
    names = [f"table {band} {seed}" for band in (0.0, 0.8) for seed in range(5)]
    names += [f"run {kind} {seed}" for seed in range(3) for kind in ("evolved", "big", "random", "single")]
    names += [f"run {kind} 0" for kind in ("latency", "round1", "round2")]
    parser.add_argument("--only", nargs="+", default=names)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_nse"))
    a = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rows = Rows(a.out / "rows.jsonl")
    for name in a.only:
        kind, *words = name.split()
        measures = {"table": partial(on_table, a.table), "run": partial(run, a.data, a.out)}
        rows.row(name, partial(measures[kind], *words))


def on_table(path: Path, band: str, seed: str) -> dict[str, Any]:
    """Two rounds of subspaces of NAS-Bench-201."""
    table, rng = read_table(path), np.random.default_rng(int(seed))
    supernet = nasbench201((3, 16, 16), 10, cells=1)
    price = tabulate(supernet.space, supernet.parts(), weights)
    upper = SHARE * float(price(table.architectures).max())
    layers, operators = len(supernet.space), len(supernet.space.choices[0].options)
    now, front = first_subspaces(layers, operators, SIZE, rng), np.zeros((0, layers), dtype=np.int64)
    means, tried = [], 0

    def told(operators: Any) -> list[float]:
        cells = np.stack(np.meshgrid(*operators, indexing="ij"), axis=-1).reshape(-1, layers)
        truth = truth_of(table, cells)
        within = truth[price(cells) <= upper]
        return [round(float(truth.mean()), 4), round(float(within.mean()), 4) if len(within) else float("nan")]

    for _ in range(2):
        drawn = np.stack([rng.choice(each, 100 * SCORED) for each in now.current], axis=1)
        drawn = drawn[(price(drawn) <= upper) & (price(drawn) >= float(band) * upper)][:SCORED]
        cells = np.unique(np.concatenate([front, drawn]), axis=0)
        scores = truth_of(table, cells) + NOISE * rng.normal(size=len(cells))
        front = cells[pareto_front(price(cells), scores)]
        means.append(told(now.current))
        members = np.arange(operators) == front[:, :, None]
        now, tried = now.evolved(members), now.never_tried
    of_random = np.array([told([rng.choice(operators, SIZE, replace=False) for _ in range(layers)]) for _ in range(RANDOM)])
    return {
        "first and second subspace": means,
        "the subspace that follows": told(now.current),
        "what the front uses": told(now.kept),
        "operators of the front, an edge": round(float(np.mean([len(each) for each in now.kept])), 2),
        "random subspaces": np.nanmean(of_random, axis=0).round(4).tolist(),
        "never tried": tried,
    }


def run(data: str, out: Path, kind: str, seed: str) -> dict[str, Any]:
    """The command, and what it came to."""
    folder = out / f"{kind}{seed}"
    bound = LATENCY if kind == "latency" else BOUND
    words = [*COMMON, *KINDS[kind].split(), "--data", data, "--budget", bound, "--seed", seed, "--out", str(folder)]
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "evonas", "nse", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    result = json.loads((folder / "result.json").read_text())
    rounds = [json.loads(path.read_text()) for path in sorted(folder.glob("round*.json")) if "losses" not in path.name]
    name = bound.split("=")[0]
    aim = 0.95 * result["bounds"][name]["upper"]
    branches: dict[str, int] = {}
    for choice, option in result["architecture"].items():
        layer = choice.rsplit(".", 1)[0]
        branches[layer] = branches.get(layer, 0) + (option != "none")
    return {
        "test": result["accuracy"]["test"],
        "costs": result["costs"],
        "median drawn, of the target": [round(found["median"][name] / aim, 3) for found in rounds],
        "front": [len(found["front"]) for found in rounds],
        "never tried": [found["never_tried"] for found in rounds],
        "branches": list(branches.values()),
        "seconds": round(time.perf_counter() - start),
    }


if __name__ == "__main__":
    main()
