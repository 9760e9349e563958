"""MANAS on NAS-Bench-201: what agents choose, against SETN's evaluator, one-shot random search and a random cell, by published accuracies.

The setting of benchmarks/setn.py: CIFAR-10 at 16 pixels, one cell a stage, a fifth of the training images held out, 48 epochs each.

  least-squares, exponential   the two kinds of agents
  warm-up                      least-squares, with a quarter of the epochs uniform
  template                     uniform paths, an evaluator beside them in the last quarter: SETN, and without it one-shot random search

Each scores 100 networks that it draws, with inherited weights, on 1,000 search images. Rows and checkpoints are kept; run again to go on.
Some three minutes a row on one core.

    OMP_NUM_THREADS=1 python benchmarks/manas.py --data cifar16.npz --table nasbench201_accuracy.npz
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from rows import Rows
from setn import CALIBRATION, HELD_OUT, SEARCHED, SETTINGS, WARMUP, WIDTHS, expected, truth_of

from evonas import DistributionExplorer, open_study
from evonas.tabular import Table
from evonas.tabular import nasbench201 as read_table
from supernet import AgentPaths, ImageData, InheritedFitness, SelfEvaluated, load, nasbench201, train
from supernet.training.way import Record

KINDS = ("least-squares", "exponential", "template", "warm-up")
CANDIDATES, SAMPLED = 100, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="CIFAR-10 at 16 pixels, .npz")
    parser.add_argument("--table", type=Path, required=True, help="NAS-Bench-201, .npz")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=48)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_manas"))
    a = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    images, table = load(a.data), read_table(a.table)
    rows = Rows(a.out / "rows.jsonl")
    for kind in a.only:
        for seed in a.seeds[:1] if kind == "warm-up" else a.seeds:
            found = rows.row(f"{kind} {seed} {a.epochs}", partial(measured, kind, images, table, seed, a), quiet=True)
            print(f"\n{kind}, seed {seed}")
            for name, value in found.items():
                if isinstance(value, float | str) and name != "key":
                    print(f"  {name}: {value if isinstance(value, str) else round(value, 4)}", flush=True)


def measured(kind: str, images: ImageData, table: Table, seed: int, a: argparse.Namespace) -> dict[str, Any]:
    """A supernet trained one way, and what is chosen with it; true accuracies are CIFAR-10's after 200 epochs, in [0, 1]."""
    supernet = nasbench201(images.image_shape, cells=1, widths=WIDTHS, seed=seed)
    space = supernet.space
    way: Any = (
        SelfEvaluated(space, held_out=HELD_OUT, evaluator_lr=0.01, warmup=WARMUP, seed=seed)
        if kind == "template"
        else AgentPaths(
            space,
            agents="exponential" if kind == "exponential" else "least-squares",
            held_out=HELD_OUT,
            warmup=0.25 if kind == "warm-up" else 0.0,
        )
    )
    records: list[Record] = []
    start = time.perf_counter()
    train(
        supernet,
        way,
        images.train,
        epochs=a.epochs,
        seed=seed,
        checkpoint=a.out / f"{kind}-{seed}-{a.epochs}.pt",
        identity=[kind, a.epochs],
        on_record=lambda epoch, record: records.append(record),
        **SETTINGS,
    )
    found: dict[str, Any] = {"seconds": time.perf_counter() - start}
    learned = way.evaluator.distribution(space) if kind == "template" else way.agents.distribution
    found |= expected(table, space, learned)
    fitness = InheritedFitness(supernet, images.search.head(SEARCHED), images.train.head(CALIBRATION))
    for name, distribution in {"drawn": learned, "uniform": None}.items():
        explorer = DistributionExplorer(space, distribution=distribution, seed=seed, generation_size=CANDIDATES)
        rows = explorer.rows(open_study(None, name), 0, CANDIDATES)
        truth, (accuracy, likelihood) = truth_of(table, rows), fitness.both(rows)
        found |= {
            f"{name}: true accuracy of {SAMPLED}": float(truth[:SAMPLED].mean()),
            f"{name}: of the best of {CANDIDATES} by inherited accuracy": float(truth[accuracy.argmax()]),
            f"{name}: of the best of {CANDIDATES} by likelihood": float(truth[likelihood.argmax()]),
        }
    likeliest = DistributionExplorer(space, distribution=learned, mode="most-probable", generation_size=1)
    recommended = likeliest.rows(open_study(None, "recommended"), 0, 1)
    random = found["expected true accuracy, uniform"]
    found["recommended"] = "|".join(str(option) for option in recommended[0])
    found["recommended: true accuracy"] = float(truth_of(table, recommended)[0])
    for name in ("recommended: true accuracy", "expected true accuracy, drawn"):
        found[f"relative improvement over random sampling, percent, {name}"] = 100 * (found[name] - random) / random
    if kind != "template" and records:  # none where a row was killed after its training
        played = [record.attributes["held_out_loss"] for record in records]
        for name in ("recommended", "drawn", "uniform"):
            found[f"held-out loss of the last quarter, {name}"] = float(np.mean([each[name] for each in played[-len(played) // 4 :]]))
        found["epochs in which draws lose less than uniform paths"] = float(np.mean([each["drawn"] < each["uniform"] for each in played]))
        found["played"] = played
    found["distribution"] = [p.tolist() for p in learned]
    return found


if __name__ == "__main__":
    main()
